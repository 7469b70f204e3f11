//! What all members of a cluster have to agree on.

use std::time::Duration;

use crate::postgres::TableName;

/// The options of the Node adapter, with its names and defaults, and the time that requests may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterOptions {
    /// The prefix of the notification channels. Default: `socket.io`.
    pub channel_prefix: String,
    /// The table for messages that hold binary or are too large. Default: `socket_io_attachments`.
    pub table_name: TableName,
    /// From how many bytes on a message goes through the table; Postgres allows no more than 8000. Default: 8000.
    pub payload_threshold: usize,
    /// How often old rows are deleted, and how old they are then. Default: 30 s.
    pub cleanup_interval: Duration,
    /// How often a node says that it is alive when it has nothing else to say. Default: 5 s.
    pub heartbeat_interval: Duration,
    /// After how long without a message a node counts as gone. Default: 10 s.
    pub heartbeat_timeout: Duration,
    /// How long a request waits for the answers of other nodes. Default: 5 s (`DEFAULT_TIMEOUT` in Node).
    pub request_timeout: Duration,
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
            request_timeout: Duration::from_secs(5),
        }
    }
}
