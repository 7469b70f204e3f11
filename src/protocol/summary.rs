//! A summary of a row of the attachment table, from its first bytes.

use std::fmt;
use std::io::Cursor;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::number_text::TextOrNumber;
use super::{MessageKind, Namespace, Uid};

/// The fields in the start of a document. A field that comes later, or is invalid, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The sender.
    pub uid: Option<Uid>,
    /// The namespace, which adapter 0.3 does not write.
    pub nsp: Option<Namespace>,
    /// The kind of the message.
    pub kind: Option<MessageKind>,
    /// The name of the event, if the message has one.
    pub event: Option<String>,
}

impl Summary {
    /// Reads the first bytes of a document in msgpack.
    pub fn of_start(bytes: &[u8]) -> Self {
        let mut summary = Self::default();
        let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(bytes));
        // Deeper nesting can only follow after the name of the event.
        deserializer.set_max_depth(128);
        // The decoder fails at the end of the bytes. The fields that it has read until then are the summary.
        if let Err(error) =
            (Object { summary: &mut summary, level: Level::Message }).deserialize(&mut deserializer)
        {
            tracing::trace!(%error, "not the whole document");
        }
        // The content of an answer belongs to the application.
        if !matches!(summary.kind, Some(MessageKind::Broadcast | MessageKind::ServerSideEmit)) {
            summary.event = None;
        }
        summary
    }
}

/// The position of an object in the document.
#[derive(Clone, Copy)]
enum Level {
    Message,
    Data,
    Packet,
    /// The name of an event: not an object, unless the document is malformed.
    Event,
}

/// Reads an object, or the array that is the packet of an event for servers.
struct Object<'a> {
    summary: &'a mut Summary,
    level: Level,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { summary, level } = self;
        while let Some(key) = map.next_key::<String>()? {
            match (level, key.as_str()) {
                (Level::Message, "uid") => summary.uid = Some((&*map.next_value::<TextOrNumber>()?.0).into()),
                (Level::Message, "nsp") => summary.nsp = Some(Namespace::new(&map.next_value::<String>()?)),
                (Level::Message, "type") => summary.kind = MessageKind::from_number(map.next_value()?),
                (Level::Message, "data") => map.next_value_seed(Object { summary, level: Level::Data })?,
                (Level::Data, "packet") | (Level::Packet, "data") => {
                    map.next_value_seed(Object { summary, level: Level::Packet })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if matches!(self.level, Level::Packet) {
            items.next_element_seed(Object { summary: self.summary, level: Level::Event })?;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    // An answer may have any type, and the fields after it still have to be read.

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if matches!(self.level, Level::Event) {
            self.summary.event = Some(text.to_owned());
        }
        Ok(())
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        IgnoredAny::deserialize(deserializer).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Body, BroadcastOptions, Encoded, EventArgs, Message, RequestId, Value};

    fn document(body: Body) -> Vec<u8> {
        let message = Message { uid: "0123".into(), nsp: Namespace::new("/admin"), body };
        match message.encode(0).unwrap() {
            Encoded::Attachment { document, .. } => document,
            Encoded::Inline(text) => panic!("{text}"),
        }
    }

    #[test]
    fn the_start_says_what_it_is_about() {
        let event = EventArgs::new("photo", [Value::Binary(vec![0; 100_000].into())]);
        let opts = BroadcastOptions { rooms: vec!["r1".into()], ..BroadcastOptions::default() };
        let whole = document(Body::Broadcast { opts, event: event.clone(), request_id: None });
        let expected = Summary {
            uid: Some("0123".into()),
            nsp: Some(Namespace::new("/admin")),
            kind: Some(MessageKind::Broadcast),
            event: Some("photo".into()),
        };
        assert_eq!(Summary::of_start(&whole), expected);
        assert_eq!(Summary::of_start(&whole[..4096]), expected);
        let server_side = document(Body::ServerSideEmit { event, request_id: None });
        let expected = Summary { kind: Some(MessageKind::ServerSideEmit), ..expected };
        assert_eq!(Summary::of_start(&server_side[..4096]), expected);
        for length in 0..200 {
            let cut = Summary::of_start(&whole[..length]);
            assert!(cut.event.is_none() || cut.event == expected.event, "{length}: {cut:?}");
        }
    }

    /// A document in the order of Node: the data comes before the other fields.
    fn by_node(packet: &[u8]) -> Vec<u8> {
        let rest = b"\xa3nsp\xa1/\xa3uid\xa2id";
        [b"\x84\xa4type\x0c\xa4data\x81\xa6packet", packet, rest].concat()
    }

    #[test]
    fn what_comes_after_any_answer_counts() {
        let answers: [&[u8]; 10] = [
            b"\xc0",
            b"\xc3",
            b"\x01",
            b"\xff",
            b"\xcb\x3f\xf8\0\0\0\0\0\0",
            b"\xa2hi",
            b"\xc4\x02\x01\x02",
            b"\x92\x01\x02",
            b"\x81\xa1a\x01",
            b"\xd6\xff\0\0\0\0",
        ];
        for answer in answers {
            let expected = Summary {
                uid: Some("id".into()),
                nsp: Some(Namespace::default()),
                kind: Some(MessageKind::BroadcastAck),
                event: None,
            };
            assert_eq!(Summary::of_start(&by_node(answer)), expected, "{answer:x?}");
        }
    }

    #[test]
    fn answers_have_no_event_and_nonsense_has_nothing() {
        let answer = Some(Value::Array(vec!["an answer".into()]));
        let request_id = RequestId::from("1");
        let response = document(Body::BroadcastAck { request_id, answer });
        assert_eq!(Summary::of_start(&response).kind, Some(MessageKind::BroadcastAck));
        assert_eq!(Summary::of_start(&response).event, None);
        for nonsense in [&b""[..], b"\xc1", b"text", b"\x81\xa3uid\xc0", &[0xff; 100], &[0x91; 10_000]] {
            assert_eq!(Summary::of_start(nonsense), Summary::default());
        }
    }
}
