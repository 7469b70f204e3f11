//! The adapter: makes a socketioxide server a full member of a cluster with Node servers.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pgio::{AdapterOptions, PostgresAdapter, PostgresAdapterCtr};
//! use socketioxide::{SocketIo, extract::SocketRef};
//!
//! let adapter = PostgresAdapterCtr::connect("postgres://localhost/app", AdapterOptions::default()).await?;
//! let (layer, io) = SocketIo::builder()
//!     .max_buffer_size(100_000) // a burst must not overflow a client's buffer
//!     .with_adapter::<PostgresAdapter<_>>(adapter.clone())
//!     .build_layer();
//! adapter.attach(&io);
//! io.ns("/", async |socket: SocketRef<PostgresAdapter<_>>| socket.join("r1")).await?;
//! // Reaches clients of every server, Node's and ours.
//! io.to("r1").emit("hello", "world").await?;
//! adapter.server_side_emit("/", "hello", "servers").await?;
//! # let _ = layer; Ok(()) }
//! ```
//!
//! Counters and histograms go to the [`metrics`](https://docs.rs/metrics) crate. Install a recorder before you connect.
//!
//! In Node each socket is in a room of its own id, in socketioxide it is not. The adapter makes up for it: an id works as the
//! name of a room in `to` and `except`, from here and from other servers, and answers to `fetchSockets` list it among the
//! rooms.

mod acks;
mod application;
mod cluster_socket;
mod convert;
mod describe;
mod incoming;
mod init;
mod io_handle;
mod local;
mod meters;
mod node;
#[cfg(feature = "server")]
mod relay;
mod served;
mod server_side;
mod target;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use socketioxide_core::adapter::errors::{AdapterError, BroadcastError};
use socketioxide_core::adapter::{
    BroadcastOptions as CoreOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, RemoteSocketData, Room,
    RoomParam, SocketEmitter,
};
use socketioxide_core::packet::Packet;
use tokio_util::task::AbortOnDropHandle;

pub use acks::Acks;
pub use cluster_socket::ClusterSocket;
pub use describe::{Connection, SocketData};
pub use init::Init;
#[cfg(feature = "server")]
pub(crate) use relay::{Enqueuing, args_of_client};
pub use server_side::{Answer as ServerSideAnswer, ServerSideEvent};
pub use socketioxide_core::Sid;

use crate::cluster::{Answer, Cluster, Collected, node_listed, server_said};
use crate::postgres::Settings;
use crate::protocol::{Body, BroadcastOptions, Namespace, RemoteSocket, Value};
use crate::{AdapterOptions, Error, Result};
use acks::RemoteBroadcast;
use application::{Owner, Ownership};
use convert::Format;
use io_handle::IoHandle;
use node::Node;
use served::{Adapters, not_served};

/// Makes an adapter for each namespace; the handle for what socketioxide's own API lacks. Cheap to clone.
///
/// Keep a handle for as long as the server runs: what you give to it, [the io](Self::attach) and handlers, belongs to it and
/// to its clones, and goes with the last of them. The server ends once all is dropped: the handles, the `SocketIo` and the
/// layer. A handler may hold a `SocketIo`. A handler that shall hold a handle, too, takes a
/// [detached](Self::detached) one; otherwise each keeps the other until [`close`](Self::close).
#[derive(Clone)]
pub struct PostgresAdapterCtr(Arc<Shared>, Ownership);

/// The state that the adapters of all namespaces of one server share.
struct Shared {
    cluster: Cluster,
    nodes: Mutex<Vec<Arc<Node>>>,
    adapters: Adapters,
    owner: Mutex<Weak<Owner>>,
    cleanup: OnceLock<AbortOnDropHandle<()>>,
}

impl Shared {
    fn nodes(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, nsp: &Namespace) -> Result<Arc<Node>> {
        let found = self.nodes().iter().find(|node| node.nsp == *nsp).cloned();
        found.ok_or_else(|| not_served(nsp))
    }
}

