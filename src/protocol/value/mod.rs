//! A value as JavaScript peers know it: JSON's types plus binary and dates.

mod date;
mod deserialize;
mod from_rust;
mod into_rust;
mod serialize;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Serialize, de::DeserializeOwned};

pub use date::Date;
pub(crate) use deserialize::{MAX_DEPTH, TOO_LARGE, bounded};

use crate::Result;

/// The memory of an object's key besides its text: the string, its hash and its place in the index.
const KEY_BYTES: usize = size_of::<String>() + 3 * size_of::<usize>();

/// An object: its keys keep the order in which they arrived.
pub type Object = IndexMap<String, Value>;

/// A value as JavaScript peers know it.
///
/// It has the types that travel between Socket.IO servers: those of JSON, and binary and dates, which only msgpack can
/// carry. [`Value::from_rust`] builds a value from any `Serialize`, and [`Value::into_rust`] reads it back into any
/// `Deserialize`:
///
/// ```
/// use pgio::Value;
///
/// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
/// struct Point { x: i32, y: i32 }
///
/// let value = Value::from_rust(&Point { x: 1, y: 2 })?;
/// assert_eq!(value.to_string(), r#"{"x":1,"y":2}"#);
/// assert_eq!(value.into_rust::<Point>()?, Point { x: 1, y: 2 });
/// # Ok::<(), pgio::Error>(())
/// ```
///
/// Handlers of socketioxide can receive and emit it, binary included: alone, in tuples, lists, maps and structs. (Inside of
/// an `Option` or a newtype socketioxide's common parser loses the binary of every type. Its msgpack parser writes a date
/// as a msgpack timestamp, which socket.io-msgpack-parser does not read: emit `date.to_string()` there.)
///
/// [`Display`](fmt::Display) and `serde_json` write the same as Node's `JSON.stringify`: binary as
/// `{"type":"Buffer","data":[..]}`, a date as an ISO-8601 string, a float that is not finite as `null`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`. `undefined` also becomes `null` on the wire.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction.
    Int(i64),
    /// Any other number. JavaScript has no integers beyond 2^53, so larger ones arrive here.
    Float(f64),
    /// Text.
    String(String),
    /// Bytes: a `Buffer` or typed array in Node, an `ArrayBuffer` in a browser.
    Binary(Bytes),
    /// A `Date`.
    Date(Date),
    /// A list.
    Array(Vec<Value>),
    /// A map with string keys, in order.
    Object(Object),
}

impl Value {
    /// Converts any `Serialize` to the value that JavaScript expects: structs become objects, `Bytes` and `serde_bytes`
    /// become binary, maps get string keys, enums take serde's externally tagged form.
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode) if a map has a key that is not a string, number or boolean, or if the
    /// `Serialize` itself fails.
    pub fn from_rust<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        from_rust::to_value(value)
    }

    /// The arguments of an event: a tuple, a fixed-size array or [`Args`](crate::Args) gives several, `()` gives none,
    /// any other value gives one. (`serde_json` writes its `null` like `()`; [`Value::Null`] is one argument.)
    ///
    /// # Errors
    /// Those of [`Value::from_rust`].
    pub fn args_from_rust<T: Serialize + ?Sized>(args: &T) -> Result<Vec<Self>> {
        from_rust::to_args(args)
    }

    /// Reads the value into a Rust type.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode) if it does not fit the type.
    pub fn into_rust<T: DeserializeOwned>(self) -> Result<T> {
        into_rust::from_value(self)
    }

    /// Parses JSON text with up to 256 nested levels. Lone surrogates, which JavaScript strings may have, become
    /// U+FFFD.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode) if it is not JSON.
    pub fn from_json(text: &str) -> Result<Self> {
        super::json::parse(text)
    }

    /// Whether the value is or contains binary, so that the message must travel as an attachment.
    pub fn has_binary(&self) -> bool {
        match self {
            Self::Binary(_) => true,
            Self::Array(items) => items.iter().any(Self::has_binary),
            Self::Object(entries) => entries.values().any(Self::has_binary),
            _ => false,
        }
    }

    /// The memory of the value, in bytes. Many small values take far more memory than their encoding.
    #[cfg(feature = "server")]
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::String(text) => text.len(),
                Self::Binary(bytes) => bytes.len(),
                Self::Array(items) => items.iter().map(Self::memory).sum(),
                Self::Object(entries) => {
                    entries.iter().map(|(key, value)| KEY_BYTES + key.len() + value.memory()).sum()
                }
                Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Date(_) => 0,
            }
    }

    /// The text, if the value is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if the value is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The number, if the value is one. A large integer is rounded, as in JavaScript.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(*n as f64),
            Self::Float(n) => Some(*n),
            _ => None,
        }
    }

    /// The bytes, if the value is binary.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The boolean, if the value is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The items, if the value is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The entries, if the value is an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entry of that name, if the value is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

macro_rules! from_each {
    ($($from:ty => |$v:ident| $make:expr),+ $(,)?) => {
        $(impl From<$from> for Value {
            fn from($v: $from) -> Self {
                $make
            }
        })+
    };
}

from_each! {
    bool => |v| Self::Bool(v),
    i32 => |v| Self::Int(v.into()),
    u32 => |v| Self::Int(v.into()),
    i64 => |v| Self::Int(v),
    u64 => |v| i64::try_from(v).map_or(Self::Float(v as f64), Self::Int),
    f64 => |v| Self::Float(v),
    &str => |v| Self::String(v.to_owned()),
    String => |v| Self::String(v),
    Bytes => |v| Self::Binary(v),
    Date => |v| Self::Date(v),
    Vec<Value> => |v| Self::Array(v),
    Object => |v| Self::Object(v),
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match value {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(b),
            Json::Number(n) => {
                n.as_i64().map_or_else(|| Self::Float(n.as_f64().unwrap_or(f64::NAN)), Self::Int)
            }
            Json::String(text) => Self::String(text),
            Json::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Json::Object(entries) => {
                Self::Object(entries.into_iter().map(|(k, v)| (k, Self::from(v))).collect())
            }
        }
    }
}
