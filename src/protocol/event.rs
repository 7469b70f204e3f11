//! An event with its arguments, decoded lazily.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Value, json};
use crate::{Error, Result};

/// The key of an object that stands for binary in the text of an event (`_placeholder` in socket.io-parser).
#[cfg(feature = "adapter")]
pub(crate) const PLACEHOLDER: &str = "_placeholder";

/// `[event, ...args]`: the `data` of a Socket.IO event packet.
///
/// JSON is kept as text, so that a node forwards it without decoding. It is exactly the text that the default parser of
/// Socket.IO writes after the packet's type.
#[derive(Debug, Clone)]
pub struct EventArgs(Repr);

#[derive(Debug, Clone)]
enum Repr {
    Json(Box<RawValue>),
    Values(Vec<Value>),
}

impl EventArgs {
    /// An event and its arguments.
    pub fn new(event: &str, args: impl IntoIterator<Item = Value>) -> Self {
        Self(Repr::Values(std::iter::once(event.into()).chain(args).collect()))
    }

    /// An event as JSON text: an array with the name as its first item. This checks only that the text is JSON.
    #[cfg(feature = "adapter")]
    pub(crate) fn from_json(text: String) -> Result<Self> {
        RawValue::from_string(text).map(Self::from_raw).map_err(|e| Error::Decode(e.to_string()))
    }

    pub(crate) fn from_values(values: Vec<Value>) -> Self {
        Self(Repr::Values(values))
    }

    pub(super) fn from_raw(text: Box<RawValue>) -> Self {
        Self(Repr::Json(text))
    }

    /// The text of `[event, ...args]`, if the event is JSON text.
    pub fn as_json(&self) -> Option<&str> {
        match &self.0 {
            Repr::Json(text) => Some(text.get()),
            Repr::Values(_) => None,
        }
    }

    /// The text of `[event, ...args]`, or the event itself if it is not JSON text.
    #[cfg(feature = "adapter")]
    pub(crate) fn into_json(self) -> Result<String, Self> {
        match self.0 {
            Repr::Json(text) => Ok(Box::<str>::from(text).into_string()),
            values => Err(Self(values)),
        }
    }

    /// The event's name, without decoding the arguments.
    ///
    /// # Errors
    /// [`Error::Decode`] if the first item is missing or is not a string.
    pub fn event(&self) -> Result<Cow<'_, str>> {
        match &self.0 {
            Repr::Json(text) => json::first_string(text.get()),
            Repr::Values(values) => {
                values.first().and_then(Value::as_str).map(Cow::Borrowed).ok_or_else(no_event)
            }
        }
    }

    /// The event's name and its arguments, decoded.
    ///
    /// # Errors
    /// [`Error::Decode`] if the event is not an array that starts with a string.
    pub fn into_parts(self) -> Result<(String, Vec<Value>)> {
        let mut values = match self.0 {
            Repr::Values(values) => values,
            Repr::Json(text) => match json::parse(text.get())? {
                Value::Array(values) => values,
                _ => return Err(no_event()),
            },
        };
        if !matches!(values.first(), Some(Value::String(_))) {
            return Err(no_event());
        }
        let Value::String(event) = values.remove(0) else { return Err(no_event()) };
        Ok((event, values))
    }

    /// The memory of the event, in bytes.
    #[cfg(feature = "server")]
    pub(crate) fn memory(&self) -> usize {
        match &self.0 {
            Repr::Json(text) => text.get().len(),
            Repr::Values(values) => values.iter().map(Value::memory).sum(),
        }
    }

    pub(super) fn has_binary(&self) -> bool {
        match &self.0 {
            Repr::Json(_) => false,
            Repr::Values(values) => values.iter().any(Value::has_binary),
        }
    }
}

pub(super) fn no_event() -> Error {
    Error::Decode("an event that is not an array with a name as its first item".into())
}

impl Serialize for EventArgs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::Values(values) => values.serialize(serializer),
            Repr::Json(text) if serializer.is_human_readable() => text.serialize(serializer),
            Repr::Json(text) => {
                json::parse(text.get()).map_err(serde::ser::Error::custom)?.serialize(serializer)
            }
        }
    }
}

impl PartialEq for EventArgs {
    /// Two events are equal if their decoded parts are.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Json(a), Repr::Json(b)) if a.get() == b.get() => true,
            _ => matches!((self.clone().into_parts(), other.clone().into_parts()), (Ok(a), Ok(b)) if a == b),
        }
    }
}
