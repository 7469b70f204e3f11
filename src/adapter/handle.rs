//! The application's handle, with the functions that socketioxide's API lacks.

use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;

use super::admission::OnAdmission;
use super::application::{self, Owner, Ownership};
use super::goodbyes::Goodbyes;
use super::io_handle::IoHandle;
use super::node::Node;
use super::registry::Registry;
use super::served::{Adapters, not_served};
use super::{ClusterSocket, ServerSideAnswer, ServerSideEvent, Sid, server_side};
use crate::cluster::{Answer, Cluster, Collected, Heartbeats, server_response, socket_list};
use crate::postgres::{ForeignCode, Settings, TableAccess};
use crate::protocol::{Body, BroadcastOptions, Namespace, RemoteSocket, Value};
use crate::{AdapterOptions, Error, Result};

/// Creates an adapter for each namespace, and is the handle for functions that socketioxide's API lacks. Cheap to clone.
///
/// Keep a handle while the server runs. The [attached io](Self::attach) and the handlers belong to the handle and its
/// clones, and are dropped with the last of them. The adapter ends when the handles, the `SocketIo` and the layer are
/// dropped. A handler may hold a `SocketIo`. A handler that needs a handle takes a [detached](Self::detached) one; a plain
/// clone would keep its own handler alive until [`close`](Self::close).
#[derive(Clone)]
pub struct PostgresAdapterCtr(pub(super) Arc<Shared>, pub(super) Ownership);

/// The state that the adapters of all namespaces of one server share.
pub(super) struct Shared {
    pub(super) cluster: Cluster,
    pub(super) registry: Registry,
    goodbyes: Goodbyes,
    pub(super) adapters: Adapters,
    pub(super) on_admission: OnAdmission,
    pub(super) owner: Mutex<Weak<Owner>>,
    #[cfg(feature = "server")]
    pub(super) hooks: super::relay::Hooks,
    cleanup: OnceLock<AbortOnDropHandle<()>>,
    discovery: OnceLock<AbortOnDropHandle<()>>,
}

impl Shared {
    pub(super) fn node(&self, nsp: &Namespace) -> Result<Arc<Node>> {
        self.registry.get(nsp).ok_or_else(|| not_served(nsp))
    }
}

impl PostgresAdapterCtr {
    /// Connects. `url` is a `postgres://` URL or a string of libpq's `keyword=value` pairs.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) if the URL is malformed,
    /// [`Error::Connect`](crate::Error::Connect) if the server is unreachable, [`Error::Refused`](crate::Error::Refused) if
    /// it refuses the connection, and [`Error::TableShape`](crate::Error::TableShape) if the attachment table is another
    /// table.
    pub async fn connect(url: &str, options: AdapterOptions) -> Result<Self> {
        let cluster = Cluster::connect(Settings::parse(url)?, options).await?;
        cluster.check_attachment_table().await?;
        Ok(Self::new(cluster))
    }

    /// Makes an adapter on an existing connection.
    pub fn new(cluster: Cluster) -> Self {
        if cluster.options().heartbeats == Heartbeats::Auto {
            cluster.show_presence();
        }
        let shared = Shared {
            cluster,
            registry: Registry::default(),
            goodbyes: Goodbyes::default(),
            adapters: Adapters::default(),
            on_admission: OnAdmission::default(),
            owner: application::no_owner(),
            #[cfg(feature = "server")]
            hooks: super::relay::Hooks::default(),
            cleanup: OnceLock::new(),
            discovery: OnceLock::new(),
        };
        Self(Arc::new(shared), Ownership::default())
    }

    /// The connection to the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    /// A handle that keeps neither the io nor the handlers, for use inside of handlers.
    pub fn detached(&self) -> Self {
        Self(self.0.clone(), Ownership::default())
    }

    /// Gives the adapter access to the sockets: their handshake and data for `fetchSockets` of other servers, and all their
    /// namespaces for `disconnectSockets(true)`. The handshake does not contain headers with secrets, unless
    /// [`AdapterOptions::share_headers`] is set. Without this call, and after the last handle is dropped, the responses
    /// contain only ids and rooms. Only the first call has an effect.
    pub fn attach<A: socketioxide::adapter::Adapter>(&self, io: &socketioxide::SocketIo<A>) {
        self.1.claim(&self.0).attach(|| IoHandle::to(io.clone(), self.0.cluster.options().share_headers));
    }

    /// The same as [`attach`](Self::attach), with the client of each socket for the Admin UI of Node servers.
    #[cfg(feature = "server")]
    pub(crate) fn attach_for_admin_ui<A: socketioxide::adapter::Adapter>(
        &self,
        io: &socketioxide::SocketIo<A>,
    ) {
        let share_headers = self.0.cluster.options().share_headers;
        self.1.claim(&self.0).attach(|| IoHandle::for_admin_ui(io.clone(), share_headers));
    }

