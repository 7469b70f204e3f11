//! A whole node: the adapter with everything around it that makes it a server. What `pgio serve` runs.

mod accept;
mod answers;
mod auth;
mod client;
mod cutting;
mod detach;
mod inspection;
mod lag;
mod metrics;
mod options;
mod relay;
mod rules;
mod sweep;
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
use accept::Entrance;
use client::Doorkeeper;
use cutting::{Cutter, Reason, Upgrades};
use inspection::Inspection;
use lag::Deafness;
use relay::Outbox;

type ClusterAdapter = PostgresAdapter<Emitter>;
type ClusterIo = SocketIo<ClusterAdapter>;
type ClusterSocket = SocketRef<ClusterAdapter>;

/// For each websocket, so it is small: what clients send is short, and idle clients are many.
const READ_BUFFER: usize = 1 << 9;

/// How often to clean up what metrics nobody has asked for.
const UPKEEP: Duration = Duration::from_secs(5);

/// A running server. It ends at once when this is dropped; [`shut_down`](Self::shut_down) tells everybody.
pub struct Server {
    address: SocketAddr,
    is_secure: bool,
    path: String,
    grace: Duration,
    io: ClusterIo,
    adapter: PostgresAdapterCtr,
    closing: CancellationToken,
    /// Cuts all connections when it goes.
    cut: DropGuard,
    wires: TaskTracker,
    accepting: AbortOnDropHandle<()>,
    relaying: AbortOnDropHandle<()>,
    _rest: [AbortOnDropHandle<()>; 4],
}

impl Server {
    /// Starts a server on a cluster: when this returns it is a member, and clients may come.
    ///
    /// # Errors
    /// [`Error::Listen`] where the address cannot be had, [`Error::File`] for TLS files that make no sense,
    /// [`Error::Setting`] for a path or a pattern of namespaces that does, and those of [`Cluster::subscribe`] and
    /// [`Cluster::publish`].
    pub async fn start(cluster: Cluster, options: ServerOptions, metrics: Metrics) -> Result<Self> {
        let path = checked_path(&options.path)?;
        let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
        let (listener, address) = listen(&options.listen).await?;

        let adapter = PostgresAdapterCtr::new(cluster.clone());
        let (layer, io) = builder(&options, path.clone(), adapter.clone()).build_layer();
        adapter.attach(&io);
        options.answers.install(&adapter);

        let (closing, cut, wires) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let upgrades = Arc::new(Upgrades::default());
        let (cutter, polling_cutter) = cutting::cutter(upgrades.clone(), &path);
        tell_slow_clients(&adapter, &io, cutter.clone());
        let (outbox, relaying) = Outbox::start(options.client_buffer, closing.clone());
        let authentication = options.authentication;
        let keeper = Arc::new(Doorkeeper {
            authentication,
            rules: options.rules,
            outbox,
            cutter,
            adapter: adapter.clone(),
        });
        for hosted in &options.namespaces {
            host(&io, hosted, keeper.clone()).await?;
        }

        let deafness = Deafness::default();
        let inspection = Inspection {
            io: io.clone(),
            adapter: adapter.clone(),
            deafness: deafness.clone(),
            metrics: metrics.clone(),
            closing: closing.clone(),
        };
        let app = inspection::allow_origins(inspection::routes(inspection).layer(layer), options.cors);
        let app = inspection::count_refusals(app);
        let entrance = Entrance {
            tls,
            app: app.clone(),
            upgrades,
            closing: closing.clone(),
            cut: cut.clone(),
            wires: wires.clone(),
        };
        let is_secure = entrance.tls.is_some();
        let accepting = tokio::spawn(accept::serve(listener, Arc::new(entrance)));
        let sweeping = sweep::start(io.clone(), &options.namespaces);
        let rest = [polling_cutter.start(app), measure_lag(cluster, deafness), keep_tidy(metrics), sweeping];
        Ok(Self {
            address,
            is_secure,
            path,
            grace: options.grace,
            io,
            adapter,
            closing,
            cut: cut.drop_guard(),
            wires,
            accepting: AbortOnDropHandle::new(accepting),
            relaying: AbortOnDropHandle::new(relaying),
            _rest: rest,
        })
    }

    /// Where it listens, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its Socket.IO endpoint.
    pub fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}{}/", self.address, self.path)
    }

    /// Takes nobody in any more, says farewell to the other servers, disconnects all clients, and waits for that: for no
    /// longer than the grace period, after which all connections are cut.
    pub async fn shut_down(mut self) {
        let deadline = Instant::now() + self.grace;
        self.closing.cancel();
        // Neither may use up the time in which clients are told.
        let step = self.grace / 4;
        if timeout(step, &mut self.relaying).await.is_err() {
            tracing::warn!("events of clients were not passed on");
        }
        match timeout(step, self.adapter.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "other servers do not know that this one goes"),
            Err(_) => tracing::warn!("other servers do not know that this one goes: Postgres takes too long"),
        }
        let tell_clients = async {
            self.io.close().await;
            // Those that are answering do not have to finish for the connections of others to be waited for.
            let _ = (&mut self.accepting).await;
            self.wires.close();
            self.wires.wait().await;
        };
        if timeout_at(deadline, tell_clients).await.is_err() {
            tracing::warn!(connections = self.wires.len(), "clients that did not go are cut off");
        }
        drop(self.cut);
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
        true => format!("{path:?} is taken by the server itself"),
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

async fn host(io: &ClusterIo, hosted: &Hosted, keeper: Arc<Doorkeeper>) -> Result<()> {
    match hosted {
        Hosted::One(nsp) => io.ns(nsp.to_string(), client::handler(keeper)).await,
        Hosted::Pattern(pattern) => io.dyn_ns(pattern, client::handler(keeper)).map_err(|error| {
            let reason = format!("{pattern:?} is no pattern that can be used: {error}");
            Error::Setting { setting: "--namespace".into(), reason }
        }),
    }
}

fn tell_slow_clients(adapter: &PostgresAdapterCtr, io: &ClusterIo, cutter: Cutter) {
    let io = io.clone();
    adapter.on_slow_client(move |nsp, sid| cutter.cut(&io, nsp, sid, Reason::TooSlow));
}

fn measure_lag(cluster: Cluster, deafness: Deafness) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Err(error) = lag::measure(cluster.clone(), &deafness).await {
            tracing::debug!(%error, "the lag is not measured");
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
