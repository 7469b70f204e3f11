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
//! It counts what it does with the [`metrics`](https://docs.rs/metrics) crate: install a recorder before, if there is to be one.
//!
//! What Node's sockets have and socketioxide's have not is made up for: a socket's id works as the name of a room of its
//! own, in `to` and in `except`, from here and from other servers; answers to `fetchSockets` carry it among the rooms.

mod acks;
mod attached;
mod convert;
mod describe;
mod farewells;
#[cfg(feature = "server")]
mod hosting;
mod incoming;
mod init;
mod local;
mod meters;
mod node;
mod readiness;
mod registry;
mod server_side;
mod target;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::stream::Select;
use serde::Serialize;
use socketioxide_core::adapter::errors::{AdapterError, BroadcastError};
use socketioxide_core::adapter::{
    AckStreamItem, BroadcastOptions as CoreOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter,
    RemoteSocketData, Room, RoomParam, SocketEmitter,
};
use socketioxide_core::packet::Packet;
use tokio_util::task::AbortOnDropHandle;

pub use describe::{Connection, SocketData};
#[cfg(feature = "server")]
pub(crate) use hosting::{Enqueuing, args_of_client};
pub use init::Init;
pub use server_side::Answer as ServerSideAnswer;
pub use socketioxide_core::Sid;

use crate::cluster::{Cluster, Collected, node_listed, server_said};
use crate::postgres::Settings;
use crate::protocol::{Body, BroadcastOptions, Namespace, RemoteSocket, Value};
use crate::{AdapterOptions, Error, Result};
use acks::RemoteAcks;
use attached::Attached;
use convert::Format;
use farewells::Farewells;
use node::Node;
use registry::Registry;
use server_side::Handlers;

/// Makes an adapter for each namespace; the handle for what socketioxide's own API lacks. Cheap to clone.
#[derive(Clone)]
pub struct PostgresAdapterCtr(Arc<Shared>);

/// What the adapters of all namespaces of one server share.
struct Shared {
    cluster: Cluster,
    registry: Registry,
    farewells: Farewells,
    handlers: Handlers,
    attached: OnceLock<Attached>,
    slow_client: OnceLock<SlowClient>,
    #[cfg(feature = "server")]
    hooks: hosting::Hooks,
    cleanup: OnceLock<AbortOnDropHandle<()>>,
    #[cfg(feature = "server")]
    relays: hosting::Relays,
}

