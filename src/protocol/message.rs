//! A message of the cluster protocol.

use serde::{Deserialize, Serialize};

use super::{BroadcastOptions, EventArgs, MessageKind, Namespace, RequestId, Uid, Value, room_list};

/// A message: sender, namespace and content.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// The sender.
    pub uid: Uid,
    /// The namespace. Adapter 0.3 does not send it, since the channel determines it. Adapter 0.4 and later drop a
    /// message without it, so pgio always sends it.
    pub nsp: Namespace,
    /// The content.
    pub body: Body,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Body {
    /// [`MessageKind::InitialHeartbeat`]
    InitialHeartbeat,
    /// [`MessageKind::Heartbeat`]
    Heartbeat,
    /// [`MessageKind::Broadcast`]
    Broadcast {
        /// The target sockets, and the delivery flags.
        opts: BroadcastOptions,
        /// The event.
        event: EventArgs,
        /// Present if the sender requests acknowledgements.
        request_id: Option<RequestId>,
    },
    /// [`MessageKind::SocketsJoin`]
    SocketsJoin {
        /// The target sockets.
        opts: BroadcastOptions,
        /// The rooms to join.
        rooms: Vec<String>,
    },
    /// [`MessageKind::SocketsLeave`]
    SocketsLeave {
        /// The target sockets.
        opts: BroadcastOptions,
        /// The rooms to leave.
        rooms: Vec<String>,
    },
    /// [`MessageKind::DisconnectSockets`]
    DisconnectSockets {
        /// The target sockets.
        opts: BroadcastOptions,
        /// Whether to close the transport as well, and so disconnect the client's other namespaces.
        close: bool,
    },
    /// [`MessageKind::FetchSockets`]
    FetchSockets {
        /// The target sockets.
        opts: BroadcastOptions,
        /// The request. Its answers have the same id.
        request_id: RequestId,
    },
    /// [`MessageKind::FetchSocketsResponse`]
    FetchSocketsResponse {
        /// The request.
        request_id: RequestId,
        /// The sockets of the node that answers.
        sockets: Vec<RemoteSocket>,
    },
    /// [`MessageKind::ServerSideEmit`]
    ServerSideEmit {
        /// The event.
        event: EventArgs,
        /// Present if the sender requests an answer.
        request_id: Option<RequestId>,
    },
    /// [`MessageKind::ServerSideEmitResponse`]
    ServerSideEmitResponse {
        /// The request.
        request_id: RequestId,
        /// The answer.
        answer: Value,
    },
    /// [`MessageKind::BroadcastClientCount`]
    BroadcastClientCount {
        /// The request.
        request_id: RequestId,
        /// The number of clients of the node that were sent the event.
        client_count: u64,
    },
    /// [`MessageKind::BroadcastAck`]
    BroadcastAck {
        /// The request.
        request_id: RequestId,
        /// The first argument of the client's acknowledgement. `None` if it has no argument (`undefined` in JavaScript).
        answer: Option<Value>,
    },
    /// [`MessageKind::AdapterClose`]
    AdapterClose,
}

/// A socket as another node describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RemoteSocket {
    /// Its id: 20 characters in Node, 16 in socketioxide.
    pub id: String,
    /// `headers, time, address, xdomain, secure, issued, url, query, auth`, as the node gives them.
    #[serde(default)]
    pub handshake: Value,
    /// The rooms of the socket, including its own id.
    #[serde(default, deserialize_with = "room_list::lenient")]
    pub rooms: Vec<String>,
    /// The data of the application.
    #[serde(default)]
    pub data: Value,
}

impl Message {
    /// A message of that sender in that namespace.
    pub fn new(uid: Uid, nsp: impl Into<Namespace>, body: Body) -> Self {
        Self { uid, nsp: nsp.into(), body }
    }

    /// The kind of the message.
    pub fn kind(&self) -> MessageKind {
        self.body.kind()
    }
}

impl Body {
    /// The kind of a message with this content.
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::InitialHeartbeat => MessageKind::InitialHeartbeat,
            Self::Heartbeat => MessageKind::Heartbeat,
            Self::Broadcast { .. } => MessageKind::Broadcast,
            Self::SocketsJoin { .. } => MessageKind::SocketsJoin,
            Self::SocketsLeave { .. } => MessageKind::SocketsLeave,
            Self::DisconnectSockets { .. } => MessageKind::DisconnectSockets,
            Self::FetchSockets { .. } => MessageKind::FetchSockets,
            Self::FetchSocketsResponse { .. } => MessageKind::FetchSocketsResponse,
            Self::ServerSideEmit { .. } => MessageKind::ServerSideEmit,
            Self::ServerSideEmitResponse { .. } => MessageKind::ServerSideEmitResponse,
            Self::BroadcastClientCount { .. } => MessageKind::BroadcastClientCount,
            Self::BroadcastAck { .. } => MessageKind::BroadcastAck,
            Self::AdapterClose => MessageKind::AdapterClose,
        }
    }

    /// The request that the message makes or answers.
    pub fn request_id(&self) -> Option<&RequestId> {
        match self {
            Self::Broadcast { request_id, .. } | Self::ServerSideEmit { request_id, .. } => {
                request_id.as_ref()
            }
            Self::FetchSockets { request_id, .. }
            | Self::FetchSocketsResponse { request_id, .. }
            | Self::ServerSideEmitResponse { request_id, .. }
            | Self::BroadcastClientCount { request_id, .. }
            | Self::BroadcastAck { request_id, .. } => Some(request_id),
            _ => None,
        }
    }

    /// The target sockets of the message, if it has any.
    pub fn options(&self) -> Option<&BroadcastOptions> {
        match self {
            Self::Broadcast { opts, .. }
            | Self::SocketsJoin { opts, .. }
            | Self::SocketsLeave { opts, .. }
            | Self::DisconnectSockets { opts, .. }
            | Self::FetchSockets { opts, .. } => Some(opts),
            _ => None,
        }
    }

    /// Whether the content has binary that JSON cannot carry, so that it needs an attachment.
    pub(super) fn has_binary(&self) -> bool {
        self.kind().carries_binary()
            && match self {
                Self::Broadcast { event, .. } | Self::ServerSideEmit { event, .. } => event.has_binary(),
                Self::ServerSideEmitResponse { answer, .. } => answer.has_binary(),
                Self::BroadcastAck { answer, .. } => answer.as_ref().is_some_and(Value::has_binary),
                _ => false,
            }
    }
}
