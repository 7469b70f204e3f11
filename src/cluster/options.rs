//! The adapter options, which have to be the same for all members of a cluster.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::postgres::TableName;
use crate::setters::setters;

/// The options of the Node adapter, with its names and defaults, the time that requests may take, and what is shared.
///
/// ```
/// use std::time::Duration;
/// use pgio::AdapterOptions;
///
/// let options = AdapterOptions::default().channel_prefix("chat").request_timeout(Duration::from_secs(2));
/// assert_eq!(options.channel_prefix, "chat");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterOptions {
    /// The prefix of the notification channels. Default: `socket.io`.
    pub channel_prefix: String,
    /// The table for messages that hold binary or are too large. Default: `socket_io_attachments`.
    pub table_name: TableName,
    /// From how many bytes on a message goes through the table; Postgres allows no more than 8000. Default: 8000.
    pub payload_threshold: usize,
    /// The interval of the cleanup, and the age of the rows that it deletes. Durable events are kept for this time.
    /// Default: 30 s.
    pub cleanup_interval: Duration,
    /// How often a node says that it is alive when it has nothing else to say. Default: 5 s.
    pub heartbeat_interval: Duration,
    /// After how long without a message a node counts as gone. Default: 10 s.
    pub heartbeat_timeout: Duration,
    /// When nodes send heartbeats. Default: [`Heartbeats::Auto`].
    pub heartbeats: Heartbeats,
    /// How long a request waits for the answers of other nodes. Default: 5 s (`DEFAULT_TIMEOUT` in Node).
    pub request_timeout: Duration,
    /// Whether answers to `fetchSockets` of other servers hold the headers `authorization`, `proxy-authorization` and
    /// `cookie` of each client, as those of Node servers do. Every role that may connect to the database can ask for
    /// them. Default: no.
    pub share_headers: bool,
    /// How many bytes of memory the message of an attachment may take. A row with a larger document is not fetched, and
    /// a document whose values take more is not delivered: the error handler is told of both. Default: 64,000,000.
    pub max_attachment: usize,
    /// Whether the events that this server emits to the clients of others, and those of its clients that it relays, are
    /// durable: they travel by the attachment table, and a pgio node that was not listening when they were sent receives them
    /// afterwards. Volatile ones and those that ask for acknowledgements never are. Default: no.
    pub durable: bool,
    /// The handler of errors without a caller (`errorHandler` in Node). Default: none; the errors are logged in any
    /// case.
    pub error_handler: Option<ErrorHandler>,
}

/// When a node sends heartbeats, each of which is a commit that writes WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Heartbeats {
    /// While another server of the namespace needs them: a Node server, or one that cannot see `pg_locks`. Nodes of
    /// pgio see each other live by session advisory locks, which write nothing.
    #[default]
    Auto,
    /// In every heartbeat interval, as Node servers do. The node holds no lock, so that all other servers of its namespaces
    /// send heartbeats as well.
    Always,
}

/// Called with each error of an adapter that no caller gets: an answer or a heartbeat that was not published, a message
/// that cannot be read or whose attachment is gone, a connection that is lost, old attachments that cannot be deleted.
///
/// It is called in between other work, so it must not block. Equal is only a clone.
///
/// ```
/// use pgio::AdapterOptions;
/// use pgio::cluster::ErrorHandler;
///
/// let options = AdapterOptions::default().error_handler(ErrorHandler::new(|error| eprintln!("{error}")));
/// ```
#[derive(Clone)]
pub struct ErrorHandler(Arc<dyn Fn(&Error) + Send + Sync>);

impl ErrorHandler {
    /// Makes a handler of a closure.
    pub fn new(handler: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        Self(Arc::new(handler))
    }
}

impl fmt::Debug for ErrorHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErrorHandler")
    }
}

impl PartialEq for ErrorHandler {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ErrorHandler {}

setters!(AdapterOptions {
    channel_prefix: impl Into<String>,
    table_name: TableName,
    payload_threshold: usize,
    cleanup_interval: Duration,
    heartbeat_interval: Duration,
    heartbeat_timeout: Duration,
    heartbeats: Heartbeats,
    request_timeout: Duration,
    share_headers: bool,
    max_attachment: usize,
    durable: bool,
    error_handler: impl Into<Option<ErrorHandler>>,
});

impl AdapterOptions {
    /// Calls the error handler, if there is one. A panic in it is logged, and ends nothing else.
    pub(crate) fn report(&self, error: &Error) {
        if let Some(ErrorHandler(handler)) = &self.error_handler
            && catch_unwind(AssertUnwindSafe(|| handler(error))).is_err()
        {
            tracing::error!(%error, "the error handler panicked");
        }
    }
}

impl Default for AdapterOptions {
    fn default() -> Self {
        Self {
            channel_prefix: "socket.io".into(),
            table_name: TableName::default(),
            payload_threshold: 8000,
            cleanup_interval: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(10),
            heartbeats: Heartbeats::Auto,
            request_timeout: Duration::from_secs(5),
            share_headers: false,
            max_attachment: 64_000_000,
            durable: false,
            error_handler: None,
        }
    }
}
