//! A message of the cluster protocol.

use serde::{Deserialize, Serialize};

use super::{BroadcastOptions, EventArgs, MessageKind, Namespace, RequestId, Uid, Value};

/// A message: sender, namespace and content.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// The sender.
    pub uid: Uid,
    /// The namespace. Adapter 0.3 does not send it, and the channel tells it; 0.4 and later drop whatever comes
    /// without it, so it is always sent.
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
        /// The sockets that it is for, and how to deliver it.
        opts: BroadcastOptions,
        /// The event.
        event: EventArgs,
        /// Present where acknowledgements are wanted.
        request_id: Option<RequestId>,
    },
    /// [`MessageKind::SocketsJoin`]
    SocketsJoin {
        /// Which sockets.
        opts: BroadcastOptions,
        /// The rooms to join.
        rooms: Vec<String>,
    },
    /// [`MessageKind::SocketsLeave`]
    SocketsLeave {
        /// Which sockets.
        opts: BroadcastOptions,
        /// The rooms to leave.
        rooms: Vec<String>,
    },
    /// [`MessageKind::DisconnectSockets`]
    DisconnectSockets {
        /// Which sockets.
        opts: BroadcastOptions,
        /// Whether to close the transport, too, and with it the client's other namespaces.
        close: bool,
    },
    /// [`MessageKind::FetchSockets`]
    FetchSockets {
        /// Which sockets.
        opts: BroadcastOptions,
        /// The answers will carry it.
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
        /// Present where an answer is wanted.
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
        /// How many clients of the node were sent the event.
        client_count: u64,
    },
    /// [`MessageKind::BroadcastAck`]
    BroadcastAck {
        /// The request.
        request_id: RequestId,
        /// The first argument of the client's acknowledgement.
        answer: Value,
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
    /// The rooms it is in, its own id among them.
    #[serde(default)]
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
    /// The kind of message that says it.
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

    /// The sockets that the message is for, where it is for some.
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

    /// Whether it holds binary that must travel as such, and so in an attachment.
    pub(super) fn has_binary(&self) -> bool {
        self.kind().carries_binary()
            && match self {
                Self::Broadcast { event, .. } | Self::ServerSideEmit { event, .. } => event.has_binary(),
                Self::ServerSideEmitResponse { answer, .. } | Self::BroadcastAck { answer, .. } => {
                    answer.has_binary()
                }
                _ => false,
            }
    }
}
