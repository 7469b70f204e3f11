//! Tests of the decoder with captured messages of the Node packages, and round trips of random messages.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::Error;

#[derive(Deserialize)]
struct Capture {
    #[serde(default)]
    adapter: Option<String>,
    operation: String,
    channel: String,
    payload: String,
    attachment_hex: Option<String>,
}

fn captures() -> Vec<Capture> {
    [
        include_str!("../../tests/fixtures/adapter-wire.json"),
        include_str!("../../tests/fixtures/emitter-wire.json"),
    ]
    .into_iter()
    .flat_map(|text| serde_json::from_str::<Vec<Capture>>(text).unwrap())
    .collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

impl Capture {
    fn nsp(&self) -> Namespace {
        Namespace::new(self.channel.strip_prefix("socket.io#").unwrap())
    }

    fn message(&self) -> Message {
        let nsp = self.nsp();
        let notification = Notification::parse(&self.payload, &nsp).unwrap();
        match (notification.attachment, &self.attachment_hex) {
            (Some(_), Some(hex)) => Message::decode_document(&from_hex(hex), &nsp).unwrap(),
            (None, None) => notification.into_message().unwrap(),
            _ => panic!("{}: attachment id and row do not go together", self.operation),
        }
    }
}

fn captured(adapter: &str, operation: &str) -> Message {
    let captures = captures();
    let found = captures
        .iter()
        .find(|c| c.adapter.as_deref() == Some(adapter) && c.operation.starts_with(operation))
        .unwrap_or_else(|| panic!("no capture of {operation}"));
    found.message()
}

fn decode(encoded: &Encoded, nsp: &Namespace) -> Message {
    match encoded {
        Encoded::Inline(text) => Notification::parse(text, nsp).unwrap().into_message().unwrap(),
        Encoded::Attachment { document, .. } => Message::decode_document(document, nsp).unwrap(),
    }
}

#[test]
fn every_captured_message_decodes_and_survives_a_round_trip() {
    let captures = captures();
    let mut kinds: Vec<_> = captures.iter().map(|c| c.message().kind()).collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, MessageKind::ALL, "the captures hold every kind");

    for capture in &captures {
        let message = capture.message();
        assert_eq!(message.nsp, capture.nsp());
        for threshold in [0, MAX_INLINE_BYTES] {
            let again = decode(&message.encode(threshold).unwrap(), &capture.nsp());
            assert_eq!(again, message, "{} at threshold {threshold}", capture.operation);
        }
    }
}

#[test]
fn inline_messages_are_written_as_node_writes_them() {
    for capture in captures().iter().filter(|c| c.attachment_hex.is_none()) {
        let Encoded::Inline(ours) = capture.message().encode(MAX_INLINE_BYTES).unwrap() else {
            panic!("{} went to the table", capture.operation);
        };
        let ours: serde_json::Value = serde_json::from_str(&ours).unwrap();
        let mut theirs: serde_json::Value = serde_json::from_str(&capture.payload).unwrap();
        // pgio always sends fields that some versions do not send. No server reads the `nsp` of a packet, which the
        // emitter adds.
        theirs["nsp"] = capture.nsp().as_str().into();
        theirs["source"] = "_sio_adapter".into();
        if let Some(opts) = theirs.pointer_mut("/data/opts").and_then(serde_json::Value::as_object_mut) {
            opts.entry("flags").or_insert_with(|| serde_json::json!({}));
        }
        if let Some(packet) = theirs.pointer_mut("/data/packet").and_then(serde_json::Value::as_object_mut)
            && packet.contains_key("data")
        {
            packet.remove("nsp");
        }
        assert_eq!(ours, theirs, "{}", capture.operation);
    }
}

/// The primary of a Node cluster passes messages on as they are, and its workers ignore those without this source.
#[test]
fn every_message_has_the_source_that_workers_of_a_node_cluster_want() {
    for capture in captures() {
        let message = capture.message();
        for threshold in [0, MAX_INLINE_BYTES] {
            let json: serde_json::Value = match message.encode(threshold).unwrap() {
                Encoded::Inline(text) => serde_json::from_str(&text).unwrap(),
                Encoded::Attachment { document, .. } => {
                    serde_json::to_value(msgpack::read(&document).unwrap()).unwrap()
                }
            };
            assert_eq!(json["source"], "_sio_adapter", "{} at threshold {threshold}", capture.operation);
        }
    }
}

#[test]
fn dates_binary_and_undefined_keep_their_types() {
    for adapter in ["0.3.1", "0.4.0", "0.5.0"] {
        let Body::Broadcast { event, .. } = captured(adapter, "io.emit('date+undefined+bin'").body else {
            panic!("not a broadcast");
        };
        let (name, args) = event.into_parts().unwrap();
        assert_eq!(name, "date");
        assert_eq!(args[0], Value::Date(Date::from_millis(1_700_000_000_123).unwrap()));
        assert_eq!(args[1], Value::Null);
        assert_eq!(args[2], Value::Binary(vec![0].into()));
        assert_eq!(args[3].get("big"), Some(&Value::Int((1 << 53) - 1)));
        assert_eq!(args[3].get("neg"), Some(&Value::Int(-7)));
    }
}

