//! The cluster of a run: Postgres, proxies, two pgio nodes, two Node servers, their clients, and programs that speak
//! to Postgres directly. Everything ends when it is dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pgio::Emitter;
use pgio::postgres::private::PrivateServer;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::clock::Moment;
use super::lag::Lag;
use super::ledger::{Ledger, Receiver, Sender};
use super::node_server::{self, NodeServer};
use super::pgio_node::{PgioNode, Resources};
use super::postgres::{self, Admin, BYSTANDER, PASSWORD, VICTIM};
use super::program;
use super::proxy::{Mode, Proxy};
use super::requests::Requests;
use super::routes::{LOCAL, Member, Reach};
use super::senders;
use super::support::node::{AdapterVersion, Client, ClientOptions, NodePeer};
use super::witness;

/// How old attachments are when the members delete them: older than any fault lasts.
pub const CLEANUP: &str = "120s";
pub const CLEANUP_MS: u64 = 120_000;

/// How long the cluster may take until every stream flows.
const WARM_UP: Duration = Duration::from_secs(30);

/// Events with an attachment, for each of their senders in a second.
const FILES_RATE: u32 = 5;

/// How long a connection attempt to one of several hosts may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How to start a world.
#[derive(Clone, Copy, Debug)]
pub struct WorldOptions {
    /// Inline events of each sender in a second.
    pub rate: u32,
    /// Everyone knows two hosts, the second of which is to be a standby.
    pub with_standby: bool,
}

/// The proxies of a member: before the primary, and before the standby.
pub struct Proxies {
    pub primary: Proxy,
    standby: Option<Proxy>,
}

impl Proxies {
    async fn start(primary: u16, standby: Option<u16>) -> Self {
        let start = async |port| Proxy::start(port).await.expect("a proxy can be started");
        let standby = match standby {
            Some(port) => Some(start(port).await),
            None => None,
        };
        Self { primary: start(primary).await, standby }
    }

    fn url(&self, role: &str, application: &str) -> String {
        let port = self.primary.port();
        match &self.standby {
            None => {
                format!("postgres://{role}:{PASSWORD}@127.0.0.1:{port}/pgio?application_name={application}")
            }
            Some(standby) => {
                format!("{}&application_name={application}", several_hosts(role, port, standby.port()))
            }
        }
    }
}

fn several_hosts(role: &str, first: u16, second: u16) -> String {
    let seconds = CONNECT_TIMEOUT.as_secs();
    format!(
        "postgres://{role}:{PASSWORD}@127.0.0.1:{first},127.0.0.1:{second}/pgio\
         ?target_session_attrs=read-write&connect_timeout={seconds}"
    )
}

pub struct World {
    pub ledger: Arc<Ledger>,
    pub a: PgioNode,
    pub b: PgioNode,
    pub node05: NodeServer,
    _node03: NodeServer,
    _clients: NodePeer,
    pub requests: Requests,
    pub lag: Lag,
    _tasks: Vec<AbortOnDropHandle<()>>,
    pub proxies_a: Proxies,
    _proxies_b: Proxies,
    pub proxy_node05: Proxy,
    pub proxy_node03: Proxy,
    pub primary: PrivateServer,
    pub standby_port: u16,
    /// When every stream flowed on every route.
    pub flows_since: Moment,
    /// The resources and sessions of the nodes once all streams flowed.
    pub at_first: BTreeMap<&'static str, Level>,
}

/// The resources of a node, at Postgres as well.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub resources: Resources,
    pub sessions: i64,
}

/// A node has so many sessions: to listen, to publish, and to look up attachments. The last one may open late.
const SESSIONS: i64 = 3;

impl Level {
    /// Whether this is about the first level; an allocator keeps some memory.
    pub fn is_about(&self, first: &Level) -> bool {
        self.resources.memory <= first.resources.memory * 3 / 2 + (16 << 10)
            && self.resources.descriptors <= first.resources.descriptors + 4
            && self.sessions <= first.sessions.max(SESSIONS)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resources { memory, descriptors } = self.resources;
        write!(f, "{} MiB, {descriptors} file descriptors, {} sessions", memory >> 10, self.sessions)
    }
}

