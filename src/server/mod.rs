//! The server that `pgio serve` runs: the adapter with HTTP, authentication, client rules, health and metrics around it.

mod accept;
mod ack;
mod addresses;
mod answers;
mod auth;
mod client;
mod client_buffers;
mod client_usage;
mod compact_head;
mod descriptors;
mod disconnect;
mod doors;
mod expiry;
mod first_bytes;
mod front;
#[doc(hidden)]
pub mod fuzzing;
mod incoming_event;
mod inspection;
mod lane;
mod loopback;
mod metrics;
mod namespace_gc;
mod options;
mod origins;
mod packet_limit;
mod patterns;
mod posted_event;
mod quotas;
mod rate;
mod readers;
mod readiness;
mod relay;
mod reload;
mod rules;
mod sessions;
mod shared_io;
mod throttle;
mod tls;
mod undecided;
mod websocket;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use socketioxide::adapter::Emitter;
use socketioxide::extract::SocketRef;
use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder, TransportType};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::{Instant, interval, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tower_service::Service;

pub use addresses::AddressRange;
pub use answers::Answers;
pub use auth::{Authentication, Jwt, JwtKey, Tokens};
pub use doors::Door;
pub use metrics::Metrics;
pub use options::{CorsOrigins, Hosted, Parser, ServerOptions, TlsFiles, Transports};
pub use origins::OriginPattern;
pub use rules::{ClientRules, Relay, RoomPattern};

use crate::adapter::{PostgresAdapter, PostgresAdapterCtr, Refused};
use crate::cluster::Cluster;
use crate::error::without_os_code;
use crate::{Error, Result};
use accept::Acceptor;
use addresses::TrustedProxies;
use auth::refusal_pace::RefusalPace;
use client::AdmissionControl;
use client_buffers::ClientBuffers;
use descriptors::Descriptors;
use disconnect::{Disconnector, Reason, SessionCloser, UpgradedConnections};
use expiry::Expiries;
use first_bytes::INSPECTION_PATHS;
use front::Front;
use inspection::Inspection;
use lane::Lane;
use loopback::LoopbackHealth;
use options::{MIN_CLIENT_BUFFER, MIN_EVENT_BYTES};
use origins::OriginRule;
use patterns::HostedPatterns;
use quotas::{Limits, Quotas};
use rate::{Rate, RateLimits};
use readers::Readers;
use relay::RelayQueue;
use reload::{Reloader, Revocation};
use shared_io::{IoOwner, SharedIo};
use throttle::Throttle;
use tls::TlsAcceptor;
use undecided::TooMany;
use wire::Wires;

type ClusterAdapter = PostgresAdapter<Emitter>;
type ClusterIo = SocketIo<ClusterAdapter>;
type ClusterSocket = SocketRef<ClusterAdapter>;

/// The read buffer of a websocket. It is small because clients send short packets and most clients are idle.
const READ_BUFFER: usize = 1 << 9;

/// How often the metrics recorder drops samples that were not scraped.
const UPKEEP: Duration = Duration::from_secs(5);

/// The longest name of a namespace that a client is answered about. A namespace that can be used is far shorter.
const MAX_NAMESPACE_BYTES: usize = 256;

/// A running server. Dropping it ends it at once; [`shut_down`](Self::shut_down) tells the clients and the other servers first.
pub struct Server {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    is_secure: bool,
    path: String,
    grace: Duration,
    io: IoOwner,
    sessions: SessionCloser,
    /// What is dropped outside of it needs it to end its sessions.
    runtime: Handle,
    adapter: PostgresAdapterCtr,
    closing: CancellationToken,
    /// Closes all connections when it is dropped.
    _abort_all: DropGuard,
    /// The open connections.
    open: TaskTracker,
    accepting: AbortOnDropHandle<()>,
    admin: Option<AbortOnDropHandle<()>>,
    relaying: AbortOnDropHandle<()>,
    reloader: Arc<Reloader>,
    _rest: [AbortOnDropHandle<()>; 4],
    _expiring: Option<AbortOnDropHandle<()>>,
    _watching: Vec<AbortOnDropHandle<()>>,
}

impl Server {
    /// Starts a server on a cluster. When this returns, the server is a member of the cluster and accepts clients.
    ///
    /// # Errors
    /// [`Error::TableShape`] if the attachment table holds something else, [`Error::Listen`] if the address cannot be bound, [`Error::File`] for an unreadable or invalid TLS file,
    /// [`Error::Setting`] for an invalid path or namespace pattern, and the errors of [`Cluster::subscribe`] and
    /// [`Cluster::publish`].
    pub async fn start(cluster: Cluster, options: ServerOptions, metrics: Metrics) -> Result<Self> {
        let path = checked_path(&options.path)?;
        let client_buffer = checked_client_buffer(options.client_buffer)?;
        let tls = options.tls.clone().map(TlsAcceptor::new).transpose()?.map(Arc::new);
        let descriptors = Descriptors::raise_limit();
        cluster.check_attachment_table().await?;
        let (listener, address) = listen(&options.listen).await?;
        let admin = match &options.admin_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let needs_token = !matches!(options.authentication, Authentication::Anyone);
        let origins = OriginRule::new(options.origins.clone(), &options.cors, needs_token);
        tracing::info!(origins = %origins, "pages that may connect");

        let adapter = PostgresAdapterCtr::new(cluster.clone());
        let (service, io) = builder(&options, path.clone(), client_buffer, adapter.clone()).build_svc();
        adapter.attach(&io);
        options.answers.install(&adapter);
        let io_owner = IoOwner::new(io.clone());
        let shared_io = io_owner.share();

        let (closing, abort_all, open) =
            (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let wires = Wires {
            upgraded: Arc::new(UpgradedConnections::default()),
            readers: Arc::new(Readers::default()),
        };
        let buffers = ClientBuffers::new(client_buffer);
        let (disconnector, polling_disconnector) = disconnect::disconnector(wires.upgraded.clone());
        disconnect_slow_clients(&adapter, &shared_io, &buffers, &disconnector);
        disconnect_dropped_connects(&adapter, wires.readers.clone(), disconnector.clone());
        adapter.start_namespaces_on_admission(options.max_namespaces);
        let max_per_client = options.max_namespaces_per_client;
        limit_undecided(&adapter, max_per_client, wires.readers.clone(), disconnector.clone());
        let (relay_queue, relaying) = RelayQueue::start(client_buffer, closing.clone());
        let expiries = Expiries::default();
        let expiring = options
            .disconnect_expired
            .then(|| expiries.clone().start(shared_io.clone(), disconnector.clone()));
        let authentication = options.authentication;
        let reloader = Arc::new(Reloader {
            authentication: authentication.clone(),
            tls: tls.clone(),
            revocation: options
                .disconnect_expired
                .then(|| Revocation { io: shared_io.clone(), disconnector: disconnector.clone() }),
        });
        let watching = reloader.start();
        let admission_control = Arc::new(AdmissionControl {
            authentication,
            refusal_pace: RefusalPace::default(),
            expiries: options.disconnect_expired.then_some(expiries),
            rules: options.rules,
            max_rooms: options.max_rooms_per_client,
            max_namespaces_per_client: max_per_client,
            rates: RateLimits {
                events: Rate::new(options.client_rate.into(), 1),
                bytes: Rate::new(options.client_bytes, options.max_payload),
            },
            relay_queue,
            disconnector: disconnector.clone(),
            buffers: buffers.clone(),
            // The handlers of the io hold this, and the io belongs to the handle.
            adapter: adapter.detached(),
        });
        host(&io, &options.namespaces, &admission_control).await?;

        let loopback = LoopbackHealth::default();
        let inspection = Inspection {
            io: shared_io.clone(),
            adapter: adapter.detached(),
            loopback: loopback.clone(),
            metrics: metrics.clone(),
            closing: closing.clone(),
        };
        let inspection = inspection::count_refusals(inspection::routes(inspection));
        let public = match admin {
            Some(_) => Router::new(),
            None => inspection.clone(),
        };
        let app = inspection::forbid_caching(public.fallback_service(service.clone()), path.clone());
        let app = inspection::count_refusals(inspection::allow_origins(app, options.cors));
        let sessions = SessionCloser::new(app.clone(), path.clone());
        let front = Front {
            app,
            path: path.clone(),
            origins,
            proxies: TrustedProxies::new(options.trusted_proxies),
            websockets: Arc::new(move |stream, head| {
                // Fails for a head that was refused before.
                if let Err(error) = Service::call(&mut service.clone(), (stream, head)).into_inner() {
                    tracing::debug!(%error, "a websocket was not opened");
                }
            }),
            open: open.clone(),
            quotas: Arc::new(Quotas::new(Limits {
                clients: options.max_clients,
                clients_of_address: options.max_clients_per_address,
            })),
            sessions: Arc::default(),
            upgraded: wires.upgraded.clone(),
            buffers,
            disconnector,
            throttle: Throttle::default(),
            max_payload: usize::try_from(options.max_payload).unwrap_or(usize::MAX),
            client_buffer,
        };
        let acceptor = Acceptor {
            tls,
            front,
            inspection: admin.is_none().then(|| inspection.clone()),
            lane: Lane::default(),
            wires,
            descriptors,
            closing: closing.clone(),
            abort_all: abort_all.clone(),
            open: open.clone(),
        };
        let is_secure = acceptor.tls.is_some();
        let accepting = tokio::spawn(accept::serve(listener, Arc::new(acceptor)));
        let admin_address = admin.as_ref().map(|(_, address)| *address);
        let admin = admin.map(|(listener, _)| {
            let serving = accept::serve_admin(listener, inspection, closing.clone());
            AbortOnDropHandle::new(tokio::spawn(serving))
        });
        let rest = [
            polling_disconnector.start(sessions.clone()),
            measure_loopback(cluster, loopback),
            keep_tidy(metrics),
            namespace_gc::start(shared_io.clone(), &options.namespaces),
        ];
        Ok(Self {
            address,
            admin_address,
            is_secure,
            path,
            grace: options.grace,
            io: io_owner,
            sessions,
            runtime: Handle::current(),
            adapter,
            closing,
            _abort_all: abort_all.drop_guard(),
            open,
            accepting: AbortOnDropHandle::new(accepting),
            admin,
            relaying: AbortOnDropHandle::new(relaying),
            reloader,
            _rest: rest,
            _expiring: expiring,
            _watching: watching,
        })
    }

    /// The address that it listens on, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of `/healthz`, `/readyz` and `/metrics`, if they have one of their own.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The URL of its Socket.IO endpoint.
    pub fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}{}/", self.address, self.path)
    }

    /// Reads the files of keys, tokens and TLS again, as the server does by itself when they change. After an error, which is
    /// logged, all stays as it is. Clients whose token or key is no longer listed are disconnected, unless
    /// [`disconnect_expired`](ServerOptions::disconnect_expired) is off. Other connections stay as they are.
    pub fn reload(&self) {
        self.reloader.reload();
    }

    /// Stops accepting clients, tells the other servers that this one leaves, disconnects all clients, and waits until they have
    /// closed their connections. After the grace period the remaining connections are closed by force.
    pub async fn shut_down(mut self) {
        let deadline = Instant::now() + self.grace;
        self.closing.cancel();
        // Neither step may use up the time that is needed to disconnect the clients.
        let step = self.grace / 4;
        if timeout(step, &mut self.relaying).await.is_err() {
            tracing::warn!("events of clients were not relayed in time");
        }
        match timeout(step, self.adapter.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot tell the other servers that this one leaves"),
            Err(_) => {
                tracing::warn!(
                    "cannot tell the other servers that this one leaves: no answer from Postgres in time"
                );
            }
        }
        let disconnect_clients = async {
            if let Some(io) = self.io.get() {
                io.close().await;
            }
            if let Err(error) = (&mut self.accepting).await {
                tracing::error!(%error, "the accept loop failed");
            }
            if let Some(admin) = &mut self.admin
                && let Err(error) = admin.await
            {
                tracing::error!(%error, "the accept loop of the admin address failed");
            }
            self.open.close();
            self.open.wait().await;
        };
        if timeout_at(deadline, disconnect_clients).await.is_err() {
            tracing::warn!(
                connections = self.open.len(),
                "closing the connections of clients that did not leave in time"
            );
        }
    }
}