impl PostgresAdapterCtr {
    /// Connects. `url` is a `postgres://` URL or a string of libpq's `keyword=value` pairs.
    ///
    /// # Errors
    /// [`Error::Setting`] where the URL is malformed, [`Error::Connect`] where the server cannot be reached or refuses.
    pub async fn connect(url: &str, options: AdapterOptions) -> Result<Self> {
        Ok(Self::new(Cluster::connect(Settings::parse(url)?, options).await?))
    }

    /// On a connection that is there already.
    pub fn new(cluster: Cluster) -> Self {
        let shared = Shared {
            cluster,
            nodes: Mutex::default(),
            adapters: Adapters::default(),
            owner: application::no_owner(),
            cleanup: OnceLock::new(),
        };
        Self(Arc::new(shared), Ownership::default())
    }

    /// The connection below.
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    /// A handle that keeps neither the io nor the handlers, for use inside of handlers.
    pub fn detached(&self) -> Self {
        Self(self.0.clone(), Ownership::default())
    }

    /// Lets the adapter see the sockets themselves: their handshake and data for `fetchSockets` of other servers, and
    /// all their namespaces for `disconnectSockets(true)`. Without it, and after the last handle was dropped, those
    /// answers hold ids and rooms only. The first call counts.
    pub fn attach<A: socketioxide::adapter::Adapter>(&self, io: &socketioxide::SocketIo<A>) {
        self.1.claim(&self.0).attach(|| IoHandle::to(io.clone()));
    }

    /// Tells of clients that are too slow for their buffer and have missed a packet: the namespace and the socket's id.
    /// Without it they are disconnected from the namespace as soon as there is room to tell them; with it, to end them is
    /// the handler's work. It must not block. The first call counts.
    pub fn on_slow_client(&self, handler: impl Fn(&str, Sid) + Send + Sync + 'static) {
        self.1.claim(&self.0).on_slow_client(handler);
    }

    /// Whether other servers are heard: false while Postgres is away.
    pub fn is_listening(&self) -> bool {
        self.0.cluster.is_listening()
    }

    /// How many servers of a namespace are live, this one included.
    ///
    /// # Errors
    /// [`Error::Namespace`] where this server has no such namespace.
    #[doc(alias = "serverCount")]
    pub async fn server_count(&self, nsp: impl Into<Namespace>) -> Result<usize> {
        Ok(self.0.node(&nsp.into())?.peers().await?.len() + 1)
    }

    /// Sends an event to the other servers of a namespace, not to clients. A tuple is several arguments, `()` is none.
    ///
    /// # Errors
    /// [`Error::Namespace`] where this server has no such namespace, [`Error::ReservedEvent`], [`Error::Encode`], and those
    /// of [`Cluster::publish`].
    #[doc(alias = "serverSideEmit")]
    pub async fn server_side_emit(
        &self,
        nsp: impl Into<Namespace>,
        event: &str,
        args: impl Serialize,
    ) -> Result<()> {
        let event = server_side::event(event, &args)?;
        self.0.node(&nsp.into())?.publish(Body::ServerSideEmit { event, request_id: None }).await
    }

    /// Sends an event to the other servers of a namespace and collects an answer of each, for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`server_side_emit`](Self::server_side_emit).
    #[doc(alias = "serverSideEmitWithAck")]
    pub async fn server_side_emit_with_ack(
        &self,
        nsp: impl Into<Namespace>,
        event: &str,
        args: impl Serialize,
        timeout: Duration,
    ) -> Result<Collected<Value>> {
        let event = server_side::event(event, &args)?;
        let body = |id| Body::ServerSideEmit { event, request_id: Some(id) };
        self.0.node(&nsp.into())?.ask(timeout, body, server_said).await?.collect().await
    }

