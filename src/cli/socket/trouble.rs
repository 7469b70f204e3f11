//! The reasons why a connection fails or ends.

use std::fmt;

/// The reason why a connection fails or ends. The text does not name the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Trouble {
    /// A failure of the network, or an HTTP error of the server. A retry may succeed later.
    Transient(String),
    /// The namespace refused the socket (`connect_error`), with its reason.
    Refused(String),
    /// The server disconnected the socket from its namespace.
    Disconnected,
    /// The other side violates the protocol.
    Protocol(String),
    /// The message cannot be sent.
    Unsendable(String),
}

impl Trouble {
    /// Whether a retry makes sense. As in the JavaScript client, a refusal and a disconnect are final.
    pub(in crate::cli) fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transient(reason) | Self::Unsendable(reason) => f.write_str(reason),
            Self::Refused(reason) => write!(f, "connection refused by the namespace: {reason}"),
            Self::Disconnected => f.write_str("the server disconnected the socket"),
            Self::Protocol(reason) => write!(f, "not the Socket.IO protocol: {reason}"),
        }
    }
}
