//! The encoding of a message for publishing: inline in the notification, or for the attachment table.

use serde::Serialize;

use super::data::Data;
use super::envelope::message_from_document;
use super::{Header, Message, Namespace, durable, json, msgpack};
use crate::{Error, Result};

/// Postgres refuses the payload of a notification with this many bytes or more. (The Node adapters up to 0.5.0 send
/// exactly as many inline and lose that message.)
pub const MAX_INLINE_BYTES: usize = 8000;

/// The longest document that a row can hold. Postgres allows 1 GB minus one byte for a field, and for the protocol
/// message that contains it. The margin is for the rest of that message.
pub const MAX_DOCUMENT_BYTES: usize = 0x3fff_ffff - 1024;

/// The `source` of every message. In Node's cluster mode (`setupPrimary` of adapter 0.5), the primary passes messages on
/// to its workers unchanged, and the workers (`@socket.io/cluster-adapter`) ignore a message without this value. All
/// other receivers ignore the field.
const SOURCE: &str = "_sio_adapter";

/// An encoded message.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoded {
    /// The text of the notification.
    Inline(String),
    /// The row for the attachment table. The notification will name its id.
    Attachment {
        /// The fields of the notification besides the id.
        header: Header,
        /// The message in msgpack.
        document: Vec<u8>,
    },
}

impl Encoded {
    /// Whether it is a durable event.
    pub(crate) fn is_durable(&self) -> bool {
        matches!(self, Self::Attachment { document, .. } if durable::channel_of(document).is_some())
    }
}

/// The keys of a message, in either encoding.
#[derive(Serialize)]
pub struct Document<'a> {
    uid: &'a str,
    nsp: &'a str,
    #[serde(rename = "type")]
    kind: u8,
    source: &'static str,
    #[serde(skip_serializing_if = "Data::is_none")]
    data: Data<'a>,
}

impl Message {
    pub(super) fn document(&self) -> Document<'_> {
        let kind = self.kind().number();
        let (uid, nsp) = (self.uid.as_str(), self.nsp.as_str());
        Document { uid, nsp, kind, source: SOURCE, data: Data(&self.body) }
    }

    /// Encodes the message: for the attachment table if it has binary or its JSON has `threshold` bytes or more, and
    /// inline otherwise. A threshold above [`MAX_INLINE_BYTES`] counts as [`MAX_INLINE_BYTES`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`MAX_DOCUMENT_BYTES`].
    pub fn encode(&self, threshold: usize) -> Result<Encoded> {
        if !self.body.has_binary()
            && let Some(text) = json::write_shorter(&self.document(), threshold.min(MAX_INLINE_BYTES))?
        {
            return Ok(Encoded::Inline(text));
        }
        let document = msgpack::write(&self.document())?;
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(Error::TooLarge { bytes: document.len() as u64, limit: MAX_DOCUMENT_BYTES as u64 });
        }
        let header = Header { uid: self.uid.clone(), nsp: self.nsp.clone(), kind: self.kind() };
        Ok(Encoded::Attachment { header, document })
    }

    /// Decodes a row of the attachment table. `channel` is the namespace of the channel.
    ///
    /// # Errors
    /// [`Error::Decode`] if the row is not msgpack, or not a message.
    pub fn decode_document(bytes: &[u8], channel: &Namespace) -> Result<Self> {
        message_from_document(msgpack::read(bytes)?, channel)
    }

    /// The same, with a limit of the memory that the values take, in bytes. Also returns the memory that they take.
    ///
    /// # Errors
    /// [`Error::AttachmentTooLarge`] beyond the limit, and those of [`decode_document`](Self::decode_document).
    pub(crate) fn decode_bounded(
        bytes: &[u8],
        channel: &Namespace,
        max_memory: usize,
    ) -> Result<(Self, usize)> {
        let (document, memory) = msgpack::read_bounded(bytes, max_memory)?;
        Ok((message_from_document(document, channel)?, memory))
    }
}
