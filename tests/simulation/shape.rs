//! The models of the peers write what the real packages write: the same keys, in the same order, of the same types.

use std::fmt::Write as _;

use pgio::protocol::MessageKind;
use serde_json::Value;

use crate::wire::{Says, Version, document, header, row};

/// Keys in their order and the types of their values, as far as the protocol says them: what applications put in is left
/// out.
fn shape(value: &Value) -> String {
    fn of(value: &Value, path: &str, shape: &mut String) {
        let is_the_applications = path.ends_with(".packet.data")
            || path.ends_with("].handshake")
            || path.ends_with("].data")
            || path.ends_with(".rooms")
            || path.ends_with(".flags")
            || path.ends_with(".except")
            || (path.ends_with("data.packet") && value.get("type").is_none());
        match value {
            _ if is_the_applications => {
                writeln!(shape, "{path}: {}", if value.is_array() { "array" } else { "object" }).unwrap();
            }
            Value::Object(entries) => {
                for (key, value) in entries {
                    of(value, &format!("{path}.{key}"), shape);
                }
            }
            Value::Array(items) => {
                if let Some(first) = items.first() {
                    of(first, &format!("{path}[]"), shape);
                }
            }
            Value::String(_) => writeln!(shape, "{path}: string").unwrap(),
            Value::Number(number) if path == ".type" => writeln!(shape, "{path}: {number}").unwrap(),
            Value::Number(_) => writeln!(shape, "{path}: number").unwrap(),
            Value::Bool(_) => writeln!(shape, "{path}: bool").unwrap(),
            Value::Null => writeln!(shape, "{path}: null").unwrap(),
        }
    }
    let mut text = String::new();
    of(value, "", &mut text);
    text
}

/// Of a row, the order of the keys does not matter.
fn sorted(shape: &str) -> String {
    let mut lines: Vec<_> = shape.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn captures(file: &str, of: &str) -> Vec<(String, Value, Option<Vec<u8>>)> {
    let captures: Vec<Value> = serde_json::from_str(file).unwrap();
    let version = |capture: &Value| {
        capture.get("adapter").or(capture.get("emitter")).and_then(Value::as_str).unwrap().to_owned()
    };
    let hex = |text: &str| {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    captures
        .iter()
        .filter(|capture| version(capture) == of)
        .map(|capture| {
            let payload = serde_json::from_str(capture["payload"].as_str().unwrap()).unwrap();
            let row = capture.get("attachment_hex").and_then(Value::as_str).map(hex);
            (capture["channel"].as_str().unwrap().to_owned(), payload, row)
        })
        .collect()
}

#[test]
fn peers_write_what_the_captured_packages_wrote() {
    let adapters = include_str!("../fixtures/adapter-wire.json");
    let emitters = include_str!("../fixtures/emitter-wire.json");
    let request = || "b2a735bce5565878".to_owned();
    let all = [
        Says::InitialHeartbeat,
        Says::Heartbeat,
        Says::Goodbye,
        Says::Broadcast { number: 1, request: None },
        Says::Broadcast { number: 1, request: Some(request()) },
        Says::FetchSockets { request: request() },
        Says::Sockets { request: request() },
        Says::ServerSideEmit { number: 1, request: None },
        Says::ServerSideEmit { number: 1, request: Some(request()) },
        Says::Answer { request: request() },
        Says::ClientCount { request: request(), count: 1 },
        Says::Ack { request: request(), number: 1 },
    ];
    for version in [Version::V03, Version::V04, Version::V05, Version::Emitter] {
        let (file, of) = match version {
            Version::Emitter => (emitters, "0.1.1"),
            _ => (adapters, version.name()),
        };
        let captures = captures(file, of);
        assert!(!captures.is_empty(), "no captures of {}", version.name());
        for says in &all {
            let kind = says.kind().unwrap().number();
            let wants_request = says.asks().is_some() || says.answers().is_some();
            let same: Vec<_> = captures
                .iter()
                .filter(|(_, payload, row)| {
                    let has_request = payload["data"].get("requestId").is_some();
                    payload["type"] == kind && row.is_none() && has_request == wants_request
                })
                .collect();
            let is_of_emitter = version == Version::Emitter;
            if same.is_empty() {
                let is_unsaid = is_of_emitter || (*says == Says::Goodbye && !version.says_goodbye());
                assert!(is_unsaid, "{} never said {says:?}", version.name());
                continue;
            }
            assert!(*says != Says::Goodbye || version.says_goodbye());
            for (channel, payload, _) in same {
                let nsp = channel.strip_prefix("socket.io#").unwrap();
                let uid = if is_of_emitter { "emitter" } else { "48d64efa079f25a9" };
                let ours = document(version, uid, nsp, says);
                assert_eq!(shape(&ours), shape(payload), "{} {says:?}", version.name());
            }
        }
        let with_rows = captures.iter().filter_map(|(_, payload, row)| Some((payload, row.as_ref()?)));
        let mut rows = 0;
        for (payload, captured) in with_rows.filter(|(payload, _)| payload["type"] == 3) {
            rows += 1;
            let ours: Value = serde_json::from_str(&header("uid", MessageKind::Broadcast, 7)).unwrap();
            assert_eq!(shape(&ours), shape(payload));
            let captured = pgio::protocol::Message::decode_document(captured, &"/".into()).unwrap();
            let says = Says::Broadcast { number: 1, request: None };
            let document = row(version, "uid", "/", &says);
            let ours = pgio::protocol::Message::decode_document(&document, &"/".into()).unwrap();
            assert_eq!(ours.kind(), captured.kind());
            let ours: Value = rmp_serde::from_slice(&document).unwrap();
            let inline = captures.iter().find(|(_, payload, row)| {
                row.is_none() && payload["type"] == 3 && payload["data"].get("requestId").is_none()
            });
            assert_eq!(sorted(&shape(&ours)), sorted(&shape(&inline.unwrap().1)));
        }
        assert!(rows > 0, "no rows of {}", version.name());
    }
}
