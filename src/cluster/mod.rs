//! A cluster's traffic: publish a message, subscribe to a namespace, ask all servers and collect their answers.
//!
//! [`Cluster`] is the handle. The [state machine](state) decides, the driver carries out.

mod ask;
#[cfg(feature = "adapter")]
mod discovery;
mod driver;
#[cfg(feature = "cli")]
mod growing;
mod health;
#[cfg(feature = "server")]
mod loopback_probe;
#[cfg(feature = "cli")]
mod node_monitor;
mod options;
mod received;
#[doc(hidden)]
pub mod state;
mod subscription;

#[cfg(feature = "adapter")]
use std::sync::atomic::AtomicU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, oneshot};
use tokio::time::timeout;

#[cfg(feature = "adapter")]
pub(crate) use ask::PendingRequest;
pub use ask::{Answer, Collected};
pub(crate) use ask::{client_said, node_listed, server_said};
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
pub use options::{AdapterOptions, ErrorHandler, Heartbeats};
pub use received::{Attached, Content, Event, Received};
#[cfg(feature = "adapter")]
pub(crate) use state::Reply;
pub use state::{LiveNode, Liveness, NspSupport};
pub use subscription::Subscription;

#[cfg(feature = "server")]
use crate::postgres::failure;
use crate::postgres::lossy_queue::lossy_queue;
use crate::postgres::{
    AttachmentTable, CheckedTable, OnLoss, Presence, Publisher, Receipt, SameServer, Session, Settings,
    delete_older, server_identity,
};
#[cfg(feature = "cli")]
use crate::postgres::{Backend, backends};
#[cfg(feature = "cli")]
use crate::protocol::Encoded;
use crate::protocol::{Body, Channel, Header, Message, MessageKind, Namespace, Uid};
use crate::{Error, Result};
#[cfg(feature = "adapter")]
use driver::Gone;
use driver::{Command, DriverHandle};
pub(crate) use state::SubscriptionId;
use subscription::SubscriptionGuard;

/// How many bytes may wait for one subscriber.
const SUBSCRIBER_BYTES: usize = 256 << 20;

/// How long the state machine's task may take to answer what it knows.
const STATUS_WITHIN: Duration = Duration::from_secs(5);

/// How long deleting old attachments may take.
const CLEANUP_WITHIN: Duration = Duration::from_secs(30);

/// The set-up of the session that looks up and cleans up: a locked table is tried again rather than waited for.
const LOOK_UP_SESSION: &str = "SET lock_timeout = '4s'";

/// A connection to the cluster that talks over one database: a cheap handle, to be cloned.
///
/// It keeps up to three sessions, all on one server: one publishes; one listens, and is opened when the first subscription
/// or request needs it; one looks up and deletes attachments, and is opened when there are some.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    settings: Settings,
    options: AdapterOptions,
    same_server: SameServer,
    publisher: Publisher,
    /// The session that publishes.
    publishing: Arc<Session>,
    /// The session that looks up and cleans up.
    rows: Arc<Session>,
    table: Arc<CheckedTable>,
    /// That of the last message, as the next one is most likely for the same namespace.
    last_channel: Mutex<Option<(Namespace, Channel)>>,
    driver: OnceCell<DriverHandle>,
    next_subscription: AtomicU64,
    /// How the others see that this process lives.
    presence: Presence,
    #[cfg(feature = "adapter")]
    next_node: AtomicU32,
    loopback: health::Loopback,
}

impl Cluster {
    /// Connects.
    ///
    /// # Errors
    /// Whatever [`Settings`] say of a connection that cannot be had: [`Error::Connect`], [`Error::Refused`].
    pub async fn connect(settings: Settings, options: AdapterOptions) -> Result<Self> {
        Self::connect_with(settings, options, OnLoss::Fail).await
    }

