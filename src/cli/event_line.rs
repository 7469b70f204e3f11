//! The event line: the JSON format of a message, printed by `tail -o json` and read by `emit --from`.

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::tagged::{self, Tagged, untag};
use super::timestamp;
use crate::cluster::{Attached, Content, Received};
use crate::protocol::{Body, BroadcastOptions, Flags, MessageKind, RequestId};
use crate::{Namespace, RemoteSocket, Value};

/// Writes what was received as an event line.
pub(super) struct EventLine<'a>(pub(super) &'a Received);

impl Serialize for EventLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Received { time, attachment, content, .. } = self.0;
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("time", &format_args!("{:.3}", timestamp::of(*time)))?;
        if let Some(header) = content.header() {
            line.serialize_entry("namespace", header.nsp.as_str())?;
            line.serialize_entry("uid", &header.uid)?;
            line.serialize_entry("type", header.kind.name())?;
        }
        match content {
            // All of it or nothing: half a line would be no JSON.
            Content::Message(message) => match event_of(&message.body) {
                Ok(event) => body(&mut line, &message.body, event.as_ref())?,
                Err(error) => line.serialize_entry("error", &error.to_string())?,
            },
            Content::Missing(_) => {}
            Content::Unreadable(_, error) => line.serialize_entry("error", &error.to_string())?,
        }
        line.serialize_entry("attachment", &attachment.map(Attachment::from))?;
        line.end()
    }
}

#[derive(Serialize)]
struct Attachment {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    missing: bool,
}

impl From<Attached> for Attachment {
    fn from(Attached { id, bytes, .. }: Attached) -> Self {
        Self { id: id.to_string(), bytes, missing: bytes.is_none() }
    }
}

/// An event's name and arguments.
type Event = (String, Vec<Value>);

/// The event in a message of a kind that has one.
fn event_of(body: &Body) -> crate::Result<Option<Event>> {
    match body {
        Body::Broadcast { event, .. } | Body::ServerSideEmit { event, .. } => {
            event.clone().into_parts().map(Some)
        }
        _ => Ok(None),
    }
}

fn body<M: SerializeMap>(line: &mut M, body: &Body, event: Option<&Event>) -> Result<(), M::Error> {
    if let Some((name, args)) = event {
        line.serialize_entry("event", name)?;
        line.serialize_entry("args", &tagged::all(args))?;
    }
    match body {
        Body::InitialHeartbeat | Body::Heartbeat | Body::AdapterClose => Ok(()),
        Body::Broadcast { opts, request_id, .. } => {
            options(line, opts)?;
            line.serialize_entry("requestId", request_id)
        }
        Body::SocketsJoin { opts, rooms } => {
            options(line, opts)?;
            line.serialize_entry("join", rooms)
        }
        Body::SocketsLeave { opts, rooms } => {
            options(line, opts)?;
            line.serialize_entry("leave", rooms)
        }
        Body::DisconnectSockets { opts, close } => {
            options(line, opts)?;
            line.serialize_entry("close", close)
        }
        Body::FetchSockets { opts, request_id } => {
            options(line, opts)?;
            line.serialize_entry("requestId", request_id)
        }
        Body::FetchSocketsResponse { request_id, sockets } => {
            line.serialize_entry("requestId", request_id)?;
            line.serialize_entry("sockets", &sockets.iter().map(Socket).collect::<Vec<_>>())
        }
        Body::ServerSideEmit { request_id, .. } => line.serialize_entry("requestId", request_id),
        Body::ServerSideEmitResponse { request_id, answer } | Body::BroadcastAck { request_id, answer } => {
            line.serialize_entry("requestId", request_id)?;
            line.serialize_entry("answer", &Tagged(answer))
        }
        Body::BroadcastClientCount { request_id, client_count } => {
            line.serialize_entry("requestId", request_id)?;
            line.serialize_entry("clientCount", client_count)
        }
    }
}

