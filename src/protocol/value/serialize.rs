//! Writes a [`Value`]: to JSON as `JSON.stringify` does, to msgpack as `@msgpack/msgpack` does.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_bytes::Bytes as ByteStr;

use super::{Date, Value};

/// The name under which [`Value::from_rust`] recognises a value that serde's data model cannot hold.
pub(super) const SPECIAL: &str = "$pgio::Special";

/// The bound of JavaScript's integers. `@msgpack/msgpack` writes larger ones as a float64.
const MAX_SAFE_INTEGER: u64 = 1 << 53;

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let for_json = serializer.is_human_readable();
        match self {
            // Not a unit, which as the argument of an event means "no arguments".
            Self::Null => serializer.serialize_none(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(n) if for_json || n.unsigned_abs() <= MAX_SAFE_INTEGER => serializer.serialize_i64(*n),
            Self::Int(n) => serializer.serialize_f64(*n as f64),
            Self::Float(f) => serializer.serialize_f64(*f),
            Self::String(text) => serializer.serialize_str(text),
            Self::Binary(bytes) if is_socketioxide::<S>() => serializer.serialize_bytes(bytes),
            Self::Binary(bytes) => serializer.serialize_newtype_struct(SPECIAL, &Binary(bytes)),
            Self::Date(date) => date.serialize(serializer),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(entries) => serializer.collect_map(entries),
        }
    }
}

/// Whether the serializer is a parser of socketioxide.
///
/// Its common parser sends bytes beside the JSON text, but reports that it is human-readable, like the serializer of
/// `serde_json` that it wraps. It also takes the top-level newtype of an event for a tuple of arguments, and passes the
/// content of any newtype or `Some` to the wrapped serializer, where bytes become numbers. Only its type distinguishes
/// it.
fn is_socketioxide<S>() -> bool {
    std::any::type_name::<S>().starts_with("socketioxide")
}

/// Bytes. In JSON they have the form of `Buffer.prototype.toJSON`.
struct Binary<'a>(&'a [u8]);

impl Serialize for Binary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(self.0);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("type", "Buffer")?;
        map.serialize_entry("data", self.0)?;
        map.end()
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match is_socketioxide::<S>() {
            true => serializer.collect_str(self),
            false => serializer.serialize_newtype_struct(SPECIAL, &Instant(*self)),
        }
    }
}

/// A date. In JSON it has the form of `Date.prototype.toJSON`, in msgpack it is a timestamp extension.
struct Instant(Date);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(&self.0);
        }
        let body = self.0.to_extension();
        serializer.serialize_newtype_struct(
            rmp_serde::MSGPACK_EXT_STRUCT_NAME,
            &(Date::EXTENSION, ByteStr::new(&body)),
        )
    }
}