    /// The same, with what becomes of messages whose connection is lost.
    pub(crate) async fn connect_with(
        settings: Settings,
        options: AdapterOptions,
        on_loss: OnLoss,
    ) -> Result<Self> {
        let same_server = SameServer::default();
        let publishing = Arc::new(Session::open_beside(settings.clone(), same_server.clone()).await?);
        let table = Arc::new(CheckedTable::new(options.table_name.clone()));
        let publisher = Publisher::start(publishing.clone(), table.clone(), on_loss);
        let rows = Session::new(settings.clone(), same_server.clone(), Some(LOOK_UP_SESSION));
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
    /// [`Error::TablePrivilege`] and [`Error::TableLocked`] for what has to go through the attachment table;
    /// [`Error::Database`] where Postgres refuses. After [`Error::ConnectionLost`] it is not known whether the message went
    /// out.
    pub async fn publish(&self, message: &Message) -> Result<()> {
        self.enqueue(message).await?.await
    }

    /// Queues a message, waiting only while the queue is full. Messages go out in the order in which they are queued,
    /// many in one transaction; the receipt tells when this one is committed.
    ///
    /// # Errors
    /// [`Error::Namespace`] and [`Error::TooLarge`]; all others come with the receipt.
    pub async fn enqueue(&self, message: &Message) -> Result<Receipt> {
        let channel = self.channel(&message.nsp)?;
        let encoded = message.encode(self.0.options.payload_threshold)?;
        let is_heartbeat = message.kind() == MessageKind::Heartbeat;
        self.0.publisher.enqueue(channel, encoded, is_heartbeat).await
    }

    /// The same for a durable event: it travels by the attachment table, and pgio nodes, tails and subscriptions that were
    /// not listening when it was sent receive it afterwards, as long as its row is there.
    ///
    /// # Errors
    /// [`Error::NotDurable`] for anything but an event for clients, a volatile one or one that asks for acknowledgements
    /// included; [`Error::Namespace`] and [`Error::TooLarge`]; all others come with the receipt.
    pub async fn enqueue_durable(&self, message: &Message) -> Result<Receipt> {
        let channel = self.channel(&message.nsp)?;
        let encoded = message.encode_durable(&channel)?;
        self.0.publisher.enqueue(channel, encoded, false).await
    }

    /// The same for a message that is encoded already, and is no heartbeat.
    #[cfg(feature = "cli")]
    pub(crate) async fn enqueue_encoded(&self, channel: Channel, encoded: Encoded) -> Result<Receipt> {
        self.0.publisher.enqueue(channel, encoded, false).await
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

    /// Subscribes to namespaces; returns when Postgres has confirmed it, however long it is away before. From then on
    /// nothing is missed without [`Event::Lost`] or [`Event::Missed`]. Durable events that were sent between `Lost` and
    /// [`Event::Restored`] follow, once each and in the order of their ids, before what comes live.
    ///
    /// `wants` sees the header of each message before anything else of it is read (`None` where there is none that
    /// makes sense); attachments that no filter accepts are not looked up. It is called in between other work, so it
    /// must not block.
    ///
    /// # Errors
    /// [`Error::Connect`] where there is no listening connection and none can be had; [`Error::Namespace`];
    /// [`Error::TableShape`] where the attachment table holds something else; [`Error::Database`] where the server
    /// refuses to listen, as a standby does.
    pub async fn subscribe<N: Into<Namespace>>(
        &self,
        namespaces: impl IntoIterator<Item = N>,
        wants: impl Fn(Option<&Header>) -> bool + Send + Sync + 'static,
    ) -> Result<Subscription> {
        let prefix = &self.0.options.channel_prefix;
        let channels = namespaces.into_iter().map(|nsp| nsp.into().channel(prefix)).collect::<Result<_>>()?;
        self.subscribe_to(channels, wants).await
    }

    /// The same for channels, which may be of no namespace.
    async fn subscribe_to(
        &self,
        channels: Vec<Channel>,
        wants: impl Fn(Option<&Header>) -> bool + Send + Sync + 'static,
    ) -> Result<Subscription> {
        let driver = self.driver().await?;
        let id = SubscriptionId(self.0.next_subscription.fetch_add(1, Ordering::Relaxed));
        let (writer, events) = lossy_queue(SUBSCRIBER_BYTES);
        let guard = SubscriptionGuard { id, reaper: driver.reaper.clone() };
        // Declared after the guard, and so dropped before it: the driver takes no subscription whose caller is gone.
        let (made, confirmed) = oneshot::channel();
        let interest = Box::new(wants);
        driver.send(Command::Subscribe { id, channels, interest, events: writer, made }).await?;
        confirmed.await.unwrap_or(Err(Error::Closed))?;
        Ok(Subscription { events, _guard: guard })
    }

    /// Whether the listening connection answers and listens to every channel that was listened to before: false while
    /// Postgres is unreachable, or before the first subscription.
    pub fn is_listening(&self) -> bool {
        self.0.driver.get().is_some_and(|driver| driver.status.is_listening())
    }

    /// How many channels the listening session listens to, as far as the server has confirmed it.
    pub fn channels_listening(&self) -> usize {
        self.0.driver.get().map_or(0, |driver| driver.status.channels())
    }

    /// Whether it listens, and not one notification has ever come. Once something was published on a channel that it
    /// listens on, this says that none comes.
    pub(crate) fn is_deaf(&self) -> bool {
        self.0
            .driver
            .get()
            .is_some_and(|driver| driver.status.is_listening() && !driver.status.has_received())
    }

    /// How often notifications may have been missed since the start.
    #[cfg(feature = "server")]
    pub(crate) fn interruptions(&self) -> u64 {
        self.0.driver.get().map_or(0, |driver| driver.status.interruptions())
    }

    /// Whether the session that publishes answers in time, which writes nothing. One that does not is for the publisher to
    /// replace, as it knows what is in progress.
    #[cfg(feature = "server")]
    pub(crate) async fn publishing_session_answers(&self, patience: Duration) -> bool {
        let answer =
            async { self.0.publishing.client().await?.check_connection().await.map_err(|e| failure(&e)) };
        matches!(timeout(patience, answer).await, Ok(Ok(())))
    }

    /// How the sessions fare: what stands in the way of listening and of publishing.
    pub fn health(&self) -> Health {
        Health::of(self.is_listening(), self.0.publisher.health(), &self.0.loopback)
    }

    /// How many messages were sent again after a loss of the connection that may have been sent before.
    #[cfg(feature = "cli")]
    pub(crate) fn maybe_twice(&self) -> u64 {
        self.0.publisher.health().maybe_twice
    }

    /// Which database this is, without secrets: `app at 10.0.0.5:5432 as alice`.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn server_identity(&self) -> Result<String> {
        server_identity(&self.0.rows).await
    }

    /// Whose the sessions are that have sent messages.
    ///
    /// # Errors
    /// Those of the connection, and [`Error::ConnectionLost`] where Postgres does not answer in time.
    #[cfg(feature = "cli")]
    pub(crate) async fn backends(&self, pids: &[i32]) -> Result<std::collections::HashMap<i32, Backend>> {
        if pids.is_empty() {
            return Ok(Default::default());
        }
        match timeout(STATUS_WITHIN, backends(&self.0.rows, pids)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::ConnectionLost(format!("no answer within {} s", STATUS_WITHIN.as_secs()))),
        }
    }