#[test]
fn the_text_of_an_inline_event_can_be_passed_on() {
    let Body::Broadcast { event, .. } = captured("0.5.0", "io.emit('ping','text'").body else {
        panic!("not a broadcast");
    };
    assert_eq!(event.as_json(), Some(r#"["ping","text",{"a":1,"b":[true,null,2.5]}]"#));
    assert_eq!(event.event().unwrap(), "ping");
}

#[test]
fn the_threshold_counts_bytes_and_belongs_to_the_table() {
    let of = |text: &str| broadcast(Uid::emitter(), EventArgs::new("e", [text.into()]));
    let overhead = match of("").encode(MAX_INLINE_BYTES).unwrap() {
        Encoded::Inline(text) => text.len(),
        other => panic!("{other:?}"),
    };
    let longest = "x".repeat(MAX_INLINE_BYTES - 1 - overhead);
    assert!(matches!(of(&longest).encode(MAX_INLINE_BYTES).unwrap(), Encoded::Inline(t) if t.len() == 7999));
    assert!(matches!(
        of(&format!("{longest}x")).encode(MAX_INLINE_BYTES).unwrap(),
        Encoded::Attachment { .. }
    ));
    assert!(matches!(of(&format!("{longest}x")).encode(20_000).unwrap(), Encoded::Attachment { .. }));
    let in_bytes = "é".repeat(longest.len() / 2 + 1);
    assert!(matches!(of(&in_bytes).encode(MAX_INLINE_BYTES).unwrap(), Encoded::Attachment { .. }));
}

#[test]
fn binary_in_kinds_that_node_sends_as_json_is_written_as_a_buffer() {
    let socket = RemoteSocket {
        id: "a".into(),
        handshake: Value::Null,
        rooms: vec![],
        data: Value::Binary(vec![1, 255].into()),
    };
    let body = Body::FetchSocketsResponse { request_id: "r".into(), sockets: vec![socket] };
    let message = Message { uid: Uid::random(), nsp: Namespace::default(), body };
    let Encoded::Inline(text) = message.encode(MAX_INLINE_BYTES).unwrap() else { panic!("not inline") };
    assert!(text.contains(r#""data":{"type":"Buffer","data":[1,255]}"#), "{text}");
}

#[test]
fn lone_surrogates_and_deep_nesting_are_no_reason_to_lose_a_message() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let text = format!(
        r#"{{"uid":"u","type":12,"data":{{"requestId":"r","packet":["\ud800","\ud834\udd1e","\\ud800",{deep}]}}}}"#
    );
    let message = Notification::parse(&text, &Namespace::default()).unwrap().into_message().unwrap();
    let Body::BroadcastAck { answer, .. } = message.body else { panic!("not an acknowledgement") };
    let answer = answer.unwrap();
    let items = answer.as_array().unwrap();
    assert_eq!(items[0].as_str(), Some("\u{fffd}"));
    assert_eq!(items[1].as_str(), Some("𝄞"));
    assert_eq!(items[2].as_str(), Some("\\ud800"));

    let too_deep = "[".repeat(100_000);
    assert!(matches!(Value::from_json(&too_deep), Err(Error::Decode(_))));
    let too_deep = vec![0x91; 100_000];
    assert!(matches!(Message::decode_document(&too_deep, &Namespace::default()), Err(Error::Decode(_))));
}

/// Node takes a missing `packet` for `undefined`, which JSON cannot hold.
#[test]
fn an_acknowledgement_without_an_argument_is_not_null() {
    for (answer, packet) in [(None, None), (Some(Value::Null), Some(serde_json::Value::Null))] {
        let body = Body::BroadcastAck { request_id: "r".into(), answer };
        let message = Message { uid: Uid::random(), nsp: Namespace::default(), body };
        let inline = message.encode(MAX_INLINE_BYTES).unwrap();
        let Encoded::Inline(text) = &inline else { panic!("not inline") };
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(json["data"].get("packet"), packet.as_ref(), "{text}");
        assert_eq!(decode(&inline, &message.nsp), message);
        assert_eq!(decode(&message.encode(0).unwrap(), &message.nsp), message);
    }
}

#[test]
fn invalid_messages_are_refused_with_a_reason() {
    for (text, reason) in [
        ("", "not a message"),
        ("null", "not a message"),
        (r#"{"type":3}"#, "uid"),
        (r#"{"uid":"u"}"#, "type"),
        (r#"{"uid":"u","type":99}"#, "unknown message type 99"),
        (r#"{"uid":"u","type":3}"#, "malformed broadcast"),
        (r#"{"uid":"u","type":3,"data":{"packet":{}}}"#, "malformed broadcast"),
        (r#"{"uid":"u","type":7,"data":{"opts":{}}}"#, "malformed fetch_sockets"),
    ] {
        let outcome = Notification::parse(text, &Namespace::default()).and_then(Notification::into_message);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn ids_of_attachments_may_be_text_or_numbers() {
    for id in [r#""12""#, "12"] {
        let text = format!(r#"{{"uid":"u","type":3,"attachmentId":{id},"nodeId":7}}"#);
        let notification = Notification::parse(&text, &Namespace::new("admin")).unwrap();
        assert_eq!(notification.attachment, Some(AttachmentId(12)));
        assert_eq!(notification.header.nsp.as_str(), "/admin");
    }
}

/// A room may be any value in JavaScript, and the option `uid` of adapter 0.3 may be a number.
#[test]
fn rooms_and_uids_that_are_no_strings_are_no_reason_to_lose_a_message() {
    let text = r#"{"uid":7,"type":3,"data":{"opts":{"rooms":[42,"r1",null],"except":[null,1.5]},"packet":{"type":2,"data":["e"]}}}"#;
    let inline = Notification::parse(text, &Namespace::default()).unwrap().into_message().unwrap();
    let row = msgpack::write(&Value::from_json(text).unwrap()).unwrap();
    assert_eq!(Message::decode_document(&row, &Namespace::default()).unwrap(), inline);
    assert_eq!(Summary::of_start(&row).uid, Some("7".into()));
    let opts = inline.body.options().unwrap();
    assert_eq!(
        (inline.uid.as_str(), &opts.rooms, &opts.except),
        ("7", &vec!["42".into(), "r1".into()], &vec!["1.5".into()])
    );
    let text = r#"{"uid":"u","type":4,"data":{"opts":{"rooms":[null]},"rooms":42}}"#;
    let message = Notification::parse(text, &Namespace::default()).unwrap().into_message().unwrap();
    let Body::SocketsJoin { opts, rooms } = message.body else { panic!("not a join") };
    assert_eq!((opts.rooms.len(), rooms), (1, vec!["42".to_owned()]), "no rooms would be all sockets");
}

#[test]
fn namespaces_that_postgres_cannot_take_are_refused() {
    let longest = "n".repeat(MAX_CHANNEL_BYTES - "socket.io#/".len());
    assert!(Namespace::new(&longest).channel("socket.io").is_ok());
    let error = Namespace::new(&format!("{longest}n")).channel("socket.io").unwrap_err();
    assert!(error.to_string().contains("64 bytes"), "{error}");
    assert!(Namespace::new("a\0b").channel("socket.io").is_err());
}

fn broadcast(uid: Uid, event: EventArgs) -> Message {
    let body = Body::Broadcast { opts: BroadcastOptions::default(), event, request_id: None };
    Message { uid, nsp: Namespace::default(), body }
}

/// Any value that JavaScript could have sent.
fn any_value() -> impl Strategy<Value = Value> {
    nested(any_json_scalar())
}

/// Any value of JSON that is neither an array nor an object.
pub(crate) fn any_json_scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-(1_i64 << 53)..=1 << 53).prop_map(Value::Int),
        any::<f64>()
            .prop_filter("JSON has no others", |f| f.is_finite() && f.fract() != 0.0)
            .prop_map(Value::Float),
        any::<String>().prop_map(Value::String),
    ]
}

/// Any value that an attachment can carry.
fn any_attached_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<String>().prop_map(Value::String),
        any::<f64>().prop_filter("not equal to itself", |f| !f.is_nan()).prop_map(Value::Float),
        any::<Vec<u8>>().prop_map(|bytes| Value::Binary(bytes.into())),
        (-9_000_000_000_000_000_i64..9_000_000_000_000_000)
            .prop_filter_map("out of range", |ms| Date::from_millis(ms).map(Value::Date)),
    ];
    nested(leaf)
}

fn nested(leaf: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_event_survives_either_way(event: String, args in prop::collection::vec(any_value(), 0..4)) {
        let message = broadcast(Uid::random(), EventArgs::new(&event, args));
        for threshold in [0, MAX_INLINE_BYTES] {
            prop_assert_eq!(&decode(&message.encode(threshold).unwrap(), &message.nsp), &message);
        }
    }

    #[test]
    fn binary_and_dates_survive_an_attachment(args in prop::collection::vec(any_attached_value(), 0..4)) {
        let message = broadcast(Uid::random(), EventArgs::new("e", args));
        prop_assert_eq!(&decode(&message.encode(0).unwrap(), &message.nsp), &message);
    }

    #[test]
    fn values_survive_rust(value in any_attached_value()) {
        prop_assert_eq!(&Value::from_rust(&value).unwrap(), &value);
        prop_assert_eq!(&value.clone().into_rust::<Value>().unwrap(), &value);
    }

    /// The same entry points as the fuzz target `decode`, from the same corpus.
    #[test]
    fn damaged_messages_never_panic(pick: prop::sample::Index, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let captures = captures();
        let capture = pick.get(&captures);
        let mut bytes = capture.attachment_hex.as_deref().map_or_else(|| capture.payload.clone().into(), from_hex);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()).max(at) + 1);
        let nsp = Namespace::default();
        let _ = Message::decode_document(&bytes, &nsp);
        let text = String::from_utf8_lossy(&bytes);
        let _ = Value::from_json(&text);
        if let Ok(message) = Notification::parse(&text, &nsp).and_then(Notification::into_message) {
            message.encode(MAX_INLINE_BYTES).unwrap();
        }
    }
}