impl Drop for Server {
    /// Ends everything that would outlive the server: the sessions of its clients, and the adapters of its namespaces, which
    /// would go on sending heartbeats.
    fn drop(&mut self) {
        let Some(io) = self.io.take() else { return };
        let _context = self.runtime.enter();
        // The first poll makes the adapter let go of the io, which refers to the adapter.
        drop(self.adapter.close().now_or_never());
        let sockets: Vec<_> = io.nsps().into_iter().flat_map(|nsp| nsp.sockets()).collect();
        for nsp in io.nsps() {
            io.delete_ns(nsp.ns_path());
        }
        // Websockets end with their connections. A polling session ends at the first poll of this, since nothing waits.
        for socket in sockets.iter().filter(|socket| socket.transport_type() == TransportType::Polling) {
            if self.sessions.close(socket.id).now_or_never().is_none() {
                tracing::debug!(sid = %socket.id, "a polling session ends with its ping timeout");
            }
        }
    }
}

fn checked_client_buffer(bytes: u64) -> Result<usize> {
    if bytes < MIN_CLIENT_BUFFER {
        let reason = format!("{bytes} bytes are too few: the least is {MIN_CLIENT_BUFFER}");
        return Err(Error::Setting { setting: "client_buffer".into(), reason });
    }
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX).min(u32::MAX as usize))
}