    /// Calls the handler for an event that other servers send with `serverSideEmit`. What it returns is the answer for a
    /// server that wants one; `None` leaves it without. A later handler for the same event takes the place of the former. A
    /// panic is logged and told to the error handler, and ends nothing else.
    ///
    /// ```no_run
    /// # fn example(adapter: &pgio::PostgresAdapterCtr) {
    /// adapter.on_server_side("/", "load", async |event| {
    ///     println!("{} asks with {} arguments", event.from, event.args.len());
    ///     Some(pgio::Value::from(0.5))
    /// });
    /// # }
    /// ```
    pub fn on_server_side<F, Fut>(&self, nsp: impl Into<Namespace>, event: &str, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ServerSideAnswer> + Send + 'static,
    {
        self.1.claim(&self.0).handlers.insert(nsp.into(), event, handler);
    }

    /// Removes the handler for an event. Calls under way go on. Returns false where there is none.
    pub fn off_server_side(&self, nsp: impl Into<Namespace>, event: &str) -> bool {
        self.0.application().is_some_and(|application| application.handlers.remove(nsp.into(), event))
    }

    /// Calls the handler for every event, in every namespace, that has no handler of its own. A later one takes the place
    /// of the former.
    pub fn on_any_server_side<F, Fut>(&self, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ServerSideAnswer> + Send + 'static,
    {
        self.1.claim(&self.0).handlers.set_any(handler);
    }

    /// Removes that handler. Returns false where there is none.
    pub fn off_any_server_side(&self) -> bool {
        self.0.application().is_some_and(|application| application.handlers.remove_any())
    }

    /// The sockets of the other servers of a namespace, whatever their ids look like, with handshake and data.
    ///
    /// # Errors
    /// [`Error::Namespace`] where this server has no such namespace, and those of [`Cluster::publish`].
    #[doc(alias = "fetchSockets")]
    pub async fn fetch_remote_sockets(
        &self,
        nsp: impl Into<Namespace>,
        opts: BroadcastOptions,
        timeout: Duration,
    ) -> Result<Collected<RemoteSocket>> {
        let body = |request_id| Body::FetchSockets { opts, request_id };
        Ok(self.0.node(&nsp.into())?.ask(timeout, body, node_listed).await?.collect().await?.flatten())
    }

    /// The sockets of all servers of a namespace, this one's first, waiting for the other servers for at most `timeout`.
    /// (`SocketIo::fetch_sockets` can hold no socket of a Node server, whose ids are longer.)
    ///
    /// ```no_run
    /// # async fn example(adapter: &pgio::PostgresAdapterCtr) -> pgio::Result<()> {
    /// use std::time::Duration;
    /// use pgio::protocol::BroadcastOptions;
    ///
    /// let in_room = BroadcastOptions::default().to("r1");
    /// for socket in adapter.fetch_all_sockets("/", in_room, Duration::from_secs(5)).await?.into_values() {
    ///     socket.emit("hello", &socket.id).await?;
    ///     socket.join("r2").await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`fetch_remote_sockets`](Self::fetch_remote_sockets).
    #[doc(alias = "fetchSockets")]
    pub async fn fetch_all_sockets(
        &self,
        nsp: impl Into<Namespace>,
        opts: BroadcastOptions,
        timeout: Duration,
    ) -> Result<Collected<ClusterSocket>> {
        let nsp = nsp.into();
        let own_uid = self.0.node(&nsp)?.uid.clone();
        let own = self.0.adapters.get(&nsp)?.sockets(opts.clone());
        let own = own.into_iter().map(|value| Answer { node: own_uid.clone(), value });
        let Collected { answers, expected, silent, nodes, unread } =
            self.fetch_remote_sockets(&nsp, opts, timeout).await?;
        let of_handle = |Answer { node, value }: Answer<RemoteSocket>| {
            let value = ClusterSocket::new(value, node.clone(), nsp.clone(), self.detached());
            Answer { node, value }
        };
        let answers = own.chain(answers).map(of_handle).collect();
        Ok(Collected { answers, expected: expected + 1, silent, nodes: nodes + 1, unread })
    }

    /// Lets go of the io and of all handlers, and says farewell to the other servers in every namespace, so that they do not
    /// wait for this one.
    ///
    /// # Errors
    /// Those of [`Cluster::publish`], the first of them.
    pub async fn close(&self) -> Result<()> {
        // First, as what follows waits for Postgres.
        self.0.forget_application();
        let nodes = std::mem::take(&mut *self.nodes());
        let mut outcome = Ok(());
        for node in nodes {
            outcome = outcome.and(node.close().await);
        }
        outcome
    }

    /// Deletes old attachments every now and then, one task for all namespaces.
    fn clean_up_regularly(&self) {
        self.0.cleanup.get_or_init(|| {
            let cluster = self.0.cluster.clone();
            AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    tokio::time::sleep(cluster.options().cleanup_interval).await;
                    match cluster.clean_up_attachments().await {
                        Ok(rows) => metrics::counter!("pgio_attachments_deleted_total").increment(rows),
                        Err(error) => {
                            tracing::warn!(%error, "old attachments stay");
                            cluster.options().report(&error);
                        }
                    }
                }
            }))
        });
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Node>>> {
        self.0.nodes()
    }
}