/// Told of a client whose buffer was full: its namespace and id.
type SlowClient = Box<dyn Fn(&str, Sid) + Send + Sync>;

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
        Self(Arc::new(Shared {
            cluster,
            registry: Registry::default(),
            farewells: Farewells::default(),
            handlers: Handlers::default(),
            attached: OnceLock::new(),
            slow_client: OnceLock::new(),
            #[cfg(feature = "server")]
            hooks: hosting::Hooks::default(),
            cleanup: OnceLock::new(),
            #[cfg(feature = "server")]
            relays: hosting::Relays::default(),
        }))
    }

    /// The connection below.
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    /// Lets the adapter see the sockets themselves: their handshake and data for `fetchSockets` of other servers, and
    /// all their namespaces for `disconnectSockets(true)`. Without it those answers hold ids and rooms only.
    /// The first call counts.
    pub fn attach<A: socketioxide::adapter::Adapter>(&self, io: &socketioxide::SocketIo<A>) {
        self.0.attached.get_or_init(|| Attached::to(io.clone()));
    }

    /// Tells of clients that are too slow for their buffer and have missed a packet: the namespace and the socket's id.
    /// Without it they are disconnected from the namespace as soon as there is room to tell them; with it, to end them is
    /// the handler's work. The first call counts.
    pub fn on_slow_client(&self, handler: impl Fn(&str, Sid) + Send + Sync + 'static) {
        self.0.slow_client.get_or_init(|| Box::new(handler));
    }

    /// Whether other servers are heard: false while Postgres is away.
    pub fn is_listening(&self) -> bool {
        self.0.cluster.is_listening()
    }

    /// Waits until a namespace listens to the other servers, for at most `patience`. Await it in the connect handler (the
    /// middleware) of a dynamic namespace: the first client creates the namespace and can be connected before it listens.
    /// Returns without an error if the time is over, since a server serves its own clients while Postgres is away.
    ///
    /// Set [`connect_timeout`](socketioxide::SocketIoBuilder::connect_timeout) to some seconds for dynamic namespaces: when two
    /// clients create one in the same microseconds, one of them is not answered, and reconnects after that time.
    ///
    /// # Errors
    /// [`Error::Namespace`] for a namespace that can never listen, since its name is too long for a channel.
    pub async fn wait_until_listening(&self, nsp: &str, patience: Duration) -> Result<()> {
        match self.node(nsp) {
            Ok(node) => node.readiness.wait(patience).await,
            // The namespace was deleted meanwhile.
            Err(_) => Ok(()),
        }
    }

    /// How many servers of a namespace are live, this one included.
    ///
    /// # Errors
    /// [`Error::Namespace`] where this server has no such namespace.
    #[doc(alias = "serverCount")]
    pub async fn server_count(&self, nsp: &str) -> Result<usize> {
        Ok(self.node(nsp)?.peers().await?.len() + 1)
    }

    /// Sends an event to the other servers of a namespace, not to clients.
    ///
    /// # Errors
    /// [`Error::Namespace`] where this server has no such namespace, [`Error::Encode`], and those of [`Cluster::publish`].
    #[doc(alias = "serverSideEmit")]
    pub async fn server_side_emit(&self, nsp: &str, event: &str, args: impl Serialize) -> Result<()> {
        let event = server_side::event(event, &args)?;
        self.node(nsp)?.publish(Body::ServerSideEmit { event, request_id: None }).await
    }

    /// Sends an event to the other servers of a namespace and collects an answer of each, for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`server_side_emit`](Self::server_side_emit).
    #[doc(alias = "serverSideEmitWithAck")]
    pub async fn server_side_emit_with_ack(
        &self,
        nsp: &str,
        event: &str,
        args: impl Serialize,
        timeout: Duration,
    ) -> Result<Collected<Value>> {
        let event = server_side::event(event, &args)?;
        let body = |id| Body::ServerSideEmit { event, request_id: Some(id) };
        self.node(nsp)?.ask(timeout, body, server_said).await?.collect().await
    }

    /// Calls the handler for events that other servers send with `serverSideEmit`. What it returns is the answer for
    /// those who want one; `None` leaves them without. A later handler for the same event takes the place of the former.
    ///
    /// ```no_run
    /// # fn example(adapter: &pgio::PostgresAdapterCtr) {
    /// adapter.on_server_side("/", "load", async |_args| Some(pgio::Value::from(0.5)));
    /// # }
    /// ```
    pub fn on_server_side<F, Fut>(&self, nsp: &str, event: &str, handler: F)
    where
        F: Fn(Vec<Value>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Value>> + Send + 'static,
    {
        self.0.handlers.insert(Namespace::new(nsp), event, handler);
    }

    /// Calls the handler for events for which there is no other: with the namespace, the event and its arguments.
    pub fn on_any_server_side<F>(&self, handler: F)
    where
        F: Fn(&Namespace, &str, Vec<Value>) -> Option<Value> + Send + Sync + 'static,
    {
        self.0.handlers.set_fallback(handler);
    }

    /// The sockets of the other servers of a namespace, whatever their ids look like, with handshake and data.
    /// (`SocketIo::fetch_sockets` can hold no socket of a Node server, whose ids are longer.)
    ///
    /// # Errors
    /// [`Error::Namespace`] where this server has no such namespace, and those of [`Cluster::publish`].
    #[doc(alias = "fetchSockets")]
    pub async fn fetch_remote_sockets(
        &self,
        nsp: &str,
        opts: BroadcastOptions,
        timeout: Duration,
    ) -> Result<Collected<RemoteSocket>> {
        let body = |request_id| Body::FetchSockets { opts, request_id };
        Ok(self.node(nsp)?.ask(timeout, body, node_listed).await?.collect().await?.flatten())
    }

    /// Says farewell to the other servers in every namespace, so that they do not wait for this one.
    ///
    /// # Errors
    /// Those of [`Cluster::publish`], the first of them.
    pub async fn close(&self) -> Result<()> {
        let closing: Vec<_> =
            self.0.registry.take().into_iter().map(|node| self.say_farewell(node)).collect();
        let mut outcome = Ok(());
        for farewell in closing {
            outcome = outcome.and(farewell.await);
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

    /// Closes a node at once. What is returned resolves when its farewell is committed.
    fn say_farewell(&self, node: Arc<Node>) -> impl Future<Output = Result<()>> + Send + use<> {
        let farewell = node.close().then(|| self.0.farewells.push(node));
        async move {
            match farewell {
                Some(farewell) => farewell.await,
                None => Ok(()),
            }
        }
    }

    fn node(&self, nsp: &str) -> Result<Arc<Node>> {
        let nsp = Namespace::new(nsp);
        self.0.registry.get(&nsp).ok_or_else(|| Error::Namespace {
            namespace: nsp.to_string(),
            reason: "this server does not serve it".into(),
        })
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
    /// The start of a dynamic namespace.
    starting: OnceLock<AbortOnDropHandle<()>>,
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
    type AckStream = Select<E::AckStream, RemoteAcks<E::AckError>>;
    type InitRes = Init;

    fn new(state: &PostgresAdapterCtr, local: CoreLocalAdapter<E>) -> Self {
        let node = Arc::new(Node::new(state.cluster().clone(), Namespace::new(local.path())));
        let format = Format::of(local.parser());
        Self { local, ctr: state.clone(), node, format, task: OnceLock::new(), starting: OnceLock::new() }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) -> Init {
        Init::new(self, on_success)
    }

    async fn close(&self) -> Result<()> {
        // Everything up to the await happens at the first poll, which is the only one when a namespace is deleted.
        self.ctr.0.registry.release(&self.node);
        #[cfg(feature = "server")]
        self.ctr.0.relays.remove(self);
        let farewell = self.ctr.say_farewell(self.node.clone());
        for task in [&self.task, &self.starting].into_iter().filter_map(|task| task.get()) {
            task.abort();
        }
        farewell.await
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

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        opts: CoreOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream> {
        let remote = match self.is_for_here_only(&opts) {
            true => RemoteAcks::none(),
            false => {
                let event = convert::event_of(&packet).map_err(|e| Error::Encode(e.to_string()))?;
                let wait = timeout.unwrap_or_else(|| self.local.ack_timeout());
                RemoteAcks::ask(&self.node, event, target::to_wire(&opts), wait, self.format).await?
            }
        };
        self.let_ids_be_rooms(&opts);
        #[cfg(feature = "server")]
        self.ctr.0.hooks.queued(
            self.node.nsp.as_str(),
            || self.local.sockets(opts.clone()),
            local::size(&packet),
        );
        let (local, _) = self.local.broadcast_with_ack(packet, opts, timeout);
        Ok(futures_util::stream::select(local, remote))
    }

    async fn add_sockets(&self, opts: CoreOptions, rooms: impl RoomParam) -> Result<()> {
        let rooms: Vec<Room> = rooms.into_room_iter().collect();
        let publish = (!self.is_for_here_only(&opts)).then(|| target::to_wire(&opts));
        self.let_ids_be_rooms(&opts);
        self.local.add_sockets(opts, rooms.clone());
        match publish {
            Some(opts) => self.node.publish(Body::SocketsJoin { opts, rooms: target::names(rooms) }).await,
            None => Ok(()),
        }
    }

    async fn del_sockets(&self, opts: CoreOptions, rooms: impl RoomParam) -> Result<()> {
        let rooms: Vec<Room> = rooms.into_room_iter().collect();
        let publish = (!self.is_for_here_only(&opts)).then(|| target::to_wire(&opts));
        self.let_ids_be_rooms(&opts);
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
        self.let_ids_be_rooms(&opts);
        let mut rooms = self.local.rooms(opts);
        // The room of a socket's own id is nothing that an application of socketioxide would expect here.
        rooms.extend(remote.into_iter().flat_map(|RemoteSocket { id, rooms, .. }| {
            rooms.into_iter().filter(move |room| *room != id).map(Room::from)
        }));
        Ok(rooms.into_iter().filter(|room| room.parse::<Sid>().is_err()).collect())
    }

    async fn fetch_sockets(&self, opts: CoreOptions) -> Result<Vec<RemoteSocketData>> {
        let mut remote = Vec::new();
        if !self.is_for_here_only(&opts) {
            remote = self.fetch_elsewhere(&opts).await?;
        }
        self.let_ids_be_rooms(&opts);
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

/// An item of a stream of acknowledgements.
type AckItem<A> = AckStreamItem<A>;
