//! The placeholders that stand for binary in the JSON text of an event.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::event::PLACEHOLDER;
use super::json;
use super::value::MAX_DEPTH;
use crate::{Error, Result};

/// Whether JSON text has an object that socket.io-parser takes for a placeholder. The scan builds no values.
///
/// # Errors
/// [`Error::Decode`] for a text that is not JSON, or nests deeper than a value may.
pub(crate) fn has_placeholder(text: &str) -> Result<bool> {
    let scan = |text: &str| {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        // The scan bounds the depth itself.
        deserializer.disable_recursion_limit();
        let found = Scan { left: MAX_DEPTH }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok::<_, serde_json::Error>(found == Found::Placeholder)
    };
    match (scan(text), json::replace_lone_surrogates(text)) {
        (Err(_), Cow::Owned(text)) => scan(&text),
        (outcome, _) => outcome,
    }
    .map_err(|error| Error::Decode(error.to_string()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    True,
    Placeholder,
}

/// The scan of a value, with the number of levels that may still follow.
#[derive(Clone, Copy)]
struct Scan {
    left: usize,
}

impl Scan {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        left.map(|left| Self { left })
            .ok_or_else(|| E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Scan {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Found, E> {
        Ok(if v { Found::True } else { Found::Nothing })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_str<E>(self, _: &str) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let item = self.deeper()?;
        let mut found = Found::Nothing;
        while let Some(inside) = seq.next_element_seed(item)? {
            if inside == Found::Placeholder {
                found = inside;
            }
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let item = self.deeper()?;
        let mut found = Found::Nothing;
        // JavaScript uses the last of several equal keys. The scan checks each of them.
        while let Some(key) = map.next_key_seed(Key)? {
            match map.next_value_seed(item)? {
                Found::Placeholder => found = Found::Placeholder,
                Found::True if key == PLACEHOLDER => found = Found::Placeholder,
                Found::True | Found::Nothing => {}
            }
        }
        Ok(found)
    }
}

/// Reads a key. Copies only an escaped key.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(v.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_at_any_depth() {
        for text in [
            r#"["e",{"_placeholder":true,"num":0}]"#,
            r#"["e",[{"a":[{"_place\u0068older":true}]}],1]"#,
            r#"["\ud800",{"_placeholder":true,"_placeholder":false}]"#,
        ] {
            assert!(has_placeholder(text).unwrap(), "{text}");
        }
        for text in [r#"["e"]"#, r#"["_placeholder",true,{"_placeholder":1,"a":true}]"#, r#"["\udc00",1e4]"#]
        {
            assert!(!has_placeholder(text).unwrap(), "{text}");
        }
        for text in
            ["", "[", r#"["e"]]"#, &"[".repeat(400), &format!("{}{}", "[".repeat(300), "]".repeat(300))]
        {
            assert!(has_placeholder(text).is_err(), "{text}");
        }
    }
}