impl std::fmt::Debug for PostgresAdapterCtr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresAdapterCtr").field("cluster", &self.0.cluster).finish_non_exhaustive()
    }
}

/// The adapter of one namespace. socketioxide makes it; [`PostgresAdapterCtr`] is the handle.
pub struct PostgresAdapter<E> {
    local: CoreLocalAdapter<E>,
    ctr: PostgresAdapterCtr,
    node: Arc<Node>,
    format: Format,
    task: OnceLock<AbortOnDropHandle<()>>,
}

impl<E> DefinedAdapter for PostgresAdapter<E> {}

impl From<Error> for AdapterError {
    fn from(error: Error) -> Self {
        Self(Box::new(error))
    }
}

impl<E: SocketEmitter> CoreAdapter<E> for PostgresAdapter<E> {
    type Error = Error;
    type State = PostgresAdapterCtr;
    type AckStream = Acks<E::AckError>;
    type InitRes = Init;

    fn new(state: &PostgresAdapterCtr, local: CoreLocalAdapter<E>) -> Self {
        let node = Arc::new(Node::new(state.cluster().clone(), Namespace::new(local.path())));
        let format = Format::of(local.parser());
        // The state lives in every `SocketIo`, and must not own one.
        state.1.release(&state.0);
        Self { local, ctr: state.detached(), node, format, task: OnceLock::new() }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) -> Init {
        Init::new(self.node.clone(), self.start(on_success))
    }

    async fn close(&self) -> Result<()> {
        self.ctr.nodes().retain(|node| !Arc::ptr_eq(node, &self.node));
        if let Some(task) = self.task.get() {
            task.abort();
        }
        self.node.close().await
    }

    async fn server_count(&self) -> Result<u16> {
        let others = self.node.peers().await?.len();
        Ok(u16::try_from(others + 1).unwrap_or(u16::MAX))
    }

    /// To the clients here first: they are served while Postgres is away.
    async fn broadcast(&self, packet: Packet, opts: CoreOptions) -> Result<(), BroadcastError> {
        let publish = match self.is_for_here_only(&opts) {
            true => None,
            false => Some((convert::event_of(&packet)?, target::to_wire(&opts))),
        };
        self.send_here(packet, opts);
        if let Some((event, opts)) = publish {
            let body = Body::Broadcast { opts, event, request_id: None };
            self.node.publish(body).await.map_err(AdapterError::from)?;
        }
        Ok(())
    }

    /// To the clients here first, here as well. That other servers could not be asked is an item of the stream.
    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        opts: CoreOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream> {
        let question = match self.is_for_here_only(&opts) {
            true => None,
            false => {
                let event = convert::event_of(&packet).map_err(|e| Error::Encode(e.to_string()))?;
                Some((event, target::to_wire(&opts)))
            }
        };
        self.ensure_sid_rooms(&opts);
        let (local, _) = self.local.broadcast_with_ack(packet, opts, timeout);
        let Some((event, opts)) = question else { return Ok(Acks::of_here(local)) };
        let wait = timeout.unwrap_or_else(|| self.local.ack_timeout());
        let (node, format) = (self.node.clone(), self.format);
        Ok(Acks::of_all(local, RemoteBroadcast { node, event, opts, wait, format }).await)
    }

