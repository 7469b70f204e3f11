//! The emitter: sends events to the clients of a cluster from another process.

mod acknowledgements;
mod operator;
#[cfg(feature = "cli")]
mod prepared;

use std::time::Duration;

use serde::Serialize;

pub use acknowledgements::Acknowledgements;
pub use operator::BroadcastOperator;
#[cfg(feature = "cli")]
pub(crate) use prepared::PreparedBroadcast;

use crate::cluster::{AdapterOptions, Awaited, Cluster, Collected, server_response};
use crate::postgres::Settings;
pub use crate::protocol::Rooms;
use crate::protocol::{Body, EventArgs, Namespace, Value, server_event};
use crate::{Receipt, Result};

/// Sends events to the clients of a cluster from a process without clients, as `@socket.io/postgres-emitter` does in Node.
/// A handle that is cheap to clone. [`of`](Self::of) and [`to`](Self::to) select the target sockets.
///
/// ```no_run
/// # async fn example() -> pgio::Result<()> {
/// use pgio::Emitter;
/// use serde_json::json;
///
/// let emitter = Emitter::connect("postgres://user:secret@localhost/app").await?;
/// emitter.emit("news", "hello").await?;
/// emitter.to("r1").except("r2").emit("tick", (1, json!({ "a": 2 }))).await?;
/// emitter.of("/admin").within("r1").disconnect(true).await?;
/// # Ok(()) }
/// ```
///
/// All methods that publish return when Postgres has committed. They fail with
/// [`Error::ConnectionLost`](crate::Error::ConnectionLost) or [`Error::Connect`](crate::Error::Connect) while Postgres is
/// unreachable; the next call reconnects. The methods have the names of Node, in Rust's style.
///
/// Events that hold binary, events of 8000 bytes or more, and durable events go through the attachment table. Without it they
/// fail with [`Error::MissingTable`](crate::Error::MissingTable). `pgio serve` creates it at its start, and
/// [`create_attachment_table`](Cluster::create_attachment_table) creates it if it does not exist:
///
/// ```no_run
/// # async fn example(emitter: pgio::Emitter) -> pgio::Result<()> {
/// emitter.cluster().create_attachment_table().await?;
/// emitter.to("r1").emit("photo", serde_bytes::Bytes::new(&[0xca, 0xfe])).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Emitter {
    cluster: Cluster,
    nsp: Namespace,
}

impl Emitter {
    /// Connects with the default options. `url` is a `postgres://` URL or a string of libpq's `keyword=value` pairs. Missing
    /// settings come from libpq's variables (`PGHOST`, ...) and defaults, so an empty `url` connects like `psql` without
    /// arguments.
    ///
    /// If the servers have another channel prefix or attachment table, set the same options:
    ///
    /// ```no_run
    /// # async fn example() -> pgio::Result<()> {
    /// use pgio::{AdapterOptions, Cluster, Emitter, Settings};
    ///
    /// let settings = Settings::parse("postgres://user:secret@localhost/app")?;
    /// let cluster = Cluster::connect(settings, AdapterOptions::default().channel_prefix("chat")).await?;
    /// let emitter = Emitter::new(cluster);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// It does not retry: it fails if Postgres is down at the start.
    /// [`Error::Setting`](crate::Error::Setting) if the URL is malformed,
    /// [`Error::Connect`](crate::Error::Connect) if the server is unreachable, and
    /// [`Error::Refused`](crate::Error::Refused) if it refuses the connection.
    pub async fn connect(url: &str) -> Result<Self> {
        let cluster = Cluster::connect(Settings::parse(url)?, AdapterOptions::default()).await?;
        Ok(Self::new(cluster))
    }

