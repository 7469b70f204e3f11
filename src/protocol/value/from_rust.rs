//! Any `Serialize` to a [`Value`].

use std::cell::Cell;

use bytes::Bytes;
use serde::ser::{self, Error as _, Serialize};

use super::{Date, Object, Value, serialize::SPECIAL};
use crate::Error;

pub(super) fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, Error> {
    value.serialize(ToValue { human_readable: true, root: None })
}

/// The arguments of an event: a tuple gives several, `()` gives none, any other value gives one.
pub(super) fn to_args<T: Serialize + ?Sized>(value: &T) -> Result<Vec<Value>, Error> {
    let is_tuple = Cell::new(false);
    let value = value.serialize(ToValue { human_readable: true, root: Some(&is_tuple) })?;
    Ok(match value {
        Value::Array(items) if is_tuple.get() => items,
        Value::Null if is_tuple.get() => Vec::new(),
        one => vec![one],
    })
}

impl ser::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Encode(message.to_string())
    }
}

/// Converts a value of Rust. It is human-readable, so that times, addresses and similar types become text. Inside of
/// [`SPECIAL`] it is not, so that binary and dates keep their types.
#[derive(Clone, Copy)]
struct ToValue<'a> {
    human_readable: bool,
    /// Present at the root only, and set if the root is a tuple.
    root: Option<&'a Cell<bool>>,
}

impl ToValue<'_> {
    fn note_tuple(self) {
        if let Some(is_tuple) = self.root {
            is_tuple.set(true);
        }
    }

    /// The serializer of the inner values.
    fn inner(self) -> Self {
        Self { root: None, ..self }
    }
}

impl<'a> ser::Serializer for ToValue<'a> {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Tagged<Items<'a>>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Entries<'a>;
    type SerializeStructVariant = Tagged<Entries<'a>>;

    fn is_human_readable(&self) -> bool {
        self.human_readable
    }

    fn serialize_bool(self, v: bool) -> Result<Value, Error> {
        Ok(v.into())
    }

    fn serialize_i8(self, v: i8) -> Result<Value, Error> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_i16(self, v: i16) -> Result<Value, Error> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_i32(self, v: i32) -> Result<Value, Error> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_i64(self, v: i64) -> Result<Value, Error> {
        Ok(Value::Int(v))
    }

    fn serialize_i128(self, v: i128) -> Result<Value, Error> {
        Ok(i64::try_from(v).map_or(Value::Float(v as f64), Value::Int))
    }

    fn serialize_u8(self, v: u8) -> Result<Value, Error> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_u16(self, v: u16) -> Result<Value, Error> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_u32(self, v: u32) -> Result<Value, Error> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_u64(self, v: u64) -> Result<Value, Error> {
        Ok(v.into())
    }

    fn serialize_u128(self, v: u128) -> Result<Value, Error> {
        Ok(i64::try_from(v).map_or(Value::Float(v as f64), Value::Int))
    }

    fn serialize_f32(self, v: f32) -> Result<Value, Error> {
        Ok(Value::Float(v.into()))
    }

    fn serialize_f64(self, v: f64) -> Result<Value, Error> {
        Ok(Value::Float(v))
    }

    fn serialize_char(self, v: char) -> Result<Value, Error> {
        Ok(Value::String(v.into()))
    }

    fn serialize_str(self, v: &str) -> Result<Value, Error> {
        Ok(v.into())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<Value, Error> {
        Ok(Value::Binary(Bytes::copy_from_slice(v)))
    }

    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        self.note_tuple();
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, Error> {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        if name == SPECIAL {
            return value.serialize(Self { human_readable: false, root: None });
        }
        let inner = value.serialize(self.inner())?;
        if name != rmp_serde::MSGPACK_EXT_STRUCT_NAME {
            return Ok(inner);
        }
        match inner.as_array() {
            Some([Value::Int(kind), Value::Binary(body)]) if *kind == i64::from(Date::EXTENSION) => {
                Date::from_extension(body)
                    .map(Value::Date)
                    .ok_or_else(|| Error::custom("a timestamp out of range"))
            }
            Some([_, Value::Binary(body)]) => Ok(Value::Binary(body.clone())),
            _ => Ok(inner),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        Ok(tagged(variant, value.serialize(self.inner())?))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Items<'a>, Error> {
        // A wrong hint must not cost memory.
        Ok(Items { of: self.inner(), items: Vec::with_capacity(len.unwrap_or(0).min(1024)) })
    }

    fn serialize_tuple(self, len: usize) -> Result<Items<'a>, Error> {
        self.note_tuple();
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<Items<'a>, Error> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Tagged<Items<'a>>, Error> {
        Ok(Tagged { variant, inner: self.serialize_seq(Some(len))? })
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Entries<'a>, Error> {
        Ok(Entries { of: self.inner(), entries: Object::new(), key: None })
    }

    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Entries<'a>, Error> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Tagged<Entries<'a>>, Error> {
        Ok(Tagged { variant, inner: self.serialize_map(Some(len))? })
    }
}

fn tagged(variant: &str, value: Value) -> Value {
    Value::Object(Object::from([(variant.to_owned(), value)]))
}

struct Items<'a> {
    of: ToValue<'a>,
    items: Vec<Value>,
}

impl Items<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.items.push(value.serialize(self.of)?);
        Ok(())
    }
}

struct Entries<'a> {
    of: ToValue<'a>,
    entries: Object,
    key: Option<String>,
}

impl Entries<'_> {
    fn insert<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), Error> {
        self.entries.insert(key, value.serialize(self.of)?);
        Ok(())
    }
}

/// The body of an enum's variant.
struct Tagged<B> {
    variant: &'static str,
    inner: B,
}

macro_rules! items {
    ($($kind:ident :: $push:ident),+) => {
        $(impl ser::$kind for Items<'_> {
            type Ok = Value;
            type Error = Error;

            fn $push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.push(value)
            }

            fn end(self) -> Result<Value, Error> {
                Ok(Value::Array(self.items))
            }
        })+
    };
}

items!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field
);

impl ser::SerializeTupleVariant for Tagged<Items<'_>> {
    type Ok = Value;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.inner.push(value)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(tagged(self.variant, Value::Array(self.inner.items)))
    }
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = Some(match key.serialize(self.of)? {
            Value::String(text) => text,
            key @ (Value::Int(_) | Value::Float(_) | Value::Bool(_)) => key.to_string(),
            other => return Err(Error::custom(format_args!("{other} as the key of a map"))),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| Error::custom("a map's value without its key"))?;
        self.insert(key, value)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(Value::Object(self.entries))
    }
}

impl ser::SerializeStruct for Entries<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.insert(key.to_owned(), value)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(Value::Object(self.entries))
    }
}

impl ser::SerializeStructVariant for Tagged<Entries<'_>> {
    type Ok = Value;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.inner.insert(key.to_owned(), value)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(tagged(self.variant, Value::Object(self.inner.entries)))
    }
}
