//! A template for broadcasts that differ only in the event.

use super::{Encoded, EventArgs, MAX_INLINE_BYTES, Message};
use crate::{Error, Result};

/// The text of an event, in two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventText<'a> {
    /// The name, whose JSON text has no escapes.
    pub(crate) name: &'a str,
    /// The JSON text of the arguments, without the brackets of the list.
    pub(crate) args: &'a str,
}

impl EventText<'_> {
    /// The event on its own.
    ///
    /// # Errors
    /// [`Error::Decode`] if the text is not JSON.
    pub(crate) fn to_args(self) -> Result<EventArgs> {
        let mut text = String::with_capacity(self.bytes());
        self.write_to(&mut text);
        EventArgs::from_json(text)
    }

    fn bytes(&self) -> usize {
        let args = if self.args.is_empty() { 0 } else { ",".len() + self.args.len() };
        r#"[""]"#.len() + self.name.len() + args
    }

    fn write_to(&self, text: &mut String) {
        text.push_str("[\"");
        text.push_str(self.name);
        text.push('"');
        if !self.args.is_empty() {
            text.push(',');
            text.push_str(self.args);
        }
        text.push(']');
    }
}

/// A broadcast without its event.
pub(crate) struct BroadcastTemplate {
    before: String,
    after: String,
}

/// The text of the empty event, which marks the position of the event. No room or namespace contains this text, since
/// quotation marks in them are escaped.
const PLACE: &str = r#""data":[""]"#;

impl BroadcastTemplate {
    /// The template of a broadcast whose event has an empty name and no arguments.
    ///
    /// # Errors
    /// [`Error::Encode`] for any other message.
    pub(crate) fn of(message: &Message) -> Result<Self> {
        let text = serde_json::to_string(&message.document()).map_err(|e| Error::Encode(e.to_string()))?;
        let place = text.find(PLACE).ok_or_else(|| Error::Encode("no place for an event".into()))?;
        let (before, after) = (place + r#""data":"#.len(), place + PLACE.len());
        Ok(Self { before: text[..before].into(), after: text[after..].into() })
    }

    /// The message with the text of an event, as [`encode`](Message::encode) would return it. `None` if it has
    /// `threshold` bytes or more. It is written into the memory of `text`.
    pub(crate) fn inline(&self, event: EventText<'_>, threshold: usize, mut text: String) -> Option<Encoded> {
        let bytes = self.before.len() + event.bytes() + self.after.len();
        if bytes >= threshold.min(MAX_INLINE_BYTES) {
            return None;
        }
        // White space for identical notifications of one transaction takes a few more characters.
        text.clear();
        text.reserve_exact(bytes + 2);
        text.push_str(&self.before);
        event.write_to(&mut text);
        text.push_str(&self.after);
        Some(Encoded::Inline(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Body, BroadcastOptions, EventArgs, Uid};

    #[test]
    fn a_filled_template_is_the_encoded_message() {
        let rooms = [r#""data":[""]"#, r#"\""#, "ü"];
        for opts in [BroadcastOptions::default(), BroadcastOptions::default().to(rooms).except("x")] {
            let message = |event| {
                let body = Body::Broadcast { opts: opts.clone(), event, request_id: None };
                Message::new(Uid::emitter(), r#"/"data":[""]"#, body)
            };
            let template = BroadcastTemplate::of(&message(EventArgs::new("", []))).unwrap();
            for args in ["", r#"1, {"a": "<>"}"#] {
                let text = EventText { name: "e", args };
                let whole = message(text.to_args().unwrap()).encode(8000).unwrap();
                let Encoded::Inline(inline) = &whole else { panic!("{whole:?}") };
                assert_eq!(template.inline(text, 8000, "spare".into()).as_ref(), Some(&whole));
                assert_eq!(template.inline(text, inline.len(), String::new()), None);
                assert!(template.inline(text, inline.len() + 1, String::new()).is_some());
            }
        }
    }
}
