//! Events whose JSON text is published unchanged: those without `$binary`.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::cli::binary_json::BINARY;
use crate::protocol::EventText;

/// The event of a line `["event", ...args]`, or `None` if the line has to be parsed as a value.
pub(super) fn array(line: &str) -> Option<EventText<'_>> {
    let line = line.trim_ascii();
    let items = line.strip_prefix('[')?.strip_suffix(']')?;
    if !is_plain(line, Items { first_is_a_name: true }) {
        return None;
    }
    let mut names = serde_json::Deserializer::from_str(items).into_iter();
    let name = names.next()?.ok()?;
    let args = items[names.byte_offset()..].trim_ascii_start();
    Some(EventText { name, args: args.strip_prefix(',').unwrap_or(args) })
}

/// The text of a list of arguments without bytes.
#[derive(Default)]
pub(super) struct PlainArgs<'a>(Option<&'a RawValue>);

impl<'a> PlainArgs<'a> {
    /// The text without the brackets.
    pub(super) fn items(&self) -> &'a str {
        let list = self.0.map_or("", |args| args.get().trim_ascii());
        let items = list.strip_prefix('[').and_then(|list| list.strip_suffix(']'));
        items.unwrap_or_default().trim_ascii()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for PlainArgs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?;
        match is_plain(text.get(), Items { first_is_a_name: false }) {
            true => Ok(Self(Some(text))),
            false => Err(D::Error::custom("arguments to be read as values")),
        }
    }
}

/// Whether the text is a valid list without bytes. The limits of the parser apply to the depth, to numbers, and to
/// unpaired surrogates, which [`Value`](crate::Value) replaces.
fn is_plain(text: &str, items: Items) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_seq(items).is_ok() && deserializer.end().is_ok()
}

/// Visits the items of a list.
struct Items {
    first_is_a_name: bool,
}

impl<'de> Visitor<'de> for Items {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.first_is_a_name {
            items.next_element_seed(Name)?.ok_or_else(|| A::Error::custom("no name"))?;
        }
        while items.next_element_seed(Plain)?.is_some() {}
        Ok(())
    }
}

/// Visits a string without copying it.
#[derive(Clone, Copy)]
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    /// Whether the string is the key that marks bytes.
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text == BINARY)
    }
}

/// Visits a value without building it.
#[derive(Clone, Copy)]
struct Plain;

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without bytes")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(is_bytes) = entries.next_key_seed(Name)? {
            if is_bytes {
                return Err(A::Error::custom("bytes"));
            }
            entries.next_value_seed(self)?;
        }
        Ok(())
    }
}