    /// Sets the handler of slow clients (backpressure): called with the namespace and the socket id of a client whose
    /// buffer is full, so that it has missed a packet. Without a handler, such a client is disconnected from the namespace
    /// as soon as its buffer has room for that packet. With a handler, the handler has to disconnect it. It must not block.
    /// Only the first call has an effect.
    pub fn on_slow_client(&self, handler: impl Fn(&str, Sid) + Send + Sync + 'static) {
        self.1.claim(&self.0).on_slow_client(handler);
    }

    /// Whether this server receives messages of other servers: false while Postgres is unreachable.
    pub fn is_listening(&self) -> bool {
        self.0.cluster.is_listening()
    }

    /// From now on a dynamic namespace starts (LISTEN, heartbeats) with the first call of
    /// [`wait_until_listening`](Self::wait_until_listening) for it, and at most `max` dynamic namespaces are started at
    /// once. Call it before the first client connects, if connect handlers (middlewares) refuse clients: socketioxide
    /// creates a dynamic namespace before it asks them, so that otherwise every client can make this server listen to any
    /// number of channels. Only the first call has an effect.
    pub fn start_namespaces_on_admission(&self, max: usize) {
        self.0.on_admission.enable(max);
    }

    /// Waits until a namespace listens to the other servers, for at most `patience`. Await it in the connect handler (the
    /// middleware) of a dynamic namespace, once the client is admitted: the first client creates the namespace and can be
    /// connected before it listens. Returns without an error if the time is over, since a server serves its own clients
    /// while Postgres is unreachable.
    ///
    /// Set [`connect_timeout`](socketioxide::SocketIoBuilder::connect_timeout) to some seconds for dynamic namespaces:
    /// when two clients create one in the same microseconds, one of them is not answered, and reconnects after that
    /// time.
    ///
    /// # Errors
    /// [`Error::Namespace`](crate::Error::Namespace) for a namespace that can never listen, since its name is too
    /// long for a channel, and for one beyond the limit of
    /// [`start_namespaces_on_admission`](Self::start_namespaces_on_admission).
    pub async fn wait_until_listening(&self, nsp: impl Into<Namespace>, patience: Duration) -> Result<()> {
        let nsp = nsp.into();
        // The namespace may have been deleted meanwhile.
        if let Ok(adapter) = self.0.adapters.get(&nsp) {
            adapter.start_if_dormant()?;
        }
        match self.0.node(&nsp) {
            Ok(node) => node.readiness.wait(patience).await,
            Err(_) => Ok(()),
        }
    }

    /// The number of live servers of a namespace, this one included.
    ///
    /// # Errors
    /// [`Error::Namespace`](crate::Error::Namespace) if this server has no such namespace.
    #[doc(alias = "serverCount")]
    pub async fn server_count(&self, nsp: impl Into<Namespace>) -> Result<usize> {
        Ok(self.0.node(&nsp.into())?.peers().await?.len() + 1)
    }

    /// Sends an event to the other servers of a namespace, not to clients. A tuple is several arguments, `()` is none.
    ///
    /// # Errors
    /// [`Error::Namespace`](crate::Error::Namespace) if this server has no such namespace,
    /// [`Error::ReservedEvent`](crate::Error::ReservedEvent), [`Error::Encode`](crate::Error::Encode), and those of
    /// [`Cluster::publish`].
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