    async fn add_sockets(&self, opts: CoreOptions, rooms: impl RoomParam) -> Result<()> {
        let rooms: Vec<Room> = rooms.into_room_iter().collect();
        let publish = (!self.is_for_here_only(&opts)).then(|| target::to_wire(&opts));
        self.ensure_sid_rooms(&opts);
        self.local.add_sockets(opts, rooms.clone());
        match publish {
            Some(opts) => self.node.publish(Body::SocketsJoin { opts, rooms: target::names(rooms) }).await,
            None => Ok(()),
        }
    }

    async fn del_sockets(&self, opts: CoreOptions, rooms: impl RoomParam) -> Result<()> {
        let rooms: Vec<Room> = rooms.into_room_iter().collect();
        let publish = (!self.is_for_here_only(&opts)).then(|| target::to_wire(&opts));
        self.ensure_sid_rooms(&opts);
        self.local.del_sockets(opts, rooms.clone());
        match publish {
            Some(opts) => self.node.publish(Body::SocketsLeave { opts, rooms: target::names(rooms) }).await,
            None => Ok(()),
        }
    }

    async fn disconnect_socket(&self, opts: CoreOptions) -> Result<(), BroadcastError> {
        let publish = (!self.is_for_here_only(&opts)).then(|| target::to_wire(&opts));
        self.disconnect_here(opts, false);
        if let Some(opts) = publish {
            let body = Body::DisconnectSockets { opts, close: false };
            self.node.publish(body).await.map_err(AdapterError::from)?;
        }
        Ok(())
    }

    async fn rooms(&self, opts: CoreOptions) -> Result<Vec<Room>> {
        let mut remote = Vec::new();
        if !self.is_for_here_only(&opts) {
            remote = self.fetch_elsewhere(&opts).await?;
        }
        self.ensure_sid_rooms(&opts);
        let mut rooms = self.local.rooms(opts);
        let ids: HashSet<String> = remote.iter().map(|socket| socket.id.clone()).collect();
        rooms.extend(remote.into_iter().flat_map(|socket| socket.rooms).map(Room::from));
        // The room of a socket's own id is nothing that an application of socketioxide would expect here.
        let is_id = |room: &Room| {
            ids.contains(room.as_ref()) || room.parse::<Sid>().is_ok_and(|sid| self.is_here(sid))
        };
        rooms.retain(|room| !is_id(room));
        Ok(rooms.into_iter().collect())
    }

    async fn fetch_sockets(&self, opts: CoreOptions) -> Result<Vec<RemoteSocketData>> {
        let mut remote = Vec::new();
        if !self.is_for_here_only(&opts) {
            remote = self.fetch_elsewhere(&opts).await?;
        }
        self.ensure_sid_rooms(&opts);
        let mut sockets = self.local.fetch_sockets(opts);
        let ns = self.local.path();
        // Ids of Node servers have four characters more than this type can hold.
        sockets.extend(remote.iter().filter_map(|socket| {
            let id = socket.id.parse().ok()?;
            Some(RemoteSocketData { id, server_id: socketioxide_core::Uid::ZERO, ns: ns.clone() })
        }));
        Ok(sockets)
    }

    fn get_local(&self) -> &CoreLocalAdapter<E> {
        &self.local
    }
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    async fn fetch_elsewhere(&self, opts: &CoreOptions) -> Result<Vec<RemoteSocket>> {
        let opts = target::to_wire(opts);
        let wait = self.ctr.cluster().request_timeout();
        let asked =
            self.node.ask(wait, |request_id| Body::FetchSockets { opts, request_id }, node_listed).await?;
        Ok(asked.collect().await?.flatten().into_values())
    }
}