fn options<M: SerializeMap>(line: &mut M, opts: &BroadcastOptions) -> Result<(), M::Error> {
    line.serialize_entry("rooms", &opts.rooms)?;
    line.serialize_entry("except", &opts.except)?;
    line.serialize_entry("flags", &opts.flags)
}

struct Socket<'a>(&'a RemoteSocket);

impl Serialize for Socket<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let RemoteSocket { id, handshake, rooms, data } = self.0;
        let mut socket = serializer.serialize_map(Some(4))?;
        socket.serialize_entry("id", id)?;
        socket.serialize_entry("rooms", rooms)?;
        socket.serialize_entry("data", &Tagged(data))?;
        socket.serialize_entry("handshake", &Tagged(handshake))?;
        socket.end()
    }
}

/// What a line asks to be emitted. What it does not say is left to the defaults of the command line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) event: String,
    pub(super) args: Vec<Value>,
    pub(super) namespace: Option<Namespace>,
    pub(super) rooms: Option<Vec<String>>,
    pub(super) except: Option<Vec<String>>,
    pub(super) flags: Option<Flags>,
    pub(super) time: Option<jiff::Timestamp>,
}

/// What a line turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// An event to be emitted.
    Event(Wanted),
    /// A message of another kind, which is not an emitter's to repeat.
    Other(MessageKind),
}

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "type")]
    kind: Option<String>,
    event: Option<String>,
    #[serde(default)]
    args: Vec<Value>,
    namespace: Option<String>,
    rooms: Option<Vec<String>>,
    except: Option<Vec<String>>,
    flags: Option<Flags>,
    time: Option<jiff::Timestamp>,
    attachment: Option<MissingOrNot>,
    error: Option<String>,
    #[serde(rename = "requestId")]
    _request_id: Option<RequestId>,
}

#[derive(Deserialize)]
struct MissingOrNot {
    #[serde(default)]
    missing: bool,
}

/// Reads a line: an event line, or `["event", ...args]`.
pub(super) fn parse(line: &str) -> Result<Line, String> {
    let value = Value::from_json(line).map_err(|e| e.to_string().replace("cannot decode: ", "not JSON: "))?;
    match value {
        Value::Array(items) => array(items),
        Value::Object(_) => object(value),
        _ => Err("neither an event line nor [\"event\", ...args]".into()),
    }
}

fn array(items: Vec<Value>) -> Result<Line, String> {
    let mut items = items.into_iter();
    let Some(Value::String(event)) = items.next() else {
        return Err("the first item of an array has to be the event's name".into());
    };
    let args = items.map(untag).collect::<Result<_, _>>()?;
    let nothing = Wanted { event, args, namespace: None, rooms: None, except: None, flags: None, time: None };
    Ok(Line::Event(nothing))
}