    /// Sends an event to the other servers of a namespace, and collects one answer of each within `timeout`.
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
        self.0.node(&nsp.into())?.request(timeout, body, server_response).await?.collect().await
    }

    /// Sets the handler of an event that other servers send with `serverSideEmit`. Its return value is the answer for a
    /// server that requests one; `None` sends no answer. A later handler for the same event replaces the earlier one. A
    /// panic is logged and reported to the error handler, and ends nothing else.
    ///
    /// Handlers are called in the order of the events, as in Node: each up to its first `await` that has to wait, before
    /// the next message of the namespace is handled. It must not block.
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

    /// Removes the handler of an event. Running calls continue. Returns false if there is none.
    pub fn off_server_side(&self, nsp: impl Into<Namespace>, event: &str) -> bool {
        self.0.application().is_some_and(|application| application.handlers.remove(nsp.into(), event))
    }

    /// Sets the handler of all events, in all namespaces, that have no handler of their own. A later one replaces the
    /// earlier one.
    pub fn on_any_server_side<F, Fut>(&self, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ServerSideAnswer> + Send + 'static,
    {
        self.1.claim(&self.0).handlers.set_any(handler);
    }

    /// Removes that handler. Returns false if there is none.
    pub fn off_any_server_side(&self) -> bool {
        self.0.application().is_some_and(|application| application.handlers.remove_any())
    }

    /// The sockets of the other servers of a namespace, with handshake and data. Their ids may have any format.
    ///
    /// # Errors
    /// [`Error::Namespace`](crate::Error::Namespace) if this server has no such namespace, and those of
    /// [`Cluster::publish`].
    #[doc(alias = "fetchSockets")]
    pub async fn fetch_remote_sockets(
        &self,
        nsp: impl Into<Namespace>,
        mut opts: BroadcastOptions,
        timeout: Duration,
    ) -> Result<Collected<RemoteSocket>> {
        opts.flags = opts.flags.timeout(timeout);
        let body = |request_id| Body::FetchSockets { opts, request_id };
        Ok(self.0.node(&nsp.into())?.request(timeout, body, socket_list).await?.collect().await?.flatten())
    }

    /// The sockets of all servers of a namespace, those of this server first. It waits for the other servers within
    /// `timeout`. (`SocketIo::fetch_sockets` cannot return sockets of Node servers, whose ids are longer.)
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
        let Collected { answers, expected, silent, nodes, knew_nodes, unread, unresponsive } =
            self.fetch_remote_sockets(&nsp, opts, timeout).await?;
        let of_handle = |Answer { node, value }: Answer<RemoteSocket>| {
            let value = ClusterSocket::new(value, node.clone(), nsp.clone(), self.detached());
            Answer { node, value }
        };
        let answers = own.chain(answers).map(of_handle).collect();
        Ok(Collected {
            answers,
            expected: expected + 1,
            silent,
            nodes: nodes + 1,
            knew_nodes,
            unread,
            unresponsive,
        })
    }

    /// Drops the io and all handlers, and publishes a goodbye in every namespace, so that other servers do not wait for
    /// this one.
    ///
    /// # Errors
    /// Those of [`Cluster::publish`], the first of them: during an outage of Postgres,
    /// [`Error::Connect`](crate::Error::Connect) or [`Error::ConnectionLost`](crate::Error::ConnectionLost). The goodbye is
    /// then retried as long as the process runs. If the process ends, its advisory lock ends with its session, and Node
    /// servers count it until their heartbeat timeout.
    pub async fn close(&self) -> Result<()> {
        // First, since the goodbyes wait for Postgres.
        self.0.drop_application();
        let closing: Vec<_> = self.0.registry.close().into_iter().map(|node| self.close_node(node)).collect();
        let mut outcome = Ok(());
        for goodbye in closing {
            outcome = outcome.and(goodbye.await);
        }
        outcome
    }

    /// Starts the task that deletes old attachments periodically, one for all namespaces.
    pub(super) fn start_cleanup(&self) {
        self.0.cleanup.get_or_init(|| {
            let cluster = self.0.cluster.clone();
            AbortOnDropHandle::new(tokio::spawn(async move {
                warn_of_table_access(&cluster).await;
                loop {
                    tokio::time::sleep(cluster.options().cleanup_interval).await;
                    match cluster.clean_up_attachments().await {
                        Ok(rows) => metrics::counter!("pgio_attachments_deleted_total").increment(rows),
                        // An outage is reported already.
                        Err(error) if error.is_disconnected() && !cluster.is_listening() => {
                            tracing::debug!(%error, "cannot delete old attachments");
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot delete old attachments");
                            cluster.options().report(&error);
                        }
                    }
                }
            }))
        });
    }

    /// Starts the task that answers discovery requests, one for all namespaces.
    pub(super) fn answer_discovery(&self) {
        self.0.discovery.get_or_init(|| {
            AbortOnDropHandle::new(tokio::spawn(super::discovery::answer(Arc::downgrade(&self.0))))
        });
    }

    /// Closes a node at once. The returned future resolves when its goodbye is committed.
    pub(super) fn close_node(&self, node: Arc<Node>) -> impl Future<Output = Result<()>> + Send + use<> {
        node.dormancy.release();
        let goodbye = (node.close() && node.has_published()).then(|| self.0.goodbyes.push(node));
        async move {
            match goodbye {
                Some(goodbye) => goodbye.await,
                None => Ok(()),
            }
        }
    }
}

/// Warns if this role cannot use the attachment table, or if another role can run code as this role with a trigger of it.
/// Small events need no table, so either would show late.
async fn warn_of_table_access(cluster: &Cluster) {
    const NEEDED: &str = "events with binary data, and large ones, need the attachment table";
    let table = cluster.options().table_name.to_string();
    let TableAccess { missing_privileges, foreign_code } = match cluster.table_access().await {
        Ok(Some(access)) => access,
        Ok(None) => return tracing::warn!(error = %Error::MissingTable { table }, "{NEEDED}"),
        Err(error @ Error::TablePrivilege { .. }) => return tracing::warn!(%error, "{NEEDED}"),
        Err(error) => return tracing::debug!(%error, "the privileges on the attachment table are not known"),
    };
    if !missing_privileges.is_empty() {
        let reason = format!("no {}", missing_privileges.join(", no "));
        tracing::warn!(error = %Error::TablePrivilege { table: table.clone(), reason }, "{NEEDED}");
    }
    let ForeignCode { owner, triggers } = foreign_code;
    if let Some(owner) = owner {
        tracing::warn!(
            table,
            owner,
            "another role owns the attachment table, and can run code as this server"
        );
    }
    if !triggers.is_empty() {
        let triggers = triggers.join(", ");
        tracing::warn!(table, triggers, "the attachment table has triggers, which run code as this server");
    }
}

impl std::fmt::Debug for PostgresAdapterCtr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresAdapterCtr").field("cluster", &self.0.cluster).finish_non_exhaustive()
    }
}
