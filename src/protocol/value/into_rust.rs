//! A [`Value`] into any `Deserialize`.

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Date, Value, deserialize::EXPECTED};
use crate::Error;

pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(value)
}

impl de::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Decode(message.to_string())
    }
}

impl<'de> IntoDeserializer<'de, Error> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> de::Deserializer<'de> for Value {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Int(n) => visitor.visit_i64(n),
            Value::Float(f) => visitor.visit_f64(f),
            Value::String(text) => visitor.visit_string(text),
            Value::Binary(bytes) => visitor.visit_byte_buf(bytes.into()),
            Value::Date(date) if reads_dates(&visitor) => {
                // As the extension that msgpack has.
                let extension =
                    [Value::Int(Date::EXTENSION.into()), Value::Binary(date.to_extension().into())];
                visitor.visit_newtype_struct(Value::Array(extension.into()))
            }
            Value::Date(date) => visitor.visit_string(date.to_string()),
            Value::Array(items) => {
                let mut seq = de::value::SeqDeserializer::new(items.into_iter());
                let out = visitor.visit_seq(&mut seq)?;
                seq.end()?;
                Ok(out)
            }
            Value::Object(entries) => {
                let mut map = de::value::MapDeserializer::new(entries.into_iter());
                let out = visitor.visit_map(&mut map)?;
                map.end()?;
                Ok(out)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Value::Null => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (variant, body) = match self {
            Value::String(variant) => (variant, None),
            Value::Object(entries) if entries.len() == 1 => {
                entries.into_iter().next().map(|(k, v)| (k, Some(v))).unwrap_or_default()
            }
            other => return Err(de::Error::custom(format_args!("{other} where an enum was expected"))),
        };
        visitor.visit_enum(Variant { variant, body })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Whether this is the visitor of a [`Value`].
fn reads_dates<'de, V: Visitor<'de>>(visitor: &V) -> bool {
    let visitor: &dyn de::Expected = visitor;
    visitor.to_string() == EXPECTED
}

struct Variant {
    variant: String,
    body: Option<Value>,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Error;
    type Variant = VariantBody;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, VariantBody), Error> {
        let variant = seed.deserialize(Value::String(self.variant))?;
        Ok((variant, VariantBody(self.body)))
    }
}

struct VariantBody(Option<Value>);

impl VariantBody {
    fn required(self) -> Result<Value, Error> {
        self.0.ok_or_else(|| de::Error::custom("an enum's variant without its content"))
    }
}

impl<'de> VariantAccess<'de> for VariantBody {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.0 {
            None | Some(Value::Null) => Ok(()),
            Some(other) => Err(de::Error::custom(format_args!("{other} where a plain variant was expected"))),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.required()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.required()?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.required()?, visitor)
    }
}