fn checked_path(path: &str) -> Result<String> {
    let trimmed = path.trim_end_matches('/');
    let is_path = trimmed.starts_with('/')
        && trimmed
            .parse::<http::uri::PathAndQuery>()
            .is_ok_and(|p| p.as_str() == trimmed && p.query().is_none());
    let is_taken = INSPECTION_PATHS.contains(&trimmed);
    if is_path && !is_taken {
        return Ok(trimmed.to_owned());
    }
    let reason = match is_taken {
        true => format!("{path:?} is used by the server itself"),
        false => format!("{path:?} is not a path such as /socket.io"),
    };
    Err(Error::Setting { setting: "path".into(), reason })
}

async fn listen(address: &str) -> Result<(TcpListener, SocketAddr)> {
    let failed =
        |error: std::io::Error| Error::Listen { address: address.into(), reason: without_os_code(&error) };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn builder(
    options: &ServerOptions,
    path: String,
    client_buffer: usize,
    adapter: PostgresAdapterCtr,
) -> SocketIoBuilder<ClusterAdapter> {
    let bytes = usize::try_from(options.max_payload).unwrap_or(usize::MAX);
    let builder = SocketIo::builder()
        .req_path(path)
        .ping_interval(options.ping_interval)
        .ping_timeout(options.ping_timeout)
        .max_payload(options.max_payload)
        .ws_read_buffer_size(READ_BUFFER)
        .ws_max_message_size(bytes)
        .ws_max_frame_size(bytes)
        .max_buffer_size(client_buffer / MIN_EVENT_BYTES)
        .connect_timeout(options.connect_timeout)
        .with_adapter::<ClusterAdapter>(adapter);
    let builder = match options.transports {
        Transports::Both => builder,
        Transports::Websocket => builder.transports([TransportType::Websocket]),
        Transports::Polling => builder.transports([TransportType::Polling]),
    };
    match options.parser {
        Parser::Default => builder.with_parser(ParserConfig::common().max_incoming_binary_buf_size(bytes)),
        Parser::Msgpack => builder.with_parser(ParserConfig::msgpack()),
    }
}

/// Hosts the namespaces. Names that belong to no pattern have a handler as well, which refuses them: socketioxide would answer
/// however often a client asks and however long the name is.
async fn host(io: &ClusterIo, hosted: &[Hosted], control: &Arc<AdmissionControl>) -> Result<()> {
    let patterns = Arc::new(HostedPatterns::new(hosted)?);
    for nsp in hosted {
        if let Hosted::One(nsp) = nsp {
            io.ns(nsp.to_string(), client::handler(control.clone(), |_| true)).await?;
        }
    }
    for route in patterns::ROUTES {
        let patterns = patterns.clone();
        let handler = client::handler(control.clone(), move |nsp| patterns.contain(nsp));
        io.dyn_ns(route, handler).map_err(|error| Error::Setting {
            setting: "namespaces".into(),
            reason: format!("{route:?} cannot be routed: {error}"),
        })?;
    }
    Ok(())
}

/// Disconnects clients that do not read as fast as the server sends.
fn disconnect_slow_clients(
    adapter: &PostgresAdapterCtr,
    io: &SharedIo,
    buffers: &Arc<ClientBuffers>,
    disconnector: &Disconnector,
) {
    let disconnect = {
        let (io, disconnector) = (io.clone(), disconnector.clone());
        move |nsp: &str, sid| {
            if let Some(io) = io.get() {
                disconnector.disconnect(&io, nsp, sid, Reason::TooSlow);
            }
        }
    };
    adapter.on_slow_client(disconnect.clone());
    let buffers = buffers.clone();
    adapter.on_queued(move |nsp, sids, bytes| {
        for sid in buffers.queue(sids, bytes) {
            disconnect(nsp, sid);
        }
    });
}

/// Disconnects clients whose connect request is not answered, so that they connect again at once.
fn disconnect_dropped_connects(
    adapter: &PostgresAdapterCtr,
    readers: Arc<Readers>,
    disconnector: Disconnector,
) {
    adapter.on_connect_dropped(move || match readers.current() {
        Some(handle) => disconnector.disconnect_connection(&handle, Reason::NamespaceCreated),
        None => tracing::warn!("a client has to wait until its session times out"),
    });
}

/// Closes the connections that ask for many namespaces at once, or for one with a very long name.
fn limit_undecided(
    adapter: &PostgresAdapterCtr,
    max: usize,
    readers: Arc<Readers>,
    disconnector: Disconnector,
) {
    adapter.on_creating(move |nsp| {
        let Some(handle) = readers.current() else {
            tracing::warn!("a client asks for a namespace outside of its connection");
            return Err(Refused);
        };
        let max = if nsp.len() > MAX_NAMESPACE_BYTES { 0 } else { max };
        match handle.undecided.add(max) {
            Ok(undecided) => Ok(Box::new(undecided)),
            Err(TooMany { is_first }) => {
                if is_first {
                    disconnector.disconnect_connection(&handle, Reason::TooManyNamespaces);
                }
                Err(Refused)
            }
        }
    });
}

fn measure_loopback(cluster: Cluster, loopback: LoopbackHealth) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Err(error) = loopback::measure(cluster.clone(), &loopback).await {
            tracing::debug!(%error, "the loopback probe failed");
            sleep(UPKEEP).await;
        }
    }))
}

fn keep_tidy(metrics: Metrics) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = interval(UPKEEP);
        loop {
            ticks.tick().await;
            metrics.tidy();
        }
    }))
}
