//! A cluster's traffic: publish a message, subscribe to a namespace, send a request to all servers and collect their
//! answers.
//!
//! [`Cluster`] is the handle. The [state machine](state) decides, and the driver executes its decisions.

#[cfg(feature = "adapter")]
mod discovery;
mod driver;
mod early_listener;
#[cfg(feature = "cli")]
mod growing;
mod health;
#[cfg(feature = "server")]
mod loopback_probe;
#[cfg(feature = "adapter")]
mod membership;
#[cfg(feature = "cli")]
mod node_monitor;
mod options;
mod received;
mod request;
#[doc(hidden)]
pub mod state;
mod subscription;

#[cfg(feature = "adapter")]
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::timeout;

#[cfg(feature = "cli")]
pub(crate) use discovery::Discovered;
#[cfg(feature = "adapter")]
pub(crate) use driver::size_of_sockets;
#[cfg(feature = "cli")]
pub(crate) use growing::GrowingSubscription;
pub use health::Health;
#[cfg(feature = "server")]
pub(crate) use loopback_probe::{LoopbackProbe, ProbeOutcome};
#[cfg(feature = "cli")]
pub(crate) use node_monitor::{NodeEvent, NodeMonitor, NodeName};
pub(crate) use options::LONGEST;
pub use options::{AdapterOptions, ErrorHandler, Heartbeats};
pub use received::{Attached, Content, Event, Received};
pub(crate) use request::Awaited;
#[cfg(feature = "adapter")]
pub(crate) use request::PendingRequest;
pub use request::{Answer, Collected};
pub(crate) use request::{client_ack, server_response, socket_list};
pub use state::{ListeningSession, LiveNode, Liveness, NspSupport, Unresponsive};
#[cfg(feature = "adapter")]
pub(crate) use state::{Reply, SubscriptionId};
pub use subscription::Subscription;

#[cfg(feature = "adapter")]
use crate::postgres::TableAccess;
#[cfg(feature = "server")]
use crate::postgres::failure;
use crate::postgres::{
    AttachmentTable, CheckedTable, DeletedRows, GroupReceipt, Listener, MessageGroup, OnLoss, Presence,
    Publisher, Receipt, SameServer, Session, Settings, delete_some_older, no_answer, server_identity,
};
#[cfg(feature = "cli")]
use crate::postgres::{Backend, backends};
use crate::protocol::{Body, Channel, Encoded, Message, MessageKind, Namespace, Uid};
use crate::{Error, Result};
use driver::{Command, DriverHandle};
use early_listener::EarlyListener;

/// The timeout of a query to the driver's task or to the server.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout of one statement that deletes old attachments.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);

/// The set-up of the session that looks up and deletes attachments: a statement on a locked table fails, and is retried. Each
/// statement has a deadline here, so a timeout of the role must not end it before.
const LOOK_UP_SESSION_SETUP: &str = "SET lock_timeout = '4s'; SET statement_timeout = 0";

/// A connection to the cluster that communicates over one database. It is a handle that is cheap to clone.
///
/// It keeps up to three sessions, all on one server. The first publishes. The second listens; the first subscription or
/// request opens it. The third looks up and deletes attachments, and reads which servers listen; its first use
/// opens it. After a gap, a fourth one lists the durable events, and ends.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    settings: Settings,
    options: AdapterOptions,
    same_server: SameServer,
    publisher: Publisher,
    /// The session that publishes.
    publishing: Arc<Session>,
    /// The session that looks up and deletes attachments.
    rows: Arc<Session>,
    table: Arc<CheckedTable>,
    /// A cache of the last channel: the next message is most likely for the same namespace.
    last_channel: Mutex<Option<(Namespace, Channel)>>,
    driver: OnceCell<DriverHandle>,
    early_listener: EarlyListener,
    next_subscription: AtomicU64,
    /// The advisory lock that shows other servers that this process is alive.
    presence: Presence,
    #[cfg(feature = "adapter")]
    next_node: AtomicU32,
    loopback: health::Loopback,
}

