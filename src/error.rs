//! The error type of the library.

use std::any::Any;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::{AttachmentId, MessageKind, Uid};
use crate::safe_text::{cut, quoted};

/// The maximum bytes of a quoted reason of a library or of the server.
const REASON_BYTES: usize = 300;

/// The maximum bytes of a quoted setting, and of a reason with several hosts.
const TEXT_BYTES: usize = 2000;

/// The cause of an [`Error`]. It is shared, since errors can be cloned.
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl Deref for Cause {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// The errors of this library.
///
/// The text of each error is one line and never holds a password. If the variant has a field for it, the text names the
/// setting, file, host, table, namespace, event or row. [`Encode`](Self::Encode), [`Decode`](Self::Decode) and
/// [`NotDurable`](Self::NotDurable) give the reason without the input. Text from a client or another server is quoted
/// without control characters, and cut after 100 or 300 bytes.
///
/// Only [`Connect`](Self::Connect), [`Refused`](Self::Refused) and [`Database`](Self::Database) have a
/// [`source`](std::error::Error::source), if the driver reported the error: a `tokio_postgres::Error` for the first two, a
/// `tokio_postgres::error::DbError` for the third. The others hold the reason as text, also if Postgres or the network is the
/// cause.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting or an option is malformed or contradicts another one.
    #[error("{}: {}", quoted(setting), cut(reason, TEXT_BYTES))]
    Setting {
        /// The setting as the user wrote it (`sslmode`, `PGPORT`), or the option's field (`table_name`, `client_buffer`).
        setting: String,
        /// The reason.
        reason: String,
    },

    /// No database is configured.
    #[error("no database is configured")]
    NoDatabase,

    /// A file of a setting cannot be read or is invalid.
    #[error("{}: {}", cut(&path.display().to_string(), TEXT_BYTES), cut(reason, TEXT_BYTES))]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },

    /// The server cannot be reached, or does not accept connections at the moment (transient).
    #[error("cannot connect to {}: {}", cut(target, TEXT_BYTES), cut(reason, TEXT_BYTES))]
    #[non_exhaustive]
    Connect {
        /// `host:port` or the socket's path. There are several if several hosts were tried.
        target: String,
        /// The reason, with the message of the server if it sent one.
        reason: String,
        /// The server's error code, such as `53300`, if the server sent one.
        sqlstate: Option<String>,
        /// The driver's error.
        source: Option<Cause>,
    },

    /// The server can be reached, but refuses the connection: wrong password, unknown database, an untrusted
    /// certificate. A retry does not help.
    #[error("cannot connect to {}: {}", cut(target, TEXT_BYTES), cut(reason, TEXT_BYTES))]
    #[non_exhaustive]
    Refused {
        /// `host:port` or the socket's path. There are several if several hosts were tried.
        target: String,
        /// The reason, with the message of the server.
        reason: String,
        /// The server's error code, such as `53300`, if the server sent one.
        sqlstate: Option<String>,
        /// The driver's error.
        source: Option<Cause>,
    },

    /// The connection was lost while a statement was in progress.
    #[error("lost the connection to Postgres: {0}")]
    ConnectionLost(String),

    /// Published notifications are not delivered to the listening session, as behind a connection pooler in transaction
    /// mode.
    #[error(
        "notifications are not delivered: Postgres accepts them, but this session receives none. Is there a connection \
         pooler in transaction mode? LISTEN needs a dedicated session"
    )]
    NotificationsNotDelivered,

    /// The server refused a statement.
    #[error("Postgres refused: {}", cut(message, REASON_BYTES))]
    #[non_exhaustive]
    Database {
        /// The message of the server.
        message: String,
        /// The server's error code, such as `57014`.
        sqlstate: Option<String>,
        /// The driver's error.
        source: Option<Cause>,
    },

    /// The attachment table does not exist.
    #[error("the attachment table {table} does not exist")]
    MissingTable {
        /// The table, as configured.
        table: String,
    },

    /// The role may not use the attachment table.
    #[error("no privilege on the attachment table {table}: {reason}")]
    TablePrivilege {
        /// The table, as configured.
        table: String,
        /// The message of the server.
        reason: String,
    },

    /// Another session keeps the attachment table locked.
    #[error(
        "the attachment table {table} is locked by another session{}",
        pid.map_or(String::new(), |pid| format!(" (pid {pid})"))
    )]
    TableLocked {
        /// The table, as configured.
        table: String,
        /// The server process of that session, if it was found.
        pid: Option<i32>,
    },

    /// The columns of the attachment table do not fit the protocol.
    #[error("the attachment table {table} cannot be used: {reason}")]
    TableShape {
        /// The table, as configured.
        table: String,
        /// The reason.
        reason: String,
        /// The statements that repair it, or the advice to use another table.
        remedy: String,
    },

    /// The attachment table can be neither created nor changed.
    #[error("cannot set up the attachment table {table}: {reason}")]
    TableDefinition {
        /// The table, as configured.
        table: String,
        /// The reason, with the message of the server if it sent one.
        reason: String,
    },

    /// The channel of a namespace is not a valid name in Postgres.
    #[error("namespace \"{}\" cannot be used: {reason}", quoted(namespace))]
    Namespace {
        /// The namespace.
        namespace: String,
        /// The reason.
        reason: String,
    },

    /// The name of an event is reserved by Socket.IO.
    #[error("event name \"{}\" is reserved by Socket.IO", quoted(event))]
    ReservedEvent {
        /// The event.
        event: String,
    },

    /// The attachment of a message is larger than the limit of this reader
    /// ([`AdapterOptions::max_attachment`](crate::AdapterOptions)).
    #[error("the attachment needs {bytes} bytes of memory or more, and the limit is {limit} bytes")]
    AttachmentTooLarge {
        /// Its size in bytes, or a lower bound of it.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },

    /// A message is larger than one Postgres field can be.
    #[error("the message has {bytes} bytes, and Postgres stores at most {limit} bytes in one field")]
    TooLarge {
        /// Its size in bytes, or a lower bound of it.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },

    /// A message of this kind cannot be durable.
    #[error("{0} cannot be durable")]
    NotDurable(&'static str),

    /// A value cannot be encoded, such as a map with a key that is not a string.
    #[error("cannot encode: {}", cut(.0, REASON_BYTES))]
    Encode(String),

    /// A received message is not a message of the protocol.
    #[error("cannot decode: {}", cut(.0, REASON_BYTES))]
    Decode(String),

    /// A message went through the attachment table, and its row was deleted before it was read.
    #[error("the attachment of a {kind} from {} is missing: its row was deleted", quoted(uid.as_str()))]
    MissingAttachment {
        /// The kind of the message.
        kind: MessageKind,
        /// Its sender.
        uid: Uid,
    },

    /// A row of the attachment table could not be read in time: the table is locked, or Postgres was unreachable.
    #[error("cannot read row {id} of the attachment table within {} s", waited.as_secs())]
    AttachmentTimeout {
        /// The row.
        id: AttachmentId,
        /// The time of the attempts.
        waited: Duration,
    },

    /// The limit of running requests of other servers is reached.
    #[error("request of another server dropped: more than {0} requests are in progress")]
    TooManyAnswers(usize),

    /// This many messages of other servers were dropped, since the receive queue was full.
    #[error("{0} messages of other servers were dropped: the receive queue is full")]
    Missed(u64),

    /// A private Postgres server could not be started.
    #[error("cannot start a private Postgres: {0}")]
    Private(String),

    /// The server cannot listen on the address.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address as configured.
        address: String,
        /// The reason, with the message of the system.
        reason: String,
    },

    /// Code of the application panicked.
    #[error("{} panicked: {}", cut(what, REASON_BYTES), cut(message, REASON_BYTES))]
    Panicked {
        /// The code that panicked, such as `the handler of slow clients`.
        what: String,
        /// The message of the panic.
        message: String,
    },

    /// The component behind this handle has been shut down.
    #[error("closed")]
    Closed,
}

/// The result type of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The error for a file that cannot be used.
    pub(crate) fn file(path: impl Into<PathBuf>, error: &dyn std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: without_os_code(error) }
    }

    /// The server's error code (SQLSTATE, five characters), if the server sent one. PostgreSQL's appendix "Error Codes"
    /// lists them.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Connect { sqlstate, .. }
            | Self::Refused { sqlstate, .. }
            | Self::Database { sqlstate, .. } => sqlstate.as_deref(),
            _ => None,
        }
    }

    /// The error for a caught panic of the application.
    pub(crate) fn panicked(what: impl Into<String>, payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::Panicked { what: what.into(), message: text.unwrap_or("without a message").to_owned() }
    }

    /// Whether the same call may succeed later (transient error): Postgres is unreachable, lacks memory, disk or connections,
    /// has cancelled the statement, or the attachment table is locked. After [`ConnectionLost`](Self::ConnectionLost) it is
    /// not known whether a message was published, so a retry may publish it twice.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TableLocked { .. } => true,
            Self::Database { sqlstate: Some(code), .. } => {
                TRANSIENT_CLASSES.iter().any(|class| code.starts_with(class))
            }
            _ => self.is_disconnected(),
        }
    }

    /// Whether Postgres is unreachable, or the connection was lost.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::ConnectionLost(_))
    }
}

/// The classes of SQLSTATE after which the same statement may succeed: transaction rollback, insufficient resources, operator
/// intervention (such as a cancelled statement), and system error. Source: PostgreSQL's appendix "Error Codes".
const TRANSIENT_CLASSES: [&str; 4] = ["40", "53", "57", "58"];

/// The message of a system error without its number: `No such file or directory`.
pub(crate) fn without_os_code(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
