//! Conversion between protocol values and the packets of socketioxide's two parsers.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use socketioxide_core::Value as CoreValue;
use socketioxide_core::packet::{Packet, PacketData};
use socketioxide_core::parser::{Parse, ParserError};

use crate::protocol::{Date, EventArgs, Object, PLACEHOLDER, Value};
use crate::{Error, Result};

/// The parser of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON, with binary beside it.
    Json,
    /// Msgpack.
    Msgpack,
}

impl Format {
    pub(super) fn of(parser: impl Parse) -> Self {
        match parser.encode_default(&()) {
            Ok(CoreValue::Bytes(_)) => Self::Msgpack,
            _ => Self::Json,
        }
    }

    /// An event with its arguments. Text goes through as it is.
    pub(super) fn value_of(self, event: EventArgs) -> Result<CoreValue> {
        let event = match self {
            Self::Json => match event.into_json() {
                Ok(text) => return Ok(CoreValue::Str(text.into(), None)),
                Err(event) => event,
            },
            Self::Msgpack => event,
        };
        let (name, args) = event.into_parts()?;
        let mut values = vec![Value::from(name)];
        values.extend(args);
        self.encode(&values)
    }

    /// The arguments of an acknowledgement that has one.
    pub(super) fn value_of_one(self, value: &Value) -> Result<CoreValue> {
        self.encode(std::slice::from_ref(value))
    }

    pub(crate) fn encode(self, values: &[Value]) -> Result<CoreValue> {
        if self == Self::Msgpack {
            let values: Vec<_> = values.iter().map(|value| ForClient { value, binaries: None }).collect();
            return Ok(CoreValue::Bytes(crate::protocol::write_msgpack(&values)?.into()));
        }
        let binaries = RefCell::default();
        let values: Vec<_> =
            values.iter().map(|value| ForClient { value, binaries: Some(&binaries) }).collect();
        let text = serde_json::to_string(&values).map_err(|e| Error::Encode(e.to_string()))?;
        drop(values);
        let binaries = binaries.into_inner();
        Ok(CoreValue::Str(text.into(), (!binaries.is_empty()).then_some(binaries)))
    }
}

/// The event of a packet that a client of this server is to receive.
pub(super) fn event_of(packet: &Packet) -> Result<EventArgs, ParserError> {
    let event = match &packet.inner {
        PacketData::Event(value, _) | PacketData::BinaryEvent(value, _) => match value {
            CoreValue::Str(text, None) => EventArgs::from_json(text.to_string()),
            other => decode(other.clone()).map(EventArgs::from_values),
        },
        _ => Err(Error::Encode("a packet that is not an event".into())),
    };
    event.map_err(ParserError::new)
}

/// The first argument of an acknowledgement, if it has any.
pub(super) fn first_of(value: CoreValue) -> Result<Option<Value>> {
    Ok(decode(value)?.into_iter().next())
}

pub(crate) fn decode(value: CoreValue) -> Result<Vec<Value>> {
    let value = match value {
        CoreValue::Bytes(bytes) => crate::protocol::read_msgpack(&bytes)?,
        CoreValue::Str(text, None) => Value::from_json(&text)?,
        CoreValue::Str(text, Some(binaries)) => fill(Value::from_json(&text)?, &binaries),
    };
    values_of(value)
}

/// The name of an event and its arguments.
pub(super) fn values_of(data: Value) -> Result<Vec<Value>> {
    match data {
        Value::Array(values) => Ok(values),
        _ => Err(Error::Decode("a packet whose data is not an array".into())),
    }
}

/// Puts binary where the Socket.IO protocol has placeholders for it.
pub(super) fn fill(value: Value, binaries: &VecDeque<Bytes>) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| fill(item, binaries)).collect()),
        Value::Object(entries) => match binary_of(&entries, binaries) {
            Some(bytes) => Value::Binary(bytes),
            None => {
                Value::Object(entries.into_iter().map(|(key, item)| (key, fill(item, binaries))).collect())
            }
        },
        plain => plain,
    }
}

fn binary_of(entries: &Object, binaries: &VecDeque<Bytes>) -> Option<Bytes> {
    let is_placeholder = entries.get(PLACEHOLDER).and_then(Value::as_bool)?;
    let number = usize::try_from(entries.get("num")?.as_i64()?).ok()?;
    binaries.get(number).filter(|_| is_placeholder).cloned()
}

/// Writes a value as the parser of a client reads it.
struct ForClient<'a> {
    value: &'a Value,
    /// In JSON, binary goes here and leaves a placeholder.
    binaries: Option<&'a RefCell<VecDeque<Bytes>>>,
}

impl Serialize for ForClient<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, binaries } = *self;
        match (value, binaries) {
            (Value::Binary(bytes), Some(binaries)) => {
                let number = binaries.borrow().len();
                binaries.borrow_mut().push_back(bytes.clone());
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry(PLACEHOLDER, &true)?;
                map.serialize_entry("num", &number)?;
                map.end()
            }
            (Value::Date(date), None) => {
                let body = date.as_millis().to_be_bytes();
                serializer.serialize_newtype_struct(
                    rmp_serde::MSGPACK_EXT_STRUCT_NAME,
                    &(Date::NOTEPACK_EXTENSION, serde_bytes::Bytes::new(&body)),
                )
            }
            (Value::Array(items), _) => {
                serializer.collect_seq(items.iter().map(|value| Self { value, binaries }))
            }
            (Value::Object(entries), _) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, Self { value, binaries })))
            }
            (plain, _) => plain.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_leaves_a_placeholder_and_comes_back_to_it() {
        let deep = Value::Object(Object::from([("b".into(), Value::Binary(vec![2, 3].into()))]));
        let event = EventArgs::new("e", [Value::Binary(vec![1].into()), deep, 5.into()]);
        let value = Format::Json.value_of(event.clone()).unwrap();
        let CoreValue::Str(text, Some(binaries)) = &value else { panic!("{value:?}") };
        assert_eq!(
            text.as_str(),
            r#"["e",{"_placeholder":true,"num":0},{"b":{"_placeholder":true,"num":1}},5]"#
        );
        assert_eq!(binaries.len(), 2);
        let packet = Packet::event("/", value);
        assert_eq!(event_of(&packet).unwrap(), event);

        let noon = Value::Date(Date::from_millis(1_700_000_000_123).unwrap());
        let event = EventArgs::new("e", [noon, vec![Value::Binary(vec![1].into())].into()]);
        let value = Format::Msgpack.value_of(event.clone()).unwrap();
        assert_eq!(event_of(&Packet::event("/", value)).unwrap(), event);
        assert_eq!(first_of(Format::Msgpack.value_of_one(&7.into()).unwrap()).unwrap(), Some(Value::Int(7)));
        assert_eq!(first_of(CoreValue::Str("[]".into(), None)).unwrap(), None);
        assert_eq!(first_of(CoreValue::Str("[null]".into(), None)).unwrap(), Some(Value::Null));
    }
}
