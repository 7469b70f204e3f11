//! The adapter options, which must be the same for all members of a cluster.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::postgres::TableName;
use crate::setters::setters;
use crate::{Error, Namespace, Result};

/// The shortest interval of regular work: with less, an idle node would keep Postgres busy.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// The longest interval and timeout, ten years. A later moment could overflow the clock.
pub(crate) const LONGEST: Duration = Duration::from_hours(24 * 365 * 10);

/// The options of the Node adapter, with its names and defaults, and further options of pgio.
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
    /// The size in bytes from which a message goes through the table. A value above 8000, the limit of Postgres, counts as
    /// 8000. Default: 8000.
    pub payload_threshold: usize,
    /// The interval of the cleanup, and the age of the rows that it deletes. Durable events are kept for this time.
    /// Default: 30 s.
    pub cleanup_interval: Duration,
    /// The interval between the heartbeats of a node that publishes nothing else. Default: 5 s.
    pub heartbeat_interval: Duration,
    /// The time without a message after which a node counts as dead. Default: 10 s.
    pub heartbeat_timeout: Duration,
    /// When nodes send heartbeats. Default: [`Heartbeats::Auto`].
    pub heartbeats: Heartbeats,
    /// How long a request waits for the answers of other nodes. Default: 5 s (`DEFAULT_TIMEOUT` in Node).
    pub request_timeout: Duration,
    /// Whether the responses to `fetchSockets` of other servers contain the headers `authorization`, `proxy-authorization`
    /// and `cookie` of each client, as with Node servers. Every role that may connect to the database can request them.
    /// Default: no.
    pub share_headers: bool,
    /// The maximum memory of the message of an attachment, in bytes. A larger document is not fetched, and a message whose
    /// values take more memory is not delivered. The error handler is called in both cases. Default: 64,000,000.
    pub max_attachment: usize,
    /// Whether events to the clients of other servers, including relayed events of clients, are durable: they go through
    /// the attachment table, and a pgio node that did not listen when they were sent replays them. Volatile events and
    /// events with acknowledgements are never durable. Default: no.
    pub durable: bool,
    /// The handler of errors without a caller (`errorHandler` in Node). Default: none; the errors are logged in any
    /// case.
    pub error_handler: Option<ErrorHandler>,
}

/// When a node sends heartbeats, each of which is a commit that writes WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Heartbeats {
    /// While another server of the namespace needs them: a Node server, or one that cannot read `pg_locks`. Nodes of pgio
    /// detect each other's liveness by session advisory locks, which write no WAL.
    #[default]
    Auto,
    /// In every heartbeat interval, as Node servers do. The node holds no lock, so that all other servers of its namespaces
    /// send heartbeats as well.
    Always,
}

/// The handler of errors of an adapter that no caller gets:
///
/// - the listening connection is lost, or a dynamic namespace cannot listen on its channel or be announced;
/// - a heartbeat, an acknowledgement or another answer, or a request for acknowledgements is not published;
/// - messages of other servers are dropped, since the receive queue is full or too many requests are in progress;
/// - a message cannot be decoded, or its attachment is missing, too large or not readable in time;
/// - old attachments cannot be deleted, or missed durable events cannot be replayed;
/// - a handler of the application panics.
///
/// It is called on the adapter's task, so it must not block. Two handlers are equal only if one is a clone of the other.
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
    /// Checks the values, before anything uses them.
    pub(crate) fn check(&self) -> Result<()> {
        let intervals = [
            ("cleanup_interval", self.cleanup_interval),
            ("heartbeat_interval", self.heartbeat_interval),
            ("heartbeat_timeout", self.heartbeat_timeout),
        ];
        for (setting, interval) in intervals {
            let reason = match interval {
                interval if interval < SHORTEST_INTERVAL => {
                    format!("{interval:?} is less than {SHORTEST_INTERVAL:?}")
                }
                interval if interval > LONGEST => format!("{interval:?} is more than ten years"),
                _ => continue,
            };
            return Err(Error::Setting { setting: setting.into(), reason });
        }
        // A prefix that is too long for the shortest channel is too long for all.
        Namespace::default().channel(&self.channel_prefix).map(drop)
    }

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
