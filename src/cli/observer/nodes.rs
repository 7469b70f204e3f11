//! Tracks the live servers, by their messages and by periodic initial heartbeats.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Inventory, Shared, lock};
use crate::cli::exit::Failure;
use crate::cli::node_sessions::NodeSessions;
use crate::cluster::{Cluster, NodeEvent, NodeMonitor, NodeName};
use crate::postgres::Backend;
use crate::{Namespace, Result};

/// The interval between two initial heartbeats. Each server answers with a heartbeat, which is a commit.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// The interval between two updates of the live servers.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The delay of an update after an answer.
const LOOK_SOON: Duration = Duration::from_millis(50);

/// The longest round-trip time. A later heartbeat is not an answer: it comes from a server that started in the
/// meantime.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(4);

/// The deadline for publishing a request while Postgres does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server in one namespace.
#[derive(Debug, Clone)]
struct Node {
    name: NodeName,
    since: Instant,
    last_heard: Instant,
}

/// The live servers.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    live: Vec<Node>,
    round_trips: HashMap<NodeName, Duration>,
    /// The sessions that published the last answers of the servers.
    sessions: NodeSessions,
}

/// A server in one namespace, with all that is known of it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct NodeView {
    pub(in crate::cli) name: NodeName,
    pub(in crate::cli) round_trip: Option<Duration>,
    pub(in crate::cli) last_heard: Instant,
    /// The number of sockets that the server last listed, or `None` if it was not asked or did not answer.
    pub(in crate::cli) sockets: Option<usize>,
    /// The address and the `application_name` of its connection to Postgres, or `None` if they are not known.
    pub(in crate::cli) client: Option<Backend>,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn view(&self, inventory: Option<&Inventory>) -> Vec<NodeView> {
        let view = |node: &Node| NodeView {
            name: node.name.clone(),
            round_trip: self.round_trips.get(&node.name).copied(),
            last_heard: node.last_heard,
            sockets: inventory.and_then(|inventory| inventory.sockets_of(&node.name, node.since)),
            client: self.sessions.client_of(&node.name).cloned(),
        };
        self.live.iter().map(view).collect()
    }

    /// Updates the live servers.
    fn look(&mut self, heard: Vec<(NodeName, Instant)>) {
        let since: HashMap<_, _> = self.live.drain(..).map(|node| (node.name, node.since)).collect();
        let known = |(name, last_heard): (NodeName, Instant)| {
            let since = since.get(&name).copied().unwrap_or(last_heard);
            Node { name, since, last_heard }
        };
        self.live = heard.into_iter().map(known).collect();
        self.live.sort_by(|a, b| a.name.cmp(&b.name));
        let live: HashSet<_> = self.live.iter().map(|node| &node.name).collect();
        self.round_trips.retain(|name, _| live.contains(name));
        self.sessions.retain(|name| live.contains(name));
    }
}

/// Sends initial heartbeats, and handles the answers.
pub(super) struct NodePoller {
    monitor: NodeMonitor,
}

impl NodePoller {
    pub(super) async fn start(cluster: &Cluster, namespaces: &[Namespace]) -> Result<Self> {
        Ok(Self { monitor: NodeMonitor::listen(cluster, namespaces).await? })
    }

    pub(super) async fn run(self, shared: Arc<Shared>) -> Result<(), Failure> {
        let Self { mut monitor } = self;
        let (mut asking, mut looking) = (interval(ASK_EVERY), interval(LOOK_EVERY));
        asking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut namespaces = shared.namespaces.subscribe();
        let mut is_due_soon = false;
        loop {
            tokio::select! {
                event = monitor.next() => match event {
                    Some(NodeEvent::Answered { node: name, round_trip, backend }) => {
                        if let Some(session) = backend {
                            lock(&shared.nodes).sessions.published(name.clone(), session);
                        }
                        if round_trip < LONGEST_ROUND_TRIP {
                            lock(&shared.nodes).round_trips.insert(name, round_trip);
                        }
                        // Shows the first answers soon, and many answers together.
                        if !is_due_soon {
                            looking.reset_after(LOOK_SOON);
                            is_due_soon = true;
                        }
                    }
                    Some(NodeEvent::Restored(_)) => asking.reset_immediately(),
                    Some(_) => {}
                    None => return Ok(()),
                },
                Ok(()) = namespaces.changed() => {
                    let all = namespaces.borrow_and_update().clone();
                    match monitor.add(&all).await {
                        Ok(new) if new.is_empty() => {}
                        Ok(_) => asking.reset_immediately(),
                        Err(error) => tracing::debug!(%error, "cannot subscribe to more namespaces yet; retrying"),
                    }
                }
                _ = asking.tick() => {
                    if shared.link().lost.is_none() {
                        ask(&mut monitor, &shared).await;
                    }
                }
                _ = looking.tick() => {
                    is_due_soon = false;
                    // Without Postgres nothing is known of the servers, so those that were live stay.
                    if shared.link().lost.is_none() {
                        look(&monitor, &shared).await;
                        know_sessions(&monitor, &shared).await;
                    }
                    shared.measure();
                }
            }
        }
    }
}

/// Updates the live servers. If the process is too busy to answer, the next tick asks again.
async fn look(monitor: &NodeMonitor, shared: &Shared) {
    match monitor.live_nodes().await {
        Ok(heard) => lock(&shared.nodes).look(heard),
        Err(error) => tracing::debug!(%error, "which servers are live is not known"),
    }
}

/// Looks up the clients of the sessions that have published answers.
async fn know_sessions(monitor: &NodeMonitor, shared: &Shared) {
    let unknown = lock(&shared.nodes).sessions.unknown();
    if unknown.is_empty() || shared.link().lost.is_some() {
        return;
    }
    match monitor.backends(&unknown).await {
        Ok(clients) => lock(&shared.nodes).sessions.know(&clients),
        Err(error) => tracing::debug!(%error, "whose sessions have answered is not known yet"),
    }
}

/// Requests a heartbeat from all servers.
async fn ask(monitor: &mut NodeMonitor, shared: &Shared) {
    // Without an answer in time, Postgres is unreachable. The subscription reports that.
    if let Ok(outcome) = timeout(PATIENCE, monitor.request(false)).await {
        shared.asked(outcome);
    }
}
