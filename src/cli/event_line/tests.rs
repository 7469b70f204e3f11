//! Tests that `emit` reads the lines that `tail` prints.

use proptest::prelude::*;

use super::read::{as_text, as_values};
use super::*;
use crate::Namespace;
use crate::protocol::tests::any_json_scalar;
use crate::protocol::{EventArgs, Flags, Message, MessageKind, Uid};

fn event(line: &str) -> Wanted<'_> {
    wanted(parse(line).unwrap())
}

fn wanted(line: Line<'_>) -> Wanted<'_> {
    match line {
        Line::Event(wanted) => wanted,
        Line::Other(kind) => panic!("{kind}"),
    }
}

/// Everything that a line asks for.
fn parts(wanted: &Wanted<'_>) -> (EventArgs, LineTargets, Option<jiff::Timestamp>) {
    (wanted.event.to_args().unwrap(), wanted.targets().clone(), wanted.time)
}

#[test]
fn both_forms_are_read() {
    let short = event(r#"["ping", 1, {"$binary": "AQ=="}]"#);
    let args = EventArgs::new("ping", [1.into(), Value::Binary(vec![1].into())]);
    assert_eq!(parts(&short), (args, LineTargets::NONE.clone(), None));
    assert!(short.is_bare());

    let line = r#"{"time":"2026-01-31T12:00:00.123Z","namespace":"/a","uid":"u","type":"broadcast","event":"e",
        "args":["<>"],"rooms":["r1"],"except":[],"flags":{"volatile":true},"requestId":null,
        "attachment":{"id":"12","bytes":9023}}"#;
    let (args, targets, time) = parts(&event(line));
    assert_eq!(args, EventArgs::new("e", ["<>".into()]));
    assert_eq!(targets.namespace, Some(Namespace::new("a")));
    assert_eq!(targets.rooms, Some(vec!["r1".into()]));
    assert_eq!(targets.except, Some(vec![]));
    assert_eq!(targets.flags.unwrap().volatile, Some(true));
    assert!(time.is_some());
}

#[test]
fn text_without_bytes_is_kept_as_it_is() {
    for (line, text) in [
        (r#"["e"]"#, r#"["e"]"#),
        (r#" ["e" , 1e2, {"a": [null]}] "#, r#"["e", 1e2, {"a": [null]}]"#),
        (r#"{"event":"e"}"#, r#"["e"]"#),
        (r#"{"event":"e","args":[ ]}"#, r#"["e"]"#),
        (r#"{"args":[1,"\u00e9"],"event":"é","rooms":["r"]}"#, r#"["é",1,"\u00e9"]"#),
    ] {
        let wanted = wanted(as_text(line).expect(line));
        assert_eq!(wanted.event.to_args().unwrap().as_json(), Some(text), "{line}");
    }
    let deep = format!("[\"e\",{}{}]", "[".repeat(200), "]".repeat(200));
    for line in [
        r#"["e",{"$binary":"AQ=="}]"#,
        r#"{"event":"e","args":[[{"$binary":"AQ=="}]]}"#,
        r#"["\ud800"]"#,
        r#"["\u00e9"]"#,
        r#"{"event":"\""}"#,
        &deep,
    ] {
        assert_eq!(as_text(line), None, "{line}");
        assert!(as_values(line).is_ok(), "{line}");
    }
    for line in [r#"["e",1e999]"#, r#"["e"] x"#, r#"["e",01]"#, r#"{"event":"e","args":null}"#, "[1]"] {
        assert_eq!(as_text(line), None, "{line}");
        assert!(as_values(line).is_err(), "{line}");
    }
}

#[test]
fn a_list_is_never_read_as_the_fields_of_a_line() {
    for line in [
        r#"["\u0062roadcast","x",[],null,null,null,null,null,null,null,null]"#,
        r#"["\u0068eartbeat","x",[],null,null,null,null,null,null,null,null]"#,
        r#"["broadcast","e",[],null,null,null,null,null,{"$binary":"AQ=="},null,null]"#,
    ] {
        let (event, args) = event(line).event.to_args().unwrap().into_parts().unwrap();
        assert!(["broadcast", "heartbeat"].contains(&&*event) && args.len() == 10, "{line}");
    }
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

/// Any value that a broadcast can hold. Objects with the key `$binary` are excluded, since they would arrive as bytes.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        5 => any_json_scalar(),
        1 => any::<Vec<u8>>().prop_map(|bytes| Value::Binary(bytes.into())),
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
    fn emit_reads_the_output_of_tail(
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
        let BroadcastOptions { rooms, except, flags } = opts;
        let targets = LineTargets {
            namespace: Some(nsp), rooms: Some(rooms), except: Some(except), flags: Some(flags),
        };
        let (args_read, targets_read, _) = parts(&event(&line));
        prop_assert_eq!((args_read, targets_read), (EventArgs::new(&name, args), targets));
    }

    #[test]
    fn no_line_makes_it_panic(line: String, name: String, value in any_value()) {
        let damaged = serde_json::to_string(&BinaryJson(&value)).unwrap();
        for line in [
            format!(r#"{{"event":{name:?},"args":{damaged},"rooms":{damaged},"flags":{damaged}}}"#),
            format!(r#"{{"event":{name:?},"args":[{damaged}]}}"#),
            format!(r#"["e",{damaged}]"#),
            line,
        ] {
            parse(&line).ok();
            // An event that is kept as text equals the event that is parsed as a value.
            if let Some(Line::Event(kept)) = as_text(&line) {
                prop_assert_eq!(parts(&wanted(as_values(&line).unwrap())), parts(&kept));
            }
        }
    }
}