    /// Deletes rows of the attachment table that are older than the cleanup interval, as every node does; returns how
    /// many there were.
    ///
    /// # Errors
    /// [`Error::TableShape`] where the table holds something else than attachments, [`Error::MissingTable`],
    /// [`Error::TablePrivilege`], [`Error::TableLocked`] and those of the connection.
    pub async fn clean_up_attachments(&self) -> Result<u64> {
        let options = self.options();
        let client = self.0.rows.client().await?;
        let deleting = async {
            let table = self.0.table.checked(&client).await?;
            delete_older(&client, table, options.cleanup_interval).await
        };
        match timeout(CLEANUP_WITHIN, deleting).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.0.rows.abandon(&client).await;
                Err(Error::ConnectionLost(format!("no answer within {} s", CLEANUP_WITHIN.as_secs())))
            }
        }
    }

    /// Creates the attachment table, with an index on `created_at`, where there is none; tells whether it did. Any number
    /// of nodes may do this at once.
    ///
    /// # Errors
    /// [`Error::TableShape`] where the table of that name holds something else than attachments,
    /// [`Error::TableDefinition`] where the schema is missing, or the right to create tables in it, and those of the
    /// connection.
    pub async fn create_attachment_table(&self) -> Result<bool> {
        let Inner { settings, options, .. } = &*self.0;
        let table = AttachmentTable::connect(settings.clone(), options.table_name.clone()).await?;
        table.create_if_missing().await
    }

    /// Checks that the attachment table holds attachments, as every reader of the cluster does before it starts: a node
    /// deletes what is old in it. A missing table passes.
    ///
    /// # Errors
    /// [`Error::TableShape`] where the table has any column that an attachment table has not, lacks one, is no table, or is
    /// referred to by a foreign key; and those of the connection.
    pub async fn check_attachment_table(&self) -> Result<()> {
        let client = self.0.publishing.client().await?;
        match timeout(STATUS_WITHIN, self.0.table.checked(&client)).await {
            // A role that cannot see the table cannot use it either.
            Ok(Err(Error::TablePrivilege { .. })) => Ok(()),
            Ok(outcome) => outcome.map(drop),
            Err(_) => Err(Error::ConnectionLost(format!("no answer within {} s", STATUS_WITHIN.as_secs()))),
        }
    }

    async fn driver(&self) -> Result<&DriverHandle> {
        let Inner { settings, options, same_server, publisher, rows, table, driver, presence, .. } = &*self.0;
        let start = async || {
            match self.check_attachment_table().await {
                // The listening connection may be had all the same. Whatever uses the table checks it again.
                Err(error) if error.is_disconnected() => {}
                outcome => outcome?,
            }
            DriverHandle::start(
                settings.clone(),
                options,
                same_server.clone(),
                publisher.clone(),
                rows.clone(),
                table.clone(),
                presence.clone(),
            )
            .await
        };
        driver.get_or_try_init(start).await
    }

    /// The live nodes of a namespace with a subscription, and whether the list is complete.
    pub(crate) async fn live_nodes(&self, nsp: &Namespace) -> Result<(Vec<LiveNode>, bool)> {
        let channel = self.channel(nsp)?;
        let (answer, answered) = oneshot::channel();
        self.driver().await?.send(Command::LiveNodes { channel, answer }).await?;
        match timeout(STATUS_WITHIN, answered).await {
            Ok(Ok(live)) => Ok(live),
            _ => Err(Error::Closed),
        }
    }

    /// A uid for a node of this process.
    #[cfg(feature = "adapter")]
    pub(crate) fn new_node(&self) -> Uid {
        let number = self.0.next_node.fetch_add(1, Ordering::Relaxed);
        self.0.presence.instance().uid(number)
    }

    /// Shows the other servers from now on that this process lives, by a lock, so that its nodes need no heartbeats.
    #[cfg(feature = "adapter")]
    pub(crate) fn show_presence(&self) {
        self.0.presence.show();
    }

    /// A node serves a namespace that it has subscribed to. From now on it answers initial heartbeats, and sends
    /// heartbeats where others need them. With `hello_pending` its own initial heartbeat is published, until that
    /// succeeds. It ends with the subscription, with a goodbye.
    #[cfg(feature = "adapter")]
    pub(crate) async fn join(
        &self,
        subscription: SubscriptionId,
        nsp: &Namespace,
        uid: &Uid,
        hello_pending: bool,
    ) -> Result<()> {
        let (channel, uid) = (self.channel(nsp)?, uid.clone());
        self.driver().await?.send(Command::Join { subscription, channel, uid, hello_pending }).await
    }

    /// The goodbye of a node that has ended could not be published: it is tried until it is.
    #[cfg(feature = "adapter")]
    pub(crate) async fn queue_goodbye(&self, nsp: &Namespace, uid: &Uid) -> Result<()> {
        let (channel, uid) = (self.channel(nsp)?, uid.clone());
        self.driver().await?.send(Command::QueueGoodbye { channel, uid }).await
    }

    /// A node ends and says goodbye itself: the end of its subscription, which follows, is no reason to say it as well.
    #[cfg(feature = "adapter")]
    pub(crate) fn withdraw(&self, nsp: &Namespace, uid: &Uid) {
        if let (Ok(channel), Some(driver)) = (self.channel(nsp), self.0.driver.get()) {
            driver.reaper.add(Gone::Member { channel, uid: uid.clone() });
        }
    }

    /// A node that ended did not come to its goodbye.
    #[cfg(feature = "adapter")]
    pub(crate) fn give_up_goodbye(&self, nsp: &Namespace, uid: &Uid) {
        if let (Ok(channel), Some(driver)) = (self.channel(nsp), self.0.driver.get()) {
            driver.reaper.add(Gone::Goodbye { channel, uid: uid.clone() });
        }
    }

    /// A node ends. When this returns, no message is queued any more that shows it live.
    #[cfg(feature = "adapter")]
    pub(crate) async fn leave(&self, nsp: &Namespace, uid: &Uid) {
        let (Ok(channel), Some(driver)) = (self.channel(nsp), self.0.driver.get()) else { return };
        let (left, has_left) = oneshot::channel();
        // Without a driver there is nothing to leave.
        if driver.send(Command::Leave { channel, uid: uid.clone(), left }).await.is_ok() {
            has_left.await.ok();
        }
    }

    /// How long a request waits for answers unless it says otherwise.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.0.options.request_timeout
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("options", &self.0.options).finish_non_exhaustive()
    }
}
