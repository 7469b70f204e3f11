//! A cluster's traffic: publish a message, subscribe to a namespace, ask all nodes and collect their answers.

mod ask;
#[cfg(feature = "cli")]
mod dialects;
#[cfg(feature = "server")]
mod echo;
mod hub;
mod nodes;
mod options;
mod received;
#[cfg(feature = "cli")]
mod roll_call;
#[doc(hidden)]
pub mod state;
mod subscription;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

pub use ask::{Answer, Collected};
#[cfg(feature = "adapter")]
pub(crate) use ask::{Asking, Said};
pub(crate) use ask::{client_said, node_listed, server_said};
#[cfg(feature = "cli")]
pub(crate) use dialects::Dialect;
#[cfg(feature = "server")]
pub(crate) use echo::{Echo, Sounding};
pub use nodes::LiveNode;
pub use options::{AdapterOptions, ErrorHandler};
pub use received::{Attached, Content, Event, Received};
#[cfg(feature = "cli")]
pub(crate) use roll_call::{NodeName, RollCall, Word};
pub use subscription::Subscription;

use crate::Result;
use crate::postgres::{AttachmentTable, Publisher, Receipt, Session, Settings, delete_older, whereabouts};
use crate::protocol::{Body, Channel, Header, Message, Namespace, Uid};
use hub::Hub;

/// A connection to the cluster that talks over one database: a cheap handle, to be cloned.
///
/// It keeps two connections to Postgres: one publishes and looks up attachments; the other listens, does nothing else,
/// and is opened when the first subscription needs it.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    settings: Settings,
    options: AdapterOptions,
    session: Arc<Session>,
    publisher: Publisher,
    /// That of the last message, as the next one is most likely for the same namespace.
    last_channel: Mutex<Option<(Namespace, Channel)>>,
    hub: OnceCell<Hub>,
}

impl Cluster {
    /// Connects.
    ///
    /// # Errors
    /// Whatever [`Settings`] say of a connection that cannot be had: [`Error::Connect`](crate::Error::Connect).
    pub async fn connect(settings: Settings, options: AdapterOptions) -> Result<Self> {
        let session = Arc::new(Session::open(settings.clone()).await?);
        let publisher = Publisher::start(session.clone(), options.table_name.clone());
        let (last_channel, hub) = Default::default();
        Ok(Self(Arc::new(Inner { settings, options, session, publisher, last_channel, hub })))
    }

    /// The options that all members of the cluster have to agree on.
    pub fn options(&self) -> &AdapterOptions {
        &self.0.options
    }

    /// Publishes a message; returns when Postgres has committed it.
    ///
    /// # Errors
    /// [`Error::Namespace`](crate::Error::Namespace) and [`Error::TooLarge`](crate::Error::TooLarge) before anything is sent; [`Error::MissingTable`](crate::Error::MissingTable) and
    /// [`Error::TablePrivilege`](crate::Error::TablePrivilege) for what has to go through the attachment table; [`Error::Database`](crate::Error::Database) where Postgres
    /// refuses. After [`Error::ConnectionLost`](crate::Error::ConnectionLost) it is not known whether the message went out.
    pub async fn publish(&self, message: &Message) -> Result<()> {
        self.enqueue(message).await?.await
    }

    /// Queues a message, waiting only while the queue is full. Messages go out in the order in which they are queued,
    /// many in one transaction; the receipt tells when this one is committed.
    ///
    /// # Errors
    /// [`Error::Namespace`](crate::Error::Namespace) and [`Error::TooLarge`](crate::Error::TooLarge); all others come with the receipt.
    pub async fn enqueue(&self, message: &Message) -> Result<Receipt> {
        let channel = self.channel(&message.nsp)?;
        let encoded = message.encode(self.0.options.payload_threshold)?;
        self.0.publisher.enqueue(channel, encoded).await
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

    /// Publishes as an emitter, whom no node counts as a peer.
    pub(crate) async fn publish_as_emitter(&self, nsp: &Namespace, body: Body) -> Result<()> {
        self.publish(&Message { uid: Uid::emitter(), nsp: nsp.clone(), body }).await
    }

    /// Subscribes to namespaces. From the moment this returns nothing is missed without being told so.
    ///
    /// `wants` sees the header of each message before anything else of it is read (`None` where there is none that
    /// makes sense); attachments that nobody wants are not looked up.
    ///
    /// # Errors
    /// [`Error::Connect`](crate::Error::Connect) where the listening connection cannot be had; [`Error::Namespace`](crate::Error::Namespace); [`Error::Database`](crate::Error::Database) where
    /// the server refuses to listen, as a standby does.
    pub async fn subscribe(
        &self,
        namespaces: &[Namespace],
        wants: impl Fn(Option<&Header>) -> bool + Send + Sync + 'static,
    ) -> Result<Subscription> {
        self.hub().await?.subscribe(namespaces, Box::new(wants)).await
    }

    /// Whether the listening connection is there: false while Postgres is away, or before anybody subscribed.
    pub fn is_listening(&self) -> bool {
        self.0.hub.get().is_some_and(Hub::is_listening)
    }

    /// Whether it listens, and not one notification has ever come. Once something was published on a channel that it
    /// listens on, this says that none comes.
    pub(crate) fn is_deaf(&self) -> bool {
        self.0.hub.get().is_some_and(Hub::is_deaf)
    }

    /// Which database this is, without secrets: `app at 10.0.0.5:5432 as alice`.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn whereabouts(&self) -> Result<String> {
        whereabouts(&self.0.session).await
    }

    /// Deletes rows of the attachment table that are older than the cleanup interval, as every node does; returns how
    /// many there were.
    ///
    /// # Errors
    /// [`Error::MissingTable`](crate::Error::MissingTable), [`Error::TablePrivilege`](crate::Error::TablePrivilege) and those of
    /// the connection.
    pub async fn clean_up_attachments(&self) -> Result<u64> {
        let options = self.options();
        delete_older(&self.0.session, &options.table_name, options.cleanup_interval).await
    }

    /// Creates the attachment table, with an index on `created_at`, where there is none; tells whether it did. Any number
    /// of nodes may do this at once.
    ///
    /// # Errors
    /// [`Error::TableDefinition`](crate::Error::TableDefinition) where the schema is missing, or the right to create
    /// tables in it, and those of the connection.
    pub async fn create_attachment_table(&self) -> Result<bool> {
        let Inner { settings, options, .. } = &*self.0;
        let table = AttachmentTable::connect(settings.clone(), options.table_name.clone()).await?;
        table.create_if_missing().await
    }

    async fn hub(&self) -> Result<&Hub> {
        let Inner { settings, options, session, hub, .. } = &*self.0;
        hub.get_or_try_init(|| Hub::start(settings.clone(), options.clone(), session.clone())).await
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
