//! The encoding of a message for publishing: inline in the notification, or for the attachment table.

use serde::Serialize;

use super::data::Data;
use super::envelope::message_from_document;
use super::{Header, Message, Namespace, durable, json, msgpack};
use crate::{Error, Result};

/// Postgres refuses the payload of a notification with this many bytes or more. (The Node adapters up to 0.5.0 send
/// exactly as many inline and lose that message.)
pub const MAX_INLINE_BYTES: usize = 8000;

/// The longest document that a row can hold: Postgres allows 1 GB less one byte for a field and for the message that
/// brings it; the margin is for what surrounds it.
pub const MAX_DOCUMENT_BYTES: usize = 0x3fff_ffff - 1024;

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
    #[serde(skip_serializing_if = "Data::is_none")]
    data: Data<'a>,
}

impl Message {
    pub(super) fn document(&self) -> Document<'_> {
        let kind = self.kind().number();
        Document { uid: self.uid.as_str(), nsp: self.nsp.as_str(), kind, data: Data(&self.body) }
    }

    /// Encodes the message: inline, or for the attachment table where it holds binary or its JSON has `threshold`
    /// bytes or more. A threshold above [`MAX_INLINE_BYTES`] is taken as that.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`MAX_DOCUMENT_BYTES`].
    pub fn encode(&self, threshold: usize) -> Result<Encoded> {
        if !self.body.has_binary() {
            let text = json::write(&self.document())?;
            if text.len() < threshold.min(MAX_INLINE_BYTES) {
                return Ok(Encoded::Inline(text));
            }
        }
        let document = msgpack::write(&self.document())?;
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(Error::TooLarge { bytes: document.len() as u64, limit: MAX_DOCUMENT_BYTES as u64 });
        }
        let header = Header { uid: self.uid.clone(), nsp: self.nsp.clone(), kind: self.kind() };
        Ok(Encoded::Attachment { header, document })
    }

    /// Decodes a row of the attachment table. `channel` is the namespace that the channel tells.
    ///
    /// # Errors
    /// [`Error::Decode`] where it is not msgpack, or not a message.
    pub fn decode_document(bytes: &[u8], channel: &Namespace) -> Result<Self> {
        message_from_document(msgpack::read(bytes)?, channel)
    }

    /// The same for a row whose values may take at most so many bytes of memory. Returns how many they take, too.
    ///
    /// # Errors
    /// [`Error::AttachmentTooLarge`] beyond that, and those of [`decode_document`](Self::decode_document).
    pub(crate) fn decode_bounded(
        bytes: &[u8],
        channel: &Namespace,
        max_memory: usize,
    ) -> Result<(Self, usize)> {
        let (document, memory) = msgpack::read_bounded(bytes, max_memory)?;
        Ok((message_from_document(document, channel)?, memory))
    }
}
