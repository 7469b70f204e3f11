//! The envelope of a notification, which is decoded before the rest of the message.

use std::borrow::Cow;
use std::fmt;

use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use super::envelope_cache::EnvelopeCache;
use super::envelope_text::{DataText, Envelope};
use super::number_text::TextOrNumber;
use super::{Body, EventArgs, Message, MessageKind, Namespace, Uid, Value, data, json, socket_list};
use crate::{Error, Result};

/// The `id` of a row in the attachment table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AttachmentId(pub i64);

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for AttachmentId {
    /// Node sends the id as a string, as its driver returns it. A number is accepted as well.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Id<'a> {
            Number(i64),
            #[serde(borrow)]
            Text(Cow<'a, str>),
        }
        match Id::deserialize(deserializer)? {
            Id::Number(id) => Ok(Self(id)),
            Id::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// The fields that every message has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The sender.
    pub uid: Uid,
    /// The namespace. If the message has none, it is the namespace of the channel.
    pub nsp: Namespace,
    /// The kind of the message.
    pub kind: MessageKind,
}

impl Header {
    /// The text of a notification with an attachment, up to the id. After the id, `"}` ends the text.
    pub(crate) fn before_attachment_id(&self) -> String {
        let Self { uid, nsp, kind } = self;
        let nsp = Value::from(nsp.as_str());
        format!(
            r#"{{"uid":{},"nsp":{nsp},"type":{},"attachmentId":""#,
            Value::from(uid.as_str()),
            kind.number()
        )
    }
}

/// A notification with a decoded envelope.
#[derive(Debug)]
pub struct Notification<'a> {
    /// The fields that every message has.
    pub header: Header,
    /// The row that holds the message, if the notification does not.
    pub attachment: Option<AttachmentId>,
    /// Whether the text contains the namespace, as with adapter 0.4 and later.
    pub has_nsp: bool,
    pub(super) data: Option<DataText<'a>>,
}

impl<'a> Notification<'a> {
    /// Reads the envelope of a notification's text. `channel` is the namespace of the channel.
    ///
    /// # Errors
    /// [`Error::Decode`] if the text is not JSON, has no `uid`, or has an unknown `type`.
    pub fn parse(text: &'a str, channel: &Namespace) -> Result<Self> {
        let envelope = Envelope::read(text).map_err(|e| Error::Decode(format!("not a message: {e}")))?;
        let kind = kind(envelope.kind)?;
        let has_nsp = envelope.nsp.is_some();
        let nsp = envelope.nsp.map_or_else(|| channel.clone(), |name| same_or_new(channel, &name));
        let header = Header { uid: (&*envelope.uid).into(), nsp, kind };
        Ok(Self { header, attachment: envelope.attachment_id, has_nsp, data: envelope.data })
    }

    /// The same, faster if the text has the envelope of the cache. Always with the same result.
    pub(crate) fn parse_cached(
        text: &'a str,
        channel: &Namespace,
        cache: &mut EnvelopeCache,
    ) -> Result<Self> {
        if let Some(notification) = cache.get(text) {
            return Ok(notification);
        }
        let notification = Self::parse(text, channel)?;
        cache.record(text, &notification);
        Ok(notification)
    }

    /// The id of the request that a message makes or answers. The rest of the data is not decoded. `None` if the id is
    /// in an attachment, or cannot be read.
    pub fn request_id(&self) -> Option<Cow<'_, str>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Request<'a> {
            #[serde(borrow)]
            request_id: Cow<'a, str>,
        }
        match &self.data {
            Some(DataText::Unread(text)) => {
                serde_json::from_str::<Request<'_>>(text.get()).ok().map(|request| request.request_id)
            }
            Some(DataText::Broadcast(data)) => data.request_id().map(|id| Cow::Borrowed(id.as_str())),
            None => None,
        }
    }

    /// Decodes the message from the text of the notification.
    ///
    /// # Errors
    /// [`Error::Decode`] if the `data` does not fit the kind of the message, or is in an attachment.
    pub fn into_message(self) -> Result<Message> {
        let Header { uid, nsp, kind } = self.header;
        let body = match self.data {
            Some(DataText::Broadcast(data)) => data.into_body(|event| EventArgs::from_raw(event.to_owned())),
            Some(DataText::Unread(text)) => data::read(kind, text, EventArgs::from_raw)
                // The fast path supports neither deep nesting nor lone surrogates. The protocol allows both.
                .or_else(|_| from_value(kind, json::parse(text.get())?))?,
            None => data::read(kind, serde_json::Value::Null, EventArgs::from_values)
                .map_err(|error| malformed(kind, error))?,
        };
        Ok(Message { uid, nsp, body })
    }
}

/// Reads a message from the row of an attachment. `channel` is the namespace of the channel.
pub(super) fn message_from_document(document: Value, channel: &Namespace) -> Result<Message> {
    let Value::Object(mut entries) = document else {
        return Err(Error::Decode("an attachment that is not an object".into()));
    };
    let uid = entries.swap_remove("uid").and_then(|uid| TextOrNumber::deserialize(uid).ok());
    let Some(uid) = uid.map(|TextOrNumber(uid)| Uid::from(&*uid)) else {
        return Err(Error::Decode("an attachment without a uid".into()));
    };
    let number = entries.get("type").and_then(Value::as_i64).and_then(|n| u64::try_from(n).ok());
    let kind = kind(number.ok_or_else(|| Error::Decode("an attachment without a type".into()))?)?;
    let nsp = entries
        .get("nsp")
        .and_then(Value::as_str)
        .map_or_else(|| channel.clone(), |n| same_or_new(channel, n));
    let data = entries.swap_remove("data").unwrap_or_default();
    Ok(Message { uid, nsp, body: from_value(kind, data)? })
}

fn from_value(kind: MessageKind, data: Value) -> Result<Body> {
    let body = match kind {
        MessageKind::FetchSocketsResponse => socket_list::read(data),
        _ => data::read(kind, data.into_deserializer(), EventArgs::from_values),
    };
    body.map_err(|error| match error {
        Error::Decode(reason) => malformed(kind, reason),
        other => other,
    })
}

fn malformed(kind: MessageKind, reason: impl fmt::Display) -> Error {
    Error::Decode(format!("malformed {kind}: {reason}"))
}

/// Saves an allocation if the message has the namespace of its channel, as nearly every message has.
fn same_or_new(channel: &Namespace, name: &str) -> Namespace {
    if channel.as_str() == name { channel.clone() } else { Namespace::new(name) }
}

fn kind(number: u64) -> Result<MessageKind> {
    MessageKind::from_number(number).ok_or_else(|| Error::Decode(format!("unknown message type {number}")))
}