fn object(value: Value) -> Result<Line, String> {
    let fields: Fields = value.into_rust().map_err(|e| e.to_string().replace("cannot decode: ", ""))?;
    if let Some(kind) = &fields.kind {
        let kind: MessageKind = kind.parse().map_err(|_| format!("unknown type {kind:?}"))?;
        if kind != MessageKind::Broadcast {
            return Ok(Line::Other(kind));
        }
    }
    if fields.attachment.is_some_and(|attachment| attachment.missing) {
        return Err("its attachment was missing when it was recorded".into());
    }
    if let Some(error) = fields.error {
        return Err(format!("it could not be read when it was recorded: {error}"));
    }
    let event = fields.event.ok_or("no \"event\"")?;
    let args = fields.args.into_iter().map(untag).collect::<Result<_, _>>()?;
    let namespace = fields.namespace.map(|name| Namespace::new(&name));
    let Fields { rooms, except, flags, time, .. } = fields;
    Ok(Line::Event(Wanted { event, args, namespace, rooms, except, flags, time }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{EventArgs, Message, Uid};

    fn event(line: &str) -> Wanted {
        match parse(line).unwrap() {
            Line::Event(wanted) => wanted,
            Line::Other(kind) => panic!("{kind}"),
        }
    }

    #[test]
    fn both_forms_are_read() {
        let short = event(r#"["ping", 1, {"$binary": "AQ=="}]"#);
        assert_eq!((short.event.as_str(), &short.args[1]), ("ping", &Value::Binary(vec![1].into())));
        assert_eq!((short.namespace, short.rooms), (None, None));

        let line = r#"{"time":"2026-01-31T12:00:00.123Z","namespace":"/a","uid":"u","type":"broadcast","event":"e",
            "args":["<>"],"rooms":["r1"],"except":[],"flags":{"volatile":true},"requestId":null,
            "attachment":{"id":"12","bytes":9023}}"#;
        let full = event(line);
        assert_eq!(full.namespace, Some(Namespace::new("a")));
        assert_eq!(full.rooms, Some(vec!["r1".into()]));
        assert_eq!(full.except, Some(vec![]));
        assert_eq!(full.flags.unwrap().volatile, Some(true));
        assert!(full.time.is_some());
    }

    #[test]
    fn other_kinds_and_nonsense_are_told_apart() {
        assert_eq!(parse(r#"{"type":"heartbeat","uid":"u"}"#), Ok(Line::Other(MessageKind::Heartbeat)));
        for (bad, reason) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("1", "neither"),
            ("[]", "first item"),
            ("[1]", "first item"),
            ("{}", "no \"event\""),
            (r#"{"event":1}"#, "string"),
            (r#"{"type":"nonsense"}"#, "unknown type"),
            (r#"{"event":"e","args":[{"$binary":"?"}]}"#, "base64"),
            (r#"{"type":"broadcast","attachment":{"id":"1","missing":true}}"#, "missing"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }

    /// Any value that a broadcast can hold; an object that looks like bytes would arrive as bytes.
    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-(1_i64 << 53)..=1 << 53).prop_map(Value::Int),
            any::<f64>()
                .prop_filter("JSON has no others", |f| f.is_finite() && f.fract() != 0.0)
                .prop_map(Value::Float),
            any::<String>().prop_map(Value::String),
            any::<Vec<u8>>().prop_map(|bytes| Value::Binary(bytes.into())),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            let key = any::<String>().prop_filter("bytes", |key| key != "$binary");
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec((key, inner), 0..5)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_tail_prints_emit_reads(
            name: String,
            args in prop::collection::vec(any_value(), 0..4),
            rooms: Vec<String>,
            except: Vec<String>,
            timeout: Option<u32>,
        ) {
            let nsp = Namespace::new("/a");
            let flags = Flags { timeout: timeout.map(u64::from), ..Flags::default() };
            let opts = BroadcastOptions { rooms, except, flags };
            let body = Body::Broadcast {
                opts: opts.clone(), event: EventArgs::new(&name, args.clone()), request_id: None,
            };
            let received = Received {
                time: std::time::SystemTime::UNIX_EPOCH,
                backend: None,
                channel: nsp.channel("socket.io").unwrap(),
                text: String::new(),
                attachment: None,
                content: Content::Message(Message { uid: Uid::emitter(), nsp: nsp.clone(), body }),
                is_replayed: false,
            };
            let line = serde_json::to_string(&EventLine(&received)).unwrap();
            let read = event(&line);
            prop_assert_eq!((read.event, read.args, read.namespace), (name, args, Some(nsp)));
            prop_assert_eq!((read.rooms, read.except, read.flags), (Some(opts.rooms), Some(opts.except), Some(opts.flags)));
        }

        #[test]
        fn no_line_makes_it_panic(line: String, name: String, value in any_value()) {
            parse(&line).ok();
            let damaged = serde_json::to_string(&Tagged(&value)).unwrap();
            parse(&format!(r#"{{"event":{name:?},"args":{damaged},"rooms":{damaged},"flags":{damaged}}}"#)).ok();
        }
    }
}
