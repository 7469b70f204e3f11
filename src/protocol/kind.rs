//! The thirteen kinds of message.

use std::fmt;
use std::str::FromStr;

use crate::Error;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)+) => {
        /// The kind of a message: `MessageType` of Node's `socket.io-adapter`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum MessageKind {
            $($(#[$doc])* $variant = $number,)+
        }

        impl MessageKind {
            /// Every kind, by number.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The kind of that number on the wire.
            pub fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Its protocol name in lower snake case.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// Sent by a node that starts. Every other node answers with a heartbeat at once.
    InitialHeartbeat = 1, "initial_heartbeat";
    /// Shows that a node is alive.
    Heartbeat = 2, "heartbeat";
    /// An event for clients.
    Broadcast = 3, "broadcast";
    /// Makes sockets join rooms.
    SocketsJoin = 4, "sockets_join";
    /// Makes sockets leave rooms.
    SocketsLeave = 5, "sockets_leave";
    /// Disconnects sockets.
    DisconnectSockets = 6, "disconnect_sockets";
    /// Requests the sockets of every node.
    FetchSockets = 7, "fetch_sockets";
    /// One node's sockets.
    FetchSocketsResponse = 8, "fetch_sockets_response";
    /// An event for the servers themselves.
    ServerSideEmit = 9, "server_side_emit";
    /// One server's answer to such an event.
    ServerSideEmitResponse = 10, "server_side_emit_response";
    /// The number of clients of a node that will acknowledge a broadcast.
    BroadcastClientCount = 11, "broadcast_client_count";
    /// One client's acknowledgement.
    BroadcastAck = 12, "broadcast_ack";
    /// Sent by a node that stops; adapter 0.4 and later.
    AdapterClose = 13, "adapter_close";
}

impl MessageKind {
    /// The number of the kind on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether a node sends a message of this kind as an attachment if it contains binary. In other kinds a `Buffer`
    /// becomes JSON like any object.
    pub(super) fn carries_binary(self) -> bool {
        matches!(
            self,
            Self::Broadcast | Self::BroadcastAck | Self::ServerSideEmit | Self::ServerSideEmitResponse
        )
    }

    /// Whether the message shows liveness only.
    pub fn is_heartbeat(self) -> bool {
        matches!(self, Self::InitialHeartbeat | Self::Heartbeat)
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MessageKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| Error::Setting {
            setting: "type".into(),
            reason: format!("{name:?} is not a message type"),
        })
    }
}
