//! Reading a [`Value`] from JSON, from msgpack, or out of another [`Value`].

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_bytes::ByteBuf;

use super::{Date, KEY_BYTES, Object, Value};

/// The maximum depth of arrays and objects. It suffices for any event, and is safe on a thread's stack.
pub(crate) const MAX_DEPTH: usize = 256;

/// The maximum number of entries for which memory is allocated before they are counted. A document that ends within
/// [`MAX_DEPTH`] nested lists or objects has taken up to 1 MB for them.
const MAX_FIRST_CAPACITY: usize = 32;

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested { left: MAX_DEPTH, memory: &Cell::new(usize::MAX) }.deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Date(date) => Ok(date),
            Value::String(text) => text.parse().map_err(D::Error::custom),
            other => Err(D::Error::custom(format_args!("{other} is not a date"))),
        }
    }
}

/// Reads a value that takes at most `max_memory` bytes, as [`Value::memory`] counts. Also returns the memory that it
/// takes.
pub(crate) fn bounded<'de, D: Deserializer<'de>>(
    deserializer: D,
    max_memory: usize,
) -> Result<(Value, usize), D::Error> {
    let memory = Cell::new(max_memory);
    let value = Nested { left: MAX_DEPTH, memory: &memory }.deserialize(deserializer)?;
    Ok((value, max_memory - memory.get()))
}

/// The decoder of a value, with the number of levels that may still follow.
#[derive(Clone, Copy)]
struct Nested<'a> {
    left: usize,
    /// The memory that is left for the whole document.
    memory: &'a Cell<usize>,
}

impl Nested<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        left.map(|left| Self { left, ..self })
            .ok_or_else(|| E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")))
    }

    /// Counts memory before it is used.
    fn take<E: Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.memory.get().checked_sub(bytes);
        self.memory.set(left.ok_or_else(|| E::custom(TOO_LARGE))?);
        Ok(())
    }
}

/// The error for a document whose values take too much memory.
pub(crate) const TOO_LARGE: &str = "the values of the document take too much memory";

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.take(size_of::<Value>())?;
        deserializer.deserialize_any(self)
    }
}

/// The expectation of the visitor of a [`Value`]. [`Value::into_rust`] recognises the visitor by this text, and passes
/// a date to it as a date. Every other visitor gets text. The name of a newtype would be a better mark, but the parsers
/// of socketioxide lose binary inside of newtypes.
pub(super) const EXPECTED: &str = "a pgio::Value";

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float(v))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        self.take(v.len())?;
        Ok(v.into())
    }

    fn visit_string<E: Error>(self, v: String) -> Result<Value, E> {
        self.take(v.len())?;
        Ok(v.into())
    }

    fn visit_bytes<E: Error>(self, v: &[u8]) -> Result<Value, E> {
        self.take(v.len())?;
        Ok(Value::Binary(Bytes::copy_from_slice(v)))
    }

    fn visit_byte_buf<E: Error>(self, v: Vec<u8>) -> Result<Value, E> {
        self.take(v.len())?;
        Ok(Value::Binary(v.into()))
    }

    /// A msgpack extension. A timestamp becomes a date, or `null` beyond the range of JavaScript. An extension of any other type becomes its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let (kind, body) = <(i8, ByteBuf)>::deserialize(deserializer)?;
        let date = match (kind, <[u8; 8]>::try_from(body.as_slice())) {
            (Date::EXTENSION, _) => Date::from_extension(&body),
            (Date::NOTEPACK_EXTENSION, Ok(millis)) => Date::from_millis(i64::from_be_bytes(millis)),
            _ => return Ok(Value::Binary(body.into_vec().into())),
        };
        // JSON has the same for a `Date` that is no date.
        Ok(date.map_or(Value::Null, Value::Date))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let item = self.deeper()?;
        let mut items = Vec::with_capacity(first_capacity(seq.size_hint()));
        while let Some(value) = seq.next_element_seed(item)? {
            items.push(value);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let item = self.deeper()?;
        let mut entries = Object::with_capacity(first_capacity(map.size_hint()));
        while let Some(Key(key)) = map.next_key()? {
            self.take(KEY_BYTES + key.len())?;
            entries.insert(key, map.next_value_seed(item)?);
        }
        Ok(Value::Object(entries))
    }
}

/// The capacity for a list or an object whose encoding begins with its length. A hostile length must not take memory.
fn first_capacity(length: Option<usize>) -> usize {
    length.unwrap_or(0).min(MAX_FIRST_CAPACITY)
}

/// The key of an entry. Msgpack allows a key of any type, and JavaScript turns numbers into strings.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key that is a string or an integer")
            }

            fn visit_str<E>(self, v: &str) -> Result<Key, E> {
                Ok(Key(v.to_owned()))
            }

            fn visit_string<E>(self, v: String) -> Result<Key, E> {
                Ok(Key(v))
            }

            fn visit_i64<E>(self, v: i64) -> Result<Key, E> {
                Ok(Key(v.to_string()))
            }

            fn visit_u64<E>(self, v: u64) -> Result<Key, E> {
                Ok(Key(v.to_string()))
            }
        }

        deserializer.deserialize_any(KeyVisitor)
    }
}
