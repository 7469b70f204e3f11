//! Checks whether an event of a client may be relayed: the libraries of all other clients must be able to read it.
//!
//! socket.io-parser 4 closes the connection of a client that receives more than ten attachments, a placeholder without its
//! attachment, or a reserved event name. So such an event is not relayed.

use std::collections::VecDeque;

use bytes::Bytes;
use socketioxide_core::Value as CoreValue;

use super::convert;
use crate::protocol::{EventArgs, PLACEHOLDER, Value, check_client_event, has_placeholder};
use crate::{Error, Result};

/// The maximum number of attachments of socket.io-parser 4.
const MAX_ATTACHMENTS: usize = 10;

/// An event of a client, for the clients of this server and for the other servers.
pub(crate) struct Relayable {
    pub(super) value: CoreValue,
    pub(super) event: EventArgs,
}

impl Relayable {
    /// Checks an event of a client.
    ///
    /// # Errors
    /// [`Error::ReservedEvent`], and [`Error::Decode`] for anything else that a client could not read.
    pub(crate) fn check(value: CoreValue) -> Result<Self> {
        let value = trimmed(value);
        let event = match &value {
            CoreValue::Str(text, None) => {
                if has_placeholder(text)? {
                    return Err(lost_placeholder());
                }
                EventArgs::from_json(text.to_string())?
            }
            CoreValue::Str(text, Some(binaries)) => {
                let json = Value::from_json(text)?;
                check_placeholders(&json, binaries)?;
                EventArgs::from_values(convert::values_of(convert::fill(json, binaries))?)
            }
            CoreValue::Bytes(bytes) => {
                let document = crate::protocol::read_msgpack(bytes)?;
                let mut seen = Contents::default();
                seen.count(&document);
                if seen.placeholders > 0 {
                    return Err(lost_placeholder());
                }
                if seen.binaries > MAX_ATTACHMENTS {
                    return Err(too_many_attachments());
                }
                EventArgs::from_values(convert::values_of(document)?)
            }
        };
        check_client_event(&event.event()?)?;
        Ok(Self { value, event })
    }

    /// How many bytes of memory the event takes while it waits for the other servers.
    pub(crate) fn memory(&self) -> usize {
        self.event.memory()
    }
}

/// The event without surrounding white space, which clients would parse as an id, and without an empty list of attachments.
fn trimmed(value: CoreValue) -> CoreValue {
    match value {
        CoreValue::Str(text, binaries) => {
            let trimmed = text.trim_ascii();
            let text = if trimmed.len() == text.len() { text } else { trimmed.to_owned().into() };
            CoreValue::Str(text, binaries.filter(|binaries| !binaries.is_empty()))
        }
        bytes => bytes,
    }
}

/// Checks that each attachment has one placeholder, and each placeholder one attachment.
fn check_placeholders(json: &Value, binaries: &VecDeque<Bytes>) -> Result<()> {
    if binaries.len() > MAX_ATTACHMENTS {
        return Err(too_many_attachments());
    }
    let mut seen = Contents::default();
    seen.count(json);
    seen.numbers.sort_unstable();
    let is_complete = seen.placeholders == binaries.len()
        && seen.numbers.iter().zip(0..).all(|(number, expected)| *number == Some(expected));
    if is_complete { Ok(()) } else { Err(lost_placeholder()) }
}

/// The attachments and placeholders of an event.
#[derive(Default)]
struct Contents {
    binaries: usize,
    placeholders: usize,
    /// The numbers of the first placeholders; `None` for one that is no number.
    numbers: Vec<Option<i64>>,
}

impl Contents {
    fn count(&mut self, value: &Value) {
        match value {
            Value::Binary(_) => self.binaries += 1,
            Value::Array(items) => items.iter().for_each(|item| self.count(item)),
            Value::Object(entries) => {
                if entries.get(PLACEHOLDER).and_then(Value::as_bool) == Some(true) {
                    self.placeholders += 1;
                    if self.numbers.len() <= MAX_ATTACHMENTS {
                        self.numbers.push(entries.get("num").and_then(Value::as_i64));
                    }
                }
                entries.values().for_each(|item| self.count(item));
            }
            _ => {}
        }
    }
}

fn lost_placeholder() -> Error {
    Error::Decode("a placeholder without its attachment, or an attachment without its placeholder".into())
}

fn too_many_attachments() -> Error {
    Error::Decode(format!("more than {MAX_ATTACHMENTS} attachments"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str, attachments: usize) -> CoreValue {
        let binaries = (0..attachments).map(|n| Bytes::from(vec![n as u8])).collect();
        CoreValue::Str(json.to_owned().into(), Some(binaries))
    }

    fn event_with(attachments: usize) -> String {
        let items: Vec<_> =
            (0..attachments).map(|n| format!(r#"{{"_placeholder":true,"num":{n}}}"#)).collect();
        format!(r#"["e",{}]"#, items.join(","))
    }

    #[test]
    fn attachments_and_placeholders_have_to_match() {
        for count in 1..=MAX_ATTACHMENTS {
            assert!(Relayable::check(text(&event_with(count), count)).is_ok(), "{count}");
            assert!(Relayable::check(text(&event_with(count), count - 1)).is_err(), "{count}");
            assert!(Relayable::check(text(&event_with(count), count + 1)).is_err(), "{count}");
        }
        let eleven = MAX_ATTACHMENTS + 1;
        assert!(Relayable::check(text(&event_with(eleven), eleven)).is_err());
        let twice = r#"["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
        for (json, attachments) in [(twice, 1), (twice, 2), (r#"["e",{"_placeholder":true,"num":0}]"#, 0)] {
            assert!(Relayable::check(text(json, attachments)).is_err(), "{json}");
        }
        for number in ["-1", "1", "0.0", "1e0", "\"0\"", "null", "true", "[0]", "18446744073709551616"] {
            let json = format!(r#"["e",{{"_placeholder":true,"num":{number}}}]"#);
            assert!(Relayable::check(text(&json, 1)).is_err(), "{json}");
        }
    }

    #[test]
    fn msgpack_has_the_same_bounds() {
        let event = |count: usize| {
            let binary = Value::Binary(Bytes::from_static(b"x"));
            let mut values = vec![Value::from("e")];
            values.extend(vec![binary; count]);
            CoreValue::Bytes(crate::protocol::write_msgpack(&values).unwrap().into())
        };
        assert!(Relayable::check(event(10)).is_ok());
        assert!(Relayable::check(event(11)).is_err());
        let placeholder = Value::from_json(r#"["e",{"_placeholder":true,"num":0}]"#).unwrap();
        let bytes = crate::protocol::write_msgpack(&placeholder).unwrap();
        assert!(Relayable::check(CoreValue::Bytes(bytes.into())).is_err());
    }

    #[test]
    fn text_is_trimmed_and_names_are_read() {
        let relayed = Relayable::check(text(" [\"e\"]\n", 0)).unwrap();
        assert_eq!(relayed.value, CoreValue::Str("[\"e\"]".into(), None));
        for json in [r#"["\u0063onnect"]"#, r#"["newListener",1]"#, "[7]", "[]", "{}", "null", "[\"e\"", ""] {
            assert!(Relayable::check(text(json, 0)).is_err(), "{json}");
        }
    }
}
