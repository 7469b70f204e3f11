//! Values in the JSON of the command line: bytes are `{"$binary":"<base64>"}`, at any depth.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::Value;
use crate::protocol::Object;

pub(super) const BINARY: &str = "$binary";

/// A value that serializes bytes as `{"$binary":"<base64>"}`.
pub(super) struct BinaryJson<'a>(pub(super) &'a Value);

impl Serialize for BinaryJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Binary(bytes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(BINARY, &STANDARD.encode(bytes))?;
                map.end()
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(BinaryJson)),
            Value::Object(entries) => {
                serializer.collect_map(entries.iter().map(|(key, item)| (key, BinaryJson(item))))
            }
            plain => plain.serialize(serializer),
        }
    }
}

/// The same for a list of values.
pub(super) fn all(values: &[Value]) -> Vec<BinaryJson<'_>> {
    values.iter().map(BinaryJson).collect()
}

/// A value for people: a string unquoted, any other value as JSON.
pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        // A `Value` always serializes.
        other => Cow::Owned(serde_json::to_string(&BinaryJson(other)).unwrap_or_default()),
    }
}

/// Decodes `{"$binary":"<base64>"}` back into bytes.
pub(super) fn decode_binary(value: Value) -> Result<Value, String> {
    match value {
        Value::Array(items) => {
            Ok(Value::Array(items.into_iter().map(decode_binary).collect::<Result<_, _>>()?))
        }
        Value::Object(entries) => match entries.get(BINARY) {
            Some(Value::String(text)) if entries.len() == 1 => {
                let bytes = STANDARD.decode(text).map_err(|e| format!("{BINARY} is not base64: {e}"))?;
                Ok(Value::Binary(bytes.into()))
            }
            _ => {
                let entries = entries.into_iter().map(|(key, item)| Ok((key, decode_binary(item)?)));
                Ok(Value::Object(entries.collect::<Result<Object, String>>()?))
            }
        },
        plain => Ok(plain),
    }
}