    /// An emitter for the main namespace on an existing connection.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, nsp: Namespace::default() }
    }

    /// An emitter for another namespace; `admin` means `/admin`.
    pub fn of(&self, nsp: impl Into<Namespace>) -> Self {
        Self { cluster: self.cluster.clone(), nsp: nsp.into() }
    }

    /// The connection to the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The namespace of this emitter.
    pub fn namespace(&self) -> &Namespace {
        &self.nsp
    }

    fn all(&self) -> BroadcastOperator {
        BroadcastOperator::new(self.cluster.clone(), self.nsp.clone())
    }

    /// Selects the sockets in one of these rooms. A room may be a socket's id. An empty list selects all sockets of the
    /// namespace: see [`BroadcastOperator::to`].
    #[doc(alias = "in")]
    pub fn to(&self, rooms: impl Rooms) -> BroadcastOperator {
        self.all().to(rooms)
    }

    /// The same as [`to`](Self::to) (`in` in Node, a keyword here).
    #[doc(alias = "in")]
    pub fn within(&self, rooms: impl Rooms) -> BroadcastOperator {
        self.all().to(rooms)
    }

    /// Excludes the sockets in any of these rooms.
    pub fn except(&self, rooms: impl Rooms) -> BroadcastOperator {
        self.all().except(rooms)
    }

    /// The event may be lost for clients that are not ready to receive.
    pub fn volatile(&self) -> BroadcastOperator {
        self.all().volatile()
    }

    /// See [`BroadcastOperator::durable`].
    pub fn durable(&self) -> BroadcastOperator {
        self.all().durable()
    }

    /// Whether the transport should compress the event.
    pub fn compress(&self, compress: bool) -> BroadcastOperator {
        self.all().compress(compress)
    }

    /// The timeout for acknowledgements and answers.
    pub fn timeout(&self, timeout: Duration) -> BroadcastOperator {
        self.all().timeout(timeout)
    }

    /// See [`BroadcastOperator::emit`].
    pub async fn emit<T: Serialize>(&self, event: &str, args: T) -> Result<()> {
        self.all().emit(event, args).await
    }

    /// See [`BroadcastOperator::enqueue`].
    pub async fn enqueue<T: Serialize>(&self, event: &str, args: T) -> Result<Receipt> {
        self.all().enqueue(event, args).await
    }

    /// See [`BroadcastOperator::emit_all`].
    pub async fn emit_all<E, T>(&self, events: impl IntoIterator<Item = (E, T)>) -> Result<()>
    where
        E: AsRef<str>,
        T: Serialize,
    {
        self.all().emit_all(events).await
    }

    /// See [`BroadcastOperator::emit_with_ack`].
    #[doc(alias = "emitWithAck")]
    pub async fn emit_with_ack<A>(&self, event: &str, args: impl Serialize) -> Result<Acknowledgements<A>>
    where
        A: serde::de::DeserializeOwned,
    {
        self.all().emit_with_ack(event, args).await
    }

    /// See [`BroadcastOperator::join`].
    #[doc(alias = "socketsJoin")]
    pub async fn join(&self, rooms: impl Rooms) -> Result<()> {
        self.all().join(rooms).await
    }

    /// See [`BroadcastOperator::leave`].
    #[doc(alias = "socketsLeave")]
    pub async fn leave(&self, rooms: impl Rooms) -> Result<()> {
        self.all().leave(rooms).await
    }

    /// See [`BroadcastOperator::disconnect`].
    #[doc(alias = "disconnectSockets")]
    pub async fn disconnect(&self, close: bool) -> Result<()> {
        self.all().disconnect(close).await
    }

    /// See [`BroadcastOperator::fetch_sockets`].
    #[doc(alias = "fetchSockets")]
    pub async fn fetch_sockets(&self) -> Result<Collected<crate::RemoteSocket>> {
        self.all().fetch_sockets().await
    }

    /// Waits until every event that was queued before is committed, or has failed: see [`Cluster::flush`].
    ///
    /// # Errors
    /// Those of [`Cluster::flush`].
    pub async fn flush(&self) -> Result<()> {
        self.cluster.flush().await
    }

    /// Sends an event to every server of the namespace, not to clients.
    ///
    /// # Errors
    /// [`Error::ReservedEvent`](crate::Error::ReservedEvent), and those of [`Cluster::publish`].
    #[doc(alias = "serverSideEmit")]
    pub async fn server_side_emit(&self, event: &str, args: impl Serialize) -> Result<()> {
        let event = server_event(event, Value::args_from_rust(&args)?)?;
        self.cluster.publish_as_emitter(&self.nsp, Body::ServerSideEmit { event, request_id: None }).await
    }

    /// Sends an event to every server of the namespace and collects one answer of each, for at most `timeout`.
    /// It returns as soon as all servers have answered; the result names the servers that did not.
    ///
    /// # Errors
    /// Those of [`server_side_emit`](Self::server_side_emit) and [`Cluster::subscribe`].
    #[doc(alias = "serverSideEmitWithAck")]
    pub async fn server_side_emit_with_ack(
        &self,
        event: &str,
        args: impl Serialize,
        timeout: Duration,
    ) -> Result<Collected<Value>> {
        let event: EventArgs = server_event(event, Value::args_from_rust(&args)?)?;
        self.cluster
            .request_as_emitter(
                &self.nsp,
                timeout,
                Awaited::default(),
                |id| Body::ServerSideEmit { event, request_id: Some(id) },
                server_response,
            )
            .await
    }
}
