//! JSON text, as JavaScript writes it.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};

use super::{Value, event};
use crate::{Error, Result};

/// The capacity for the message of a short event, with its envelope.
const TEXT_BYTES: usize = 256;

/// Writes JSON text, if it has less than `limit` bytes.
pub(super) fn write_shorter(value: &impl Serialize, limit: usize) -> Result<Option<String>> {
    let mut writer = LimitedWriter { text: Vec::with_capacity(TEXT_BYTES), limit };
    match serde_json::to_writer(&mut writer, value) {
        Ok(()) => String::from_utf8(writer.text).map(Some).map_err(|e| Error::Encode(e.to_string())),
        Err(error) if error.is_io() => Ok(None),
        Err(error) => Err(Error::Encode(error.to_string())),
    }
}

/// Fails when the text reaches the limit, so that nothing writes the rest of a large message.
struct LimitedWriter {
    text: Vec<u8>,
    limit: usize,
}

impl io::Write for LimitedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() >= self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Parses any JSON text that `JSON.parse` takes, up to the depth that a [`Value`] may have.
pub(crate) fn parse(text: &str) -> Result<Value> {
    match parse_strict(text) {
        Ok(value) => Ok(value),
        Err(error) => match replace_lone_surrogates(text) {
            Cow::Owned(text) => parse_strict(&text).map_err(|e| Error::Decode(e.to_string())),
            Cow::Borrowed(_) => Err(Error::Decode(error.to_string())),
        },
    }
}

fn parse_strict(text: &str) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // `Value` bounds the depth itself.
    deserializer.disable_recursion_limit();
    let value = Value::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads the first item of an array, which has to be a string. The text is known to be JSON, so the rest is not
/// checked.
pub(crate) fn first_string(text: &str) -> Result<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let items = text.trim_start().strip_prefix('[').ok_or_else(event::no_event)?;
    match serde_json::Deserializer::from_str(items).into_iter().next() {
        Some(Ok(Text(name))) => Ok(name),
        _ => match replace_lone_surrogates(text) {
            Cow::Owned(text) => first_string(&text).map(|name| Cow::Owned(name.into_owned())),
            Cow::Borrowed(_) => Err(event::no_event()),
        },
    }
}

/// Replaces the escapes of lone surrogates, which JavaScript strings may hold and Rust strings cannot, by U+FFFD.
pub(super) fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    let unit = |at: usize| -> Option<u16> {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(hex, 16).ok()
    };
    let is_high = |u: u16| (0xd800..0xdc00).contains(&u);
    let is_low = |u: u16| (0xdc00..0xe000).contains(&u);

    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = text[at..].find('\\') {
        at += found;
        at += match unit(at) {
            Some(high) if is_high(high) && unit(at + 6).is_some_and(is_low) => 12,
            Some(lone) if is_high(lone) || is_low(lone) => {
                out.push_str(&text[copied..at]);
                out.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            Some(_) => 6,
            // An escape of two bytes, such as `\\`. In malformed text it is longer if the escaped character is not
            // ASCII.
            None => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}
