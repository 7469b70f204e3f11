//! Durable events: the document of their row contains its channel, so that a reader finds the rows that it has missed
//! (replay).
//!
//! A document begins with the entries `channel` and `id`, which every version of the Node adapter ignores. The entries
//! of the message follow. The length of the channel's name always takes a separate byte. So the name has the same
//! offset in every document, and Postgres finds it without reading the rest of the row.

use super::wire::{Encoded, MAX_DOCUMENT_BYTES};
use super::{Body, Channel, Header, Message, msgpack, name};
use crate::{Error, Result};

/// The first entry's key, and the type of its value. The byte before them is the number of entries.
pub(crate) const CHANNEL_KEY: &[u8] = b"\xa7channel\xd9";

/// The maximum size of the channel entry in a document, in bytes. The entry follows the first byte.
pub(crate) const CHANNEL_ENTRY_BYTES: usize = CHANNEL_KEY.len() + 1 + super::MAX_CHANNEL_BYTES;

/// The second entry's key, and the head of its value: 16 bytes of text.
const ID_KEY: &[u8] = b"\xa2id\xb0";
const ID_BYTES: usize = 16;

/// The number of entries before the entries of the message.
const ENTRIES: u8 = 2;

/// The head of a msgpack map with few entries.
const MAP: u8 = 0x80;

impl Message {
    /// Encodes the message as a durable event of its channel: for the attachment table, whatever its size.
    ///
    /// # Errors
    /// [`Error::NotDurable`] for a message that is not an event for clients, and for an event that is volatile or
    /// requests acknowledgements. [`Error::TooLarge`] beyond [`MAX_DOCUMENT_BYTES`].
    pub fn encode_durable(&self, channel: &Channel) -> Result<Encoded> {
        check(&self.body)?;
        let message = msgpack::write(&self.document())?;
        let Some((head, entries)) = message.split_first() else {
            return Err(Error::Encode("an empty document".into()));
        };
        let name = channel.as_str().as_bytes();
        let length = u8::try_from(name.len()).map_err(|_| Error::Encode("a long channel name".into()))?;
        let mut document =
            Vec::with_capacity(entries.len() + CHANNEL_ENTRY_BYTES + ID_KEY.len() + ID_BYTES + 1);
        document.push(MAP | ((head & 0x0f) + ENTRIES));
        document.extend_from_slice(CHANNEL_KEY);
        document.push(length);
        document.extend_from_slice(name);
        document.extend_from_slice(ID_KEY);
        document.extend_from_slice(name::random_hex().as_bytes());
        document.extend_from_slice(entries);
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(Error::TooLarge { bytes: document.len() as u64, limit: MAX_DOCUMENT_BYTES as u64 });
        }
        let header = Header { uid: self.uid.clone(), nsp: self.nsp.clone(), kind: self.kind() };
        Ok(Encoded::Attachment { header, document })
    }
}

fn check(body: &Body) -> Result<()> {
    let reason = match body {
        Body::Broadcast { request_id: Some(_), .. } => "an event that asks for acknowledgements",
        Body::Broadcast { opts, .. } if opts.flags.volatile == Some(true) => "a volatile event",
        Body::Broadcast { .. } => return Ok(()),
        _ => "a message that is not an event for clients",
    };
    Err(Error::NotDurable(reason))
}

/// The channel in a document; `None` if the document is not durable.
pub(crate) fn channel_of(document: &[u8]) -> Option<&[u8]> {
    let entry = document.get(1..)?.strip_prefix(CHANNEL_KEY)?;
    let (length, rest) = entry.split_first()?;
    rest.get(..usize::from(*length))
}

/// The unique head of a document after its first byte: its channel and its id. `None` if it is not durable, or has no id.
pub(crate) fn identity_of(document: &[u8]) -> Option<&[u8]> {
    let id_at = 1 + CHANNEL_KEY.len() + 1 + channel_of(document)?.len();
    document.get(id_at..)?.strip_prefix(ID_KEY)?;
    document.get(1..id_at + ID_KEY.len() + ID_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{BroadcastOptions, EventArgs, Flags, Namespace, RequestId, Uid, Value};

    fn event(opts: BroadcastOptions, request_id: Option<RequestId>) -> Message {
        let event = EventArgs::new("e", [Value::from("x".repeat(300))]);
        Message::new(Uid::emitter(), "/admin", Body::Broadcast { opts, event, request_id })
    }

    #[test]
    fn the_document_names_its_channel_at_a_fixed_place_and_says_the_same() {
        let message = event(BroadcastOptions::default(), None);
        let mut identities = std::collections::HashSet::new();
        // Msgpack has a shorter head for a name of less than 32 bytes, which is not used.
        for prefix in ["s", "socket.io", &"p".repeat(56)] {
            let channel = Namespace::new("/admin").channel(prefix).unwrap();
            let Encoded::Attachment { document, header } = message.encode_durable(&channel).unwrap() else {
                panic!("a durable event travels by the table");
            };
            assert_eq!(&document[1..=CHANNEL_KEY.len()], CHANNEL_KEY);
            assert_eq!(channel_of(&document), Some(channel.as_str().as_bytes()));
            assert_eq!(header.nsp, message.nsp);
            assert_eq!(Message::decode_document(&document, &Namespace::default()).unwrap(), message);
            let read: serde_json::Value = rmp_serde::from_slice(&document).unwrap();
            assert_eq!(read["channel"], channel.as_str());
            let id = read["id"].as_str().unwrap();
            assert!(identity_of(&document).unwrap().ends_with(id.as_bytes()));
            assert!(identities.insert(identity_of(&document).unwrap().to_vec()));
        }
    }

    #[test]
    fn documents_of_other_messages_name_no_channel() {
        let message = event(BroadcastOptions::default(), None);
        let Encoded::Attachment { document, .. } = message.encode(0).unwrap() else { panic!("a row") };
        assert_eq!(channel_of(&document), None);
        assert_eq!(identity_of(&document), None);
        for cut in 0..20 {
            let channel = Namespace::default().channel("socket.io").unwrap();
            let Encoded::Attachment { document, .. } = message.encode_durable(&channel).unwrap() else {
                panic!()
            };
            assert_eq!(channel_of(&document[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn only_events_for_clients_are_durable() {
        let channel = Namespace::default().channel("socket.io").unwrap();
        let volatile = Flags { volatile: Some(true), ..Flags::default() };
        let opts = BroadcastOptions { flags: volatile, ..BroadcastOptions::default() };
        let others = [
            event(opts, None),
            event(BroadcastOptions::default(), Some("1".into())),
            Message::new(Uid::emitter(), "/", Body::Heartbeat),
        ];
        for message in others {
            let refused = message.encode_durable(&channel).unwrap_err();
            assert!(matches!(refused, Error::NotDurable(_)), "{refused}");
        }
    }
}