impl World {
    /// Starts everything; returns when every stream flows on every route.
    pub async fn start(options: WorldOptions) -> Self {
        let WorldOptions { rate, with_standby } = options;
        let ledger = Arc::<Ledger>::default();
        let primary = postgres::primary().await;
        let (port, standby_port) = (primary.port(), program::free_port());
        let standby = with_standby.then_some(standby_port);
        let (proxies_a, proxies_b) =
            (Proxies::start(port, standby).await, Proxies::start(port, standby).await);
        let start_proxy = async || Proxy::start(port).await.expect("a proxy can be started");
        let (proxy_node05, proxy_node03) = (start_proxy().await, start_proxy().await);
        let node_url = |role: &str, proxy: &Proxy, name: &str| {
            format!("postgres://{role}:{PASSWORD}@127.0.0.1:{}/pgio?application_name={name}", proxy.port())
        };

        let streams05 = vec![(Sender::Node05, "/", rate), (Sender::Node05Files, "/files", FILES_RATE)];
        let streams03 = vec![(Sender::Node03, "/", rate)];
        let url05 = node_url(VICTIM, &proxy_node05, "soak-node05");
        let url03 = node_url(BYSTANDER, &proxy_node03, "soak-node03");
        let (a, b, node05, node03, clients) = tokio::join!(
            PgioNode::start("A", proxies_a.url(VICTIM, "soak-a")),
            PgioNode::start("B", proxies_b.url(BYSTANDER, "soak-b")),
            NodeServer::start(AdapterVersion::V05, url05, streams05, ledger.clone()),
            NodeServer::start(AdapterVersion::V03, url03, streams03, ledger.clone()),
            NodePeer::start(),
        );

        let direct = match with_standby {
            true => several_hosts(BYSTANDER, port, standby_port),
            false => format!("postgres://{BYSTANDER}:{PASSWORD}@127.0.0.1:{port}/pgio"),
        };
        let mut tasks = vec![senders::tail(&direct, ledger.clone())];
        for port in [Some(port), standby].into_iter().flatten() {
            let url = format!("postgres://{BYSTANDER}:{PASSWORD}@127.0.0.1:{port}/pgio");
            tasks.push(witness::listen(url, ledger.clone()));
        }
        connect_clients(&clients, [&a.url(), &b.url(), &node05.url(), &node03.url()], rate, &ledger).await;
        tasks.push(node_server::drain(clients.clone(), ledger.clone()));
        let emitter = Emitter::connect(&direct).await.expect("the emitter connects");
        tasks.push(senders::emitter(emitter.clone(), Sender::Emitter, rate, ledger.clone()));
        tasks.push(senders::emitter(emitter, Sender::EmitterFiles, FILES_RATE, ledger.clone()));
        tasks.push(senders::cli(direct, ledger.clone()));
        let through_a = proxies_a.url(VICTIM, "soak-requests");
        let asking = Emitter::connect(&through_a).await.expect("the emitter connects");
        let requests = Requests::start(&asking, &through_a);

        let mut world = Self {
            ledger,
            a,
            b,
            node05,
            _node03: node03,
            _clients: clients,
            requests,
            lag: Lag::measure(),
            _tasks: tasks,
            proxies_a,
            _proxies_b: proxies_b,
            proxy_node05,
            proxy_node03,
            primary,
            standby_port,
            flows_since: Moment(0),
            at_first: BTreeMap::new(),
        };
        world.warm_up().await;
        world
    }

    async fn warm_up(&mut self) {
        let deadline = Instant::now() + WARM_UP;
        let began = Moment(0);
        loop {
            let still = self.standing_since(began);
            if still.is_empty() && self.a.ready_since().is_some() && self.b.ready_since().is_some() {
                break;
            }
            assert!(Instant::now() < deadline, "these do not flow at the start: {}", still.join(", "));
            sleep(Duration::from_millis(50)).await;
        }
        self.lag.take();
        self.remember_level().await;
        self.flows_since = Moment::now();
    }

    /// Takes the current resources of the nodes as the level to return to.
    pub async fn remember_level(&mut self) {
        // Only nodes that run have a level.
        let admin = self.admin().await;
        for node in [&self.a, &self.b] {
            if let Some(resources) = node.resources() {
                let sessions = sessions(&admin, application(node.name)).await;
                self.at_first.insert(node.name, Level { resources, sessions });
            }
        }
    }

    /// The routes on which no event has come that was sent since that moment.
    pub fn standing_since(&self, moment: Moment) -> Vec<String> {
        let members = [Member::A, Member::Node05, Member::Bystanders];
        let pairs = members.iter().flat_map(|member| {
            member.inline(Reach::Victims).all().chain(member.files().all()).collect::<Vec<_>>()
        });
        let standing = pairs.chain([LOCAL]).filter(|pair| self.ledger.flows_since(*pair, moment).is_none());
        standing.map(|(sender, receiver)| format!("{} → {}", sender.name(), receiver.name())).collect()
    }

    /// A session as superuser at the primary.
    pub async fn admin(&self) -> Admin {
        Admin::connect(&self.primary.url()).await.expect("the primary takes connections")
    }

    /// Does the same to the connections of both victims.
    pub fn set_victims(&self, mode: Mode) {
        self.proxies_a.primary.set(mode);
        self.proxy_node05.set(mode);
    }

    /// Resets the connections of both victims.
    pub fn reset_victims(&self) {
        self.proxies_a.primary.reset();
        self.proxy_node05.reset();
    }
}

/// The name under which a node's sessions are known to Postgres.
pub fn application(node: &str) -> &'static str {
    match node {
        "A" => "soak-a",
        _ => "soak-b",
    }
}

/// How many sessions an application has on a server.
pub async fn sessions(admin: &Admin, application: &str) -> i64 {
    let query = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}'");
    admin.count(&query).await
}

/// Connects the clients, and starts the streams of those that send.
async fn connect_clients(peer: &NodePeer, urls: [&str; 4], rate: u32, ledger: &Ledger) {
    let [a, b, node05, node03] = urls;
    for (url, receiver, sender) in [
        (a, Receiver::A, Some(Sender::A)),
        (a, Receiver::LocalA, None),
        (b, Receiver::B, Some(Sender::B)),
        (node05, Receiver::Node05, None),
        (node03, Receiver::Node03, None),
    ] {
        let client = connect(peer, url, "/", receiver).await;
        client.answer("question", true.into()).await;
        if let Some(sender) = sender {
            client.stream(&node_server::stream(sender, rate, ledger)).await;
        }
        if receiver != Receiver::LocalA {
            let files = connect(peer, url, "/files", receiver).await;
            if receiver == Receiver::A {
                files.stream(&node_server::stream(Sender::AFiles, FILES_RATE, ledger)).await;
            }
        }
    }
}

async fn connect(peer: &NodePeer, url: &str, nsp: &str, receiver: Receiver) -> Client {
    let options = ClientOptions::new(url).namespace(nsp);
    let options = options.option("reconnection", true.into());
    let options = options.option("reconnectionDelay", 50.into()).option("reconnectionDelayMax", 200.into());
    let client = peer.client(options).await;
    // It would keep every event otherwise.
    client.count().await;
    client.ledger(receiver.name()).await;
    client
}