impl Cluster {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Setting`] and [`Error::Namespace`] for options that cannot be used, [`Error::Connect`] if the server is
    /// unreachable, and [`Error::Refused`] if it refuses the connection.
    pub async fn connect(settings: Settings, options: AdapterOptions) -> Result<Self> {
        Self::connect_with(settings, options, OnLoss::Fail).await
    }

    /// The same, with a policy for messages whose connection is lost.
    pub(crate) async fn connect_with(
        settings: Settings,
        options: AdapterOptions,
        on_loss: OnLoss,
    ) -> Result<Self> {
        Self::connect_beside(EarlyListener::default(), settings, options, on_loss).await
    }

    /// The same for a process that is about to subscribe: the listening session connects at the same time.
    #[cfg(feature = "cli")]
    pub(crate) async fn connect_to_listen(settings: Settings, options: AdapterOptions) -> Result<Self> {
        let listener = EarlyListener::start(settings.clone());
        Self::connect_beside(listener, settings, options, OnLoss::Fail).await
    }

    async fn connect_beside(
        early_listener: EarlyListener,
        settings: Settings,
        options: AdapterOptions,
        on_loss: OnLoss,
    ) -> Result<Self> {
        options.check()?;
        let same_server = SameServer::default();
        let publishing = Arc::new(Session::open_with(settings.clone(), same_server.clone()).await?);
        let table = Arc::new(CheckedTable::new(options.table_name.clone()));
        let publisher = Publisher::start(publishing.clone(), table.clone(), on_loss);
        let rows = Session::new(settings.clone(), same_server.clone(), Some(LOOK_UP_SESSION_SETUP));
        let presence = Presence::new(options.heartbeat_timeout);
        Ok(Self(Arc::new(Inner {
            settings,
            options,
            same_server,
            publisher,
            publishing,
            rows: Arc::new(rows),
            table,
            last_channel: Mutex::default(),
            driver: OnceCell::new(),
            early_listener,
            next_subscription: AtomicU64::new(1),
            presence,
            #[cfg(feature = "adapter")]
            next_node: AtomicU32::new(fastrand::u32(..)),
            loopback: health::Loopback::default(),
        })))
    }

    /// The options that all members of the cluster have to agree on.
    pub fn options(&self) -> &AdapterOptions {
        &self.0.options
    }

    /// Publishes a message; returns when Postgres has committed it.
    ///
    /// # Errors
    /// [`Error::Namespace`] and [`Error::TooLarge`] before anything is sent; [`Error::MissingTable`],
    /// [`Error::TablePrivilege`] and [`Error::TableLocked`] for messages that go through the attachment table;
    /// [`Error::Database`] if Postgres refuses. After [`Error::ConnectionLost`] it is not known whether the message was
    /// published.
    pub async fn publish(&self, message: &Message) -> Result<()> {
        self.enqueue(message).await?.await
    }

    /// Queues a message. Waits only while the queue is full (backpressure). Messages are published in the order in which
    /// they are queued, many in one transaction (group commit). The receipt resolves when this message is committed.
    ///
    /// # Errors
    /// [`Error::Namespace`] and [`Error::TooLarge`]; all others come with the receipt.
    pub async fn enqueue(&self, message: &Message) -> Result<Receipt> {
        let (channel, encoded) = self.encode(message)?;
        let is_heartbeat = message.kind() == MessageKind::Heartbeat;
        self.0.publisher.enqueue(channel, encoded, is_heartbeat).await
    }

    /// Waits until every message that was queued before is committed, or has failed. Await it before the end of the
    /// program, as queued messages end with the last handle of the cluster. The receipts of the messages have the errors.
    ///
    /// # Errors
    /// [`Error::Closed`] if the publisher has ended.
    pub async fn flush(&self) -> Result<()> {
        self.0.publisher.flush().await
    }

    /// Queues a durable event, as [`enqueue`](Self::enqueue) queues a message. It goes through the attachment table. Nodes, tails and subscriptions of pgio that did
    /// not listen when it was sent replay it while its row exists.
    ///
    /// # Errors
    /// [`Error::NotDurable`] for a message that is no event for clients, for a volatile event, and for an event
    /// with acknowledgements; [`Error::Namespace`] and [`Error::TooLarge`]; all others come with the receipt.
    pub async fn enqueue_durable(&self, message: &Message) -> Result<Receipt> {
        let (channel, encoded) = self.encode_durable(message)?;
        self.0.publisher.enqueue(channel, encoded, false).await
    }

    /// Queues encoded messages together. The receipt resolves when all are committed or have failed.
    pub(crate) async fn enqueue_group(&self, group: MessageGroup) -> Result<GroupReceipt> {
        self.0.publisher.enqueue_group(group).await
    }

    /// Encodes a message, for the channel of its namespace.
    pub(crate) fn encode(&self, message: &Message) -> Result<(Channel, Encoded)> {
        let channel = self.channel(&message.nsp)?;
        Ok((channel, message.encode(self.0.options.payload_threshold)?))
    }

    /// Encodes a durable event, for the channel of its namespace.
    pub(crate) fn encode_durable(&self, message: &Message) -> Result<(Channel, Encoded)> {
        let channel = self.channel(&message.nsp)?;
        let encoded = message.encode_durable(&channel)?;
        Ok((channel, encoded))
    }

    /// The channel of a namespace.
    fn channel(&self, nsp: &Namespace) -> Result<Channel> {
        let mut last = self.0.last_channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, channel)) = &*last
            && known == nsp
        {
            return Ok(channel.clone());
        }
        let channel = nsp.channel(&self.0.options.channel_prefix)?;
        *last = Some((nsp.clone(), channel.clone()));
        Ok(channel)
    }

    /// Publishes as an emitter, which no node counts as a peer.
    pub(crate) async fn publish_as_emitter(&self, nsp: &Namespace, body: Body) -> Result<()> {
        self.publish(&Message { uid: Uid::emitter(), nsp: nsp.clone(), body }).await
    }

    /// Whether the listening connection answers, and listens to every channel that it listened to before. False while
    /// Postgres is unreachable, and before the first subscription.
    pub fn is_listening(&self) -> bool {
        self.0.driver.get().is_some_and(|driver| driver.status.is_listening())
    }

    /// The number of channels that the server has confirmed on the listening session.
    pub fn channels_listening(&self) -> usize {
        self.0.driver.get().map_or(0, |driver| driver.status.channels())
    }

    /// Whether the session listens and has never received a notification. After a publication on one of its channels, this
    /// means that notifications are not delivered.
    pub(crate) fn receives_nothing(&self) -> bool {
        self.0
            .driver
            .get()
            .is_some_and(|driver| driver.status.is_listening() && !driver.status.has_received())
    }

    /// The number of gaps in the notifications since the start.
    #[cfg(feature = "server")]
    pub(crate) fn interruptions(&self) -> u64 {
        self.0.driver.get().map_or(0, |driver| driver.status.interruptions())
    }

    /// Whether the publishing session answers in time. The check writes nothing. The publisher replaces a session that does
    /// not answer, since it knows the messages in flight.
    #[cfg(feature = "server")]
    pub(crate) async fn publishing_session_answers(&self, limit: Duration) -> bool {
        let answer =
            async { self.0.publishing.client().await?.check_connection().await.map_err(|e| failure(&e)) };
        matches!(timeout(limit, answer).await, Ok(Ok(())))
    }

    /// The health of listening and publishing.
    pub fn health(&self) -> Health {
        Health::of(self.is_listening(), self.0.publisher.health(), &self.0.loopback)
    }

    /// The number of messages that were sent again after a lost connection and may be duplicates.
    #[cfg(feature = "cli")]
    pub(crate) fn possible_duplicates(&self) -> u64 {
        self.0.publisher.health().possible_duplicates
    }

    /// The identity of the database, without secrets: `app at 10.0.0.5:5432 as alice`.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn server_identity(&self) -> Result<String> {
        server_identity(&self.0.publishing).await
    }

    /// The clients of the Postgres sessions that have sent messages.
    ///
    /// # Errors
    /// Those of the connection, and [`Error::ConnectionLost`] if Postgres does not answer in time.
    #[cfg(feature = "cli")]
    pub(crate) async fn backends(&self, pids: &[i32]) -> Result<std::collections::HashMap<i32, Backend>> {
        if pids.is_empty() {
            return Ok(Default::default());
        }
        in_time(backends(&self.0.rows, pids)).await
    }

    /// Deletes rows of the attachment table that are older than the cleanup interval, as every node does. Returns the
    /// number of deleted rows.
    ///
    /// # Errors
    /// [`Error::TableShape`] if the table is no attachment table, [`Error::MissingTable`],
    /// [`Error::TablePrivilege`], [`Error::TableLocked`] and those of the connection.
    pub async fn clean_up_attachments(&self) -> Result<u64> {
        let mut deleted = 0;
        loop {
            // A few at a time: look-ups use the same session, and what is deleted stays deleted if a later statement fails.
            let DeletedRows { rows, may_have_more } = self.clean_up_some_attachments().await?;
            deleted += rows;
            if !may_have_more {
                return Ok(deleted);
            }
        }
    }

    async fn clean_up_some_attachments(&self) -> Result<DeletedRows> {
        let options = self.options();
        let client = self.0.rows.client().await?;
        let deleting = async {
            let table = self.0.table.checked(&client).await?;
            delete_some_older(&client, table, options.cleanup_interval).await
        };
        match timeout(CLEANUP_TIMEOUT, deleting).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.0.rows.abandon(&client).await;
                Err(no_answer(CLEANUP_TIMEOUT))
            }
        }
    }

    /// Creates the attachment table, with an index on `created_at`, if it does not exist. Returns whether it was created.
    /// Any number of nodes may call this concurrently.
    ///
    /// # Errors
    /// [`Error::TableShape`] if the table of that name is no attachment table, [`Error::TableDefinition`] if the
    /// schema or the privilege to create tables in it is missing, and those of the connection.
    pub async fn create_attachment_table(&self) -> Result<bool> {
        let client = self.0.publishing.client().await?;
        if in_time(self.0.table.exists(&client)).await? {
            return Ok(false);
        }
        let Inner { settings, options, .. } = &*self.0;
        let table = AttachmentTable::connect(settings.clone(), options.table_name.clone()).await?;
        table.create_if_missing().await
    }

    /// Checks the columns of the attachment table, as every reader of the cluster does before it starts: a node deletes old
    /// rows in it. A missing table passes.
    ///
    /// # Errors
    /// [`Error::TableShape`] if the table has other columns than an attachment table, is no table, or is the
    /// target of a foreign key; and those of the connection.
    pub async fn check_attachment_table(&self) -> Result<()> {
        let client = self.0.publishing.client().await?;
        match in_time(self.0.table.checked(&client)).await {
            // A role that cannot see the table cannot use it either.
            Err(Error::TablePrivilege { .. }) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Reads how this role may use the attachment table, and what may run code of other roles when it does. `None` without
    /// a table.
    ///
    /// # Errors
    /// Those of the connection.
    #[cfg(feature = "adapter")]
    pub(crate) async fn table_access(&self) -> Result<Option<TableAccess>> {
        let client = self.0.publishing.client().await?;
        in_time(self.0.table.access(&client)).await
    }

    async fn driver(&self) -> Result<&DriverHandle> {
        let Inner { settings, options, same_server, publisher, rows, table, driver, presence, .. } = &*self.0;
        let start = async || {
            let listening = self.0.early_listener.take_or_connect(settings);
            let (checked, listening) = join(self.check_attachment_table(), listening).await;
            match checked {
                // The listening connection may still succeed. Every user of the table checks it again.
                Err(error) if error.is_disconnected() => {}
                outcome => outcome?,
            }
            let listener = Listener::start(listening?, settings, same_server.clone(), presence.clone());
            Ok(DriverHandle::start(
                listener,
                options,
                publisher.clone(),
                rows.clone(),
                table.clone(),
                presence.clone(),
            ))
        };
        driver.get_or_try_init(start).await
    }

    /// The live nodes of a namespace with a subscription, and whether the list is complete.
    pub(crate) async fn live_nodes(&self, nsp: &Namespace) -> Result<(Vec<LiveNode>, bool)> {
        self.live_nodes_of([nsp]).await?.pop().ok_or(Error::Closed)
    }

    /// The same for several namespaces, in their order.
    pub(crate) async fn live_nodes_of(
        &self,
        namespaces: impl IntoIterator<Item = &Namespace>,
    ) -> Result<Vec<(Vec<LiveNode>, bool)>> {
        let channels = namespaces.into_iter().map(|nsp| self.channel(nsp)).collect::<Result<_>>()?;
        let (answer, answered) = oneshot::channel();
        self.driver().await?.send(Command::LiveNodes { channels, answer }).await?;
        match timeout(STATUS_TIMEOUT, answered).await {
            Ok(Ok(live)) => Ok(live),
            _ => Err(Error::Closed),
        }
    }

    /// The default timeout of a request.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.0.options.request_timeout
    }
}

/// The outcome of a query, for which the server has [`STATUS_TIMEOUT`].
async fn in_time<T>(query: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(STATUS_TIMEOUT, query).await.unwrap_or_else(|_| Err(no_answer(STATUS_TIMEOUT)))
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("options", &self.0.options).finish_non_exhaustive()
    }
}
