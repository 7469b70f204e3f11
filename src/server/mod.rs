//! The server that `pgio serve` runs: the adapter with HTTP, authentication, client rules, health and metrics around it.

mod accept;
mod ack;
mod addresses;
mod admin_ui;
mod admission;
mod answers;
mod auth;
mod client_buffers;
mod client_connection;
mod client_events;
mod client_stream;
mod client_usage;
mod compact_head;
mod connection_handle;
mod connection_slots;
mod descriptors;
mod direct_write;
mod disconnect;
mod event_frames;
mod expiry;
mod exposure;
mod file_watch;
mod first_bytes;
mod front;
#[doc(hidden)]
pub mod fuzzing;
mod hooks;
mod incoming_event;
mod inspection;
mod loopback;
mod metrics;
mod namespace_gc;
mod options;
mod origins;
mod packet_limit;
mod pages;
mod patterns;
mod pending_namespaces;
mod poll_response;
mod posted_event;
mod queued_packets;
mod quotas;
mod rate;
mod readers;
mod readiness;
mod relay;
mod reload;
mod rules;
mod sent_packets;
mod sessions;
mod shared_io;
mod shutdown;
mod start;
mod throttle;
mod tls;
mod traffic;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socketioxide::SocketIo;
use socketioxide::adapter::Emitter;
use socketioxide::extract::SocketRef;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use addresses::AddressRange;
pub use admin_ui::AdminUi;
pub use answers::Answers;
#[cfg(feature = "cli")]
pub(crate) use auth::Credential;
pub use auth::{Authentication, Jwt, JwtKey, Tokens};
pub use exposure::Exposure;
#[cfg(feature = "cli")]
pub(crate) use file_watch::watch_files;
pub use metrics::Metrics;
pub use options::{CorsOrigins, Hosted, Parser, ServerOptions, TlsFiles, Transports};
pub use origins::OriginPattern;
#[cfg(feature = "cli")]
pub(crate) use pages::serve_pages;
pub use rules::{ClientRules, Relay, RoomPattern};
#[cfg(feature = "cli")]
pub(crate) use start::listen;

use crate::adapter::{PostgresAdapter, PostgresAdapterCtr};
use disconnect::SessionCloser;
use reload::Reloader;
use shared_io::IoOwner;

type ClusterAdapter = PostgresAdapter<Emitter>;
type ClusterIo = SocketIo<ClusterAdapter>;
type ClusterSocket = SocketRef<ClusterAdapter>;

/// A running server. Dropping it ends it at once; [`shut_down`](Self::shut_down) tells the clients and the other
/// servers first.
///
/// ```no_run
/// use pgio::server::{Metrics, Server, ServerOptions};
/// use pgio::{AdapterOptions, Cluster, Settings};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = Settings::parse("postgres://user:secret@localhost/app")?;
/// let cluster = Cluster::connect(settings, AdapterOptions::default()).await?;
/// cluster.create_attachment_table().await?;
/// let options = ServerOptions::default().listen("127.0.0.1:3000");
/// let server = Server::start(cluster, options, Metrics::install()?).await?;
/// println!("listening on {}", server.url());
/// tokio::signal::ctrl_c().await?;
/// server.shut_down().await;
/// # Ok(()) }
/// ```
pub struct Server {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    is_secure: bool,
    path: String,
    grace: Duration,
    io: IoOwner,
    sessions: SessionCloser,
    /// The runtime. A server that is dropped outside of it needs it to end its sessions.
    runtime: Handle,
    adapter: PostgresAdapterCtr,
    closing: CancellationToken,
    /// Closes all connections when it is dropped.
    _abort_all: DropGuard,
    /// The open connections.
    open: TaskTracker,
    accepting: AbortOnDropHandle<()>,
    admin: Option<AbortOnDropHandle<()>>,
    /// The task that publishes to the Admin UIs of Node servers.
    admin_ui: Option<AbortOnDropHandle<()>>,
    relaying: AbortOnDropHandle<()>,
    reloader: Arc<Reloader>,
    _rest: [AbortOnDropHandle<()>; 4],
    _expiring: Option<AbortOnDropHandle<()>>,
    _watching: Vec<AbortOnDropHandle<()>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Server {
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

    /// Reads the files of keys, tokens and TLS again. The server also does so when they change. An error is
    /// logged and changes nothing. Clients whose token or key is no longer listed are disconnected, unless
    /// [`disconnect_expired`](ServerOptions::disconnect_expired) is off. Other connections stay as they are.
    pub fn reload(&self) {
        self.reloader.reload();
    }
}
