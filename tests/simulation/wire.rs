//! What each version of the adapter writes. The captures of the real packages are the measure: see `shape.rs`.

use pgio::protocol::MessageKind;
use serde_json::{Value, json};

/// The sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `@socket.io/postgres-adapter` 0.3.1.
    V03,
    /// 0.4.0
    V04,
    /// 0.5.0
    V05,
    /// A node of pgio, which speaks as 0.5 does.
    Pgio,
    /// `@socket.io/postgres-emitter` 0.1.1.
    Emitter,
}

impl Version {
    pub const NODES: [Self; 4] = [Self::V03, Self::V04, Self::V05, Self::Pgio];

    pub fn name(self) -> &'static str {
        match self {
            Self::V03 => "0.3.1",
            Self::V04 => "0.4.0",
            Self::V05 => "0.5.0",
            Self::Pgio => "pgio",
            Self::Emitter => "emitter",
        }
    }

    /// Whether its messages name their namespace.
    pub fn says_nsp(self) -> bool {
        !matches!(self, Self::V03 | Self::Emitter)
    }

    /// Whether it is a goodbye.
    pub fn says_goodbye(self) -> bool {
        self.says_nsp()
    }

    /// Whether it answers that kind of message from a sender that names its namespace or not.
    pub fn minds(self, kind: MessageKind, says_nsp: bool) -> bool {
        match self {
            Self::V03 | Self::Pgio => true,
            // It counts every sender, answers every initial heartbeat, and drops the rest.
            Self::V04 => says_nsp || kind == MessageKind::InitialHeartbeat,
            Self::V05 => says_nsp,
            Self::Emitter => false,
        }
    }
}

/// The parts of a message that matter here.
#[derive(Debug, Clone, PartialEq)]
pub enum Says {
    InitialHeartbeat,
    Heartbeat,
    Goodbye,
    /// An event for clients, numbered; with an id where acknowledgements are wanted.
    Broadcast {
        number: u64,
        request: Option<String>,
    },
    FetchSockets {
        request: String,
    },
    ServerSideEmit {
        number: u64,
        request: Option<String>,
    },
    Sockets {
        request: String,
    },
    Answer {
        request: String,
    },
    ClientCount {
        request: String,
        count: u64,
    },
    Ack {
        request: String,
        number: u64,
    },
    /// Text that is no message.
    Nonsense {
        number: u64,
    },
}

impl Says {
    /// The kind of the message; `None` for nonsense.
    pub fn kind(&self) -> Option<MessageKind> {
        Some(match self {
            Self::InitialHeartbeat => MessageKind::InitialHeartbeat,
            Self::Heartbeat => MessageKind::Heartbeat,
            Self::Goodbye => MessageKind::AdapterClose,
            Self::Broadcast { .. } => MessageKind::Broadcast,
            Self::FetchSockets { .. } => MessageKind::FetchSockets,
            Self::ServerSideEmit { .. } => MessageKind::ServerSideEmit,
            Self::Sockets { .. } => MessageKind::FetchSocketsResponse,
            Self::Answer { .. } => MessageKind::ServerSideEmitResponse,
            Self::ClientCount { .. } => MessageKind::BroadcastClientCount,
            Self::Ack { .. } => MessageKind::BroadcastAck,
            Self::Nonsense { .. } => return None,
        })
    }

    /// The request that it answers.
    pub fn answers(&self) -> Option<&str> {
        match self {
            Self::Sockets { request }
            | Self::Answer { request }
            | Self::ClientCount { request, .. }
            | Self::Ack { request, .. } => Some(request),
            _ => None,
        }
    }

    /// The request that it makes.
    pub fn asks(&self) -> Option<&str> {
        match self {
            Self::FetchSockets { request } => Some(request),
            Self::Broadcast { request, .. } | Self::ServerSideEmit { request, .. } => request.as_deref(),
            _ => None,
        }
    }

    fn data(&self, version: Version) -> Option<Value> {
        let opts = || match version {
            Version::Emitter => json!({"rooms": [], "flags": {}, "except": []}),
            _ => json!({"rooms": [], "except": [], "flags": {}}),
        };
        Some(match self {
            Self::InitialHeartbeat | Self::Heartbeat | Self::Goodbye | Self::Nonsense { .. } => return None,
            Self::Broadcast { number, request } => {
                let packet = match version {
                    Version::Emitter => json!({"type": 2, "data": ["e", number], "nsp": "/"}),
                    _ => json!({"type": 2, "data": ["e", number]}),
                };
                match request {
                    Some(request) => json!({"packet": packet, "requestId": request, "opts": opts()}),
                    None => json!({"packet": packet, "opts": opts()}),
                }
            }
            Self::FetchSockets { request } => json!({"opts": opts(), "requestId": request}),
            Self::ServerSideEmit { number, request: Some(request) } => {
                json!({"requestId": request, "packet": ["s", number]})
            }
            Self::ServerSideEmit { number, request: None } => json!({"packet": ["s", number]}),
            Self::Sockets { request } => json!({"requestId": request, "sockets": [
                {"id": "7ux65QG-eICoUxlzAAAB", "handshake": {"headers": {}}, "rooms": ["r1"], "data": {}}
            ]}),
            Self::Answer { request } => json!({"requestId": request, "packet": {"from": "b"}}),
            Self::ClientCount { request, count } => json!({"requestId": request, "clientCount": count}),
            Self::Ack { request, number } => json!({"requestId": request, "packet": {"ok": number}}),
        })
    }
}

/// The whole message, as that version writes it.
pub fn document(version: Version, uid: &str, nsp: &str, says: &Says) -> Value {
    let kind = says.kind().map_or(99, MessageKind::number);
    let mut document = serde_json::Map::new();
    document.insert("type".into(), kind.into());
    if let Some(data) = says.data(version) {
        document.insert("data".into(), data);
    }
    document.insert("uid".into(), uid.into());
    if version.says_nsp() {
        document.insert("nsp".into(), nsp.into());
    }
    Value::Object(document)
}

/// The text of a notification with the message in it.
pub fn inline(version: Version, uid: &str, nsp: &str, says: &Says) -> String {
    match says {
        Says::Nonsense { number } => format!("nonsense {number}"),
        Says::InitialHeartbeat | Says::Heartbeat if version.says_nsp() => {
            let kind = if *says == Says::Heartbeat { 2 } else { 1 };
            format!(r#"{{"type":{kind},"uid":"{uid}","nsp":"{nsp}"}}"#)
        }
        _ => document(version, uid, nsp, says).to_string(),
    }
}

/// The text of a notification that names a row, as Node writes it: without the namespace.
pub fn header(uid: &str, kind: MessageKind, row: i64) -> String {
    format!(r#"{{"uid":"{uid}","type":{},"attachmentId":"{row}"}}"#, kind.number())
}

/// The row, which is large at times.
pub fn row(version: Version, uid: &str, nsp: &str, says: &Says) -> Vec<u8> {
    let mut document = document(version, uid, nsp, says);
    if let (Says::Broadcast { number, .. }, Some(args)) =
        (says, document.pointer_mut("/data/packet/data").and_then(Value::as_array_mut))
    {
        args.push("x".repeat((*number as usize % 4) * 1000).into());
    }
    rmp_serde::to_vec_named(&document).expect("a document is msgpack")
}
