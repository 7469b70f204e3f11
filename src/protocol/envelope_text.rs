//! Reads the envelope of a message in JSON, and the data of a broadcast in the same pass.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::data::BroadcastData;
use super::number_text::TextOrNumber;
use super::{AttachmentId, MessageKind};

/// The fields in the envelope of a message.
pub(super) struct Envelope<'a> {
    pub(super) uid: Cow<'a, str>,
    pub(super) nsp: Option<Cow<'a, str>>,
    pub(super) kind: u64,
    pub(super) data: Option<DataText<'a>>,
    pub(super) attachment_id: Option<AttachmentId>,
}

/// The `data` of a message, decoded in part.
#[derive(Debug)]
pub(super) enum DataText<'a> {
    /// Not decoded.
    Unread(&'a RawValue),
    /// Decoded, except for the event.
    Broadcast(BroadcastData<&'a RawValue>),
}

impl<'a> Envelope<'a> {
    /// Reads the envelope. Most messages of a flood are broadcasts, so their data is decoded in the same pass, if the
    /// type comes before it. All messages of Node's adapters and of pgio have this order.
    pub(super) fn read(text: &'a str) -> serde_json::Result<Self> {
        // If the data cannot be decoded in this pass, the envelope can still be read.
        Self::read_with(text, true).or_else(|_| Self::read_with(text, false))
    }

    fn read_with(text: &'a str, data_at_once: bool) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let envelope = deserializer.deserialize_map(Reader { data_at_once })?;
        deserializer.end()?;
        Ok(envelope)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Key {
    Uid,
    Nsp,
    Type,
    Data,
    AttachmentId,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Reader {
    data_at_once: bool,
}

impl<'de> Visitor<'de> for Reader {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let (mut uid, mut nsp, mut kind, mut data, mut attachment_id) = (None, None, None, None, None);
        while let Some(key) = map.next_key()? {
            match key {
                // The option `uid` of adapter 0.3 may be a number.
                Key::Uid => uid = Some(map.next_value::<TextOrNumber>()?.0),
                Key::Nsp => nsp = map.next_value::<Option<Text>>()?.map(|Text(nsp)| nsp),
                Key::Type => kind = Some(map.next_value::<u64>()?),
                Key::Data if self.data_at_once && kind.is_some_and(is_broadcast) => {
                    data = map.next_value::<Option<_>>()?.map(DataText::Broadcast);
                }
                Key::Data => data = map.next_value::<Option<_>>()?.map(DataText::Unread),
                Key::AttachmentId => attachment_id = map.next_value()?,
                Key::Other => drop(map.next_value::<serde::de::IgnoredAny>()?),
            }
        }
        let uid = uid.ok_or_else(|| A::Error::missing_field("uid"))?;
        let kind = kind.ok_or_else(|| A::Error::missing_field("type"))?;
        Ok(Envelope { uid, nsp, kind, data, attachment_id })
    }
}

fn is_broadcast(kind: u64) -> bool {
    kind == u64::from(MessageKind::Broadcast.number())
}
