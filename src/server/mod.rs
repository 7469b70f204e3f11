//! The server that `pgio serve` runs: the adapter with HTTP, authentication, client rules, health and metrics around it.

mod accept;
mod answers;
mod auth;
mod client;
mod compact_head;
mod disconnect;
mod inspection;
mod loopback;
mod metrics;
mod namespace_gc;
mod options;
mod relay;
mod rules;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socketioxide::adapter::Emitter;
use socketioxide::extract::SocketRef;
use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder, TransportType};
use tokio::net::TcpListener;
use tokio::time::{Instant, interval, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use answers::Answers;
pub use auth::{Authentication, JwtKey, Tokens};
pub use metrics::Metrics;
pub use options::{CorsOrigins, Hosted, Parser, ServerOptions, TlsFiles, Transports};
pub use rules::{ClientRules, Relay};

use crate::adapter::{PostgresAdapter, PostgresAdapterCtr};
use crate::cluster::Cluster;
use crate::error::in_words;
use crate::{Error, Result};
use accept::Acceptor;
use client::AdmissionControl;
use disconnect::{Disconnector, Reason, UpgradedConnections};
use inspection::Inspection;
use loopback::LoopbackHealth;
use relay::RelayQueue;

type ClusterAdapter = PostgresAdapter<Emitter>;
type ClusterIo = SocketIo<ClusterAdapter>;
type ClusterSocket = SocketRef<ClusterAdapter>;

/// The read buffer of a websocket. It is small because clients send short packets and most clients are idle.
const READ_BUFFER: usize = 1 << 9;

/// How often the metrics recorder drops samples that were not scraped.
const UPKEEP: Duration = Duration::from_secs(5);

/// A running server. Dropping it ends it at once; [`shut_down`](Self::shut_down) tells the clients and the other servers first.
pub struct Server {
    address: SocketAddr,
    is_secure: bool,
    path: String,
    grace: Duration,
    io: ClusterIo,
    adapter: PostgresAdapterCtr,
    closing: CancellationToken,
    /// Closes all connections when it is dropped.
    abort_all: DropGuard,
    wires: TaskTracker,
    accepting: AbortOnDropHandle<()>,
    relaying: AbortOnDropHandle<()>,
    _rest: [AbortOnDropHandle<()>; 4],
}

impl Server {
    /// Starts a server on a cluster. When this returns, the server is a member of the cluster and accepts clients.
    ///
    /// # Errors
    /// [`Error::Listen`] if the address cannot be bound, [`Error::File`] for an unreadable or invalid TLS file,
    /// [`Error::Setting`] for an invalid path or namespace pattern, and the errors of [`Cluster::subscribe`] and
    /// [`Cluster::publish`].
    pub async fn start(cluster: Cluster, options: ServerOptions, metrics: Metrics) -> Result<Self> {
        let path = checked_path(&options.path)?;
        let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
        let (listener, address) = listen(&options.listen).await?;

        let adapter = PostgresAdapterCtr::new(cluster.clone());
        let (layer, io) = builder(&options, path.clone(), adapter.clone()).build_layer();
        adapter.attach(&io);
        options.answers.install(&adapter);

        let (closing, abort_all, wires) =
            (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let upgraded = Arc::new(UpgradedConnections::default());
        let (disconnector, polling_disconnector) = disconnect::disconnector(upgraded.clone(), &path);
        tell_slow_clients(&adapter, &io, disconnector.clone());
        let (relay_queue, relaying) = RelayQueue::start(options.client_buffer, closing.clone());
        let authentication = options.authentication;
        let admission_control = Arc::new(AdmissionControl {
            authentication,
            rules: options.rules,
            relay_queue,
            disconnector,
            adapter: adapter.clone(),
        });
        for hosted in &options.namespaces {
            host(&io, hosted, admission_control.clone()).await?;
        }

        let loopback = LoopbackHealth::default();
        let inspection = Inspection {
            io: io.clone(),
            adapter: adapter.clone(),
            loopback: loopback.clone(),
            metrics: metrics.clone(),
            closing: closing.clone(),
        };
        let app = inspection::allow_origins(inspection::routes(inspection).layer(layer), options.cors);
        let app = inspection::count_refusals(app);
        let acceptor = Acceptor {
            tls,
            app: app.clone(),
            upgraded,
            closing: closing.clone(),
            abort_all: abort_all.clone(),
            wires: wires.clone(),
        };
        let is_secure = acceptor.tls.is_some();
        let accepting = tokio::spawn(accept::serve(listener, Arc::new(acceptor)));
        let namespace_gc = namespace_gc::start(io.clone(), &options.namespaces);
        let rest = [
            polling_disconnector.start(app),
            measure_loopback(cluster, loopback),
            keep_tidy(metrics),
            namespace_gc,
        ];
        Ok(Self {
            address,
            is_secure,
            path,
            grace: options.grace,
            io,
            adapter,
            closing,
            abort_all: abort_all.drop_guard(),
            wires,
            accepting: AbortOnDropHandle::new(accepting),
            relaying: AbortOnDropHandle::new(relaying),
            _rest: rest,
        })
    }

    /// The address that it listens on, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its Socket.IO endpoint.
    pub fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}{}/", self.address, self.path)
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
            Err(_) => tracing::warn!(
                "cannot tell the other servers that this one leaves: no answer from Postgres in time"
            ),
        }
        let tell_clients = async {
            self.io.close().await;
            // A panic in the accept loop does not change what is left to do.
            let _ = (&mut self.accepting).await;
            self.wires.close();
            self.wires.wait().await;
        };
        if timeout_at(deadline, tell_clients).await.is_err() {
            tracing::warn!(
                connections = self.wires.len(),
                "closing the connections of clients that did not leave in time"
            );
        }
        drop(self.abort_all);
    }
}

fn checked_path(path: &str) -> Result<String> {
    let trimmed = path.trim_end_matches('/');
    let is_path = trimmed.starts_with('/')
        && trimmed.parse::<http::uri::PathAndQuery>().is_ok_and(|p| p.query().is_none());
    let is_taken = ["/healthz", "/readyz", "/metrics"].contains(&trimmed);
    if is_path && !is_taken {
        return Ok(trimmed.to_owned());
    }
    let reason = match is_taken {
        true => format!("{path:?} is used by the server itself"),
        false => format!("{path:?} is not a path such as /socket.io"),
    };
    Err(Error::Setting { setting: "--path".into(), reason })
}

async fn listen(address: &str) -> Result<(TcpListener, SocketAddr)> {
    let failed = |error: std::io::Error| Error::Listen { address: address.into(), reason: in_words(&error) };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn builder(
    options: &ServerOptions,
    path: String,
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
        .max_buffer_size(options.client_buffer)
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

async fn host(io: &ClusterIo, hosted: &Hosted, admission_control: Arc<AdmissionControl>) -> Result<()> {
    match hosted {
        Hosted::One(nsp) => io.ns(nsp.to_string(), client::handler(admission_control)).await,
        Hosted::Pattern(pattern) => io.dyn_ns(pattern, client::handler(admission_control)).map_err(|error| {
            let reason = format!("{pattern:?} is not a valid pattern: {error}");
            Error::Setting { setting: "--namespace".into(), reason }
        }),
    }
}

fn tell_slow_clients(adapter: &PostgresAdapterCtr, io: &ClusterIo, disconnector: Disconnector) {
    let io = io.clone();
    adapter.on_slow_client(move |nsp, sid| disconnector.disconnect(&io, nsp, sid, Reason::TooSlow));
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
