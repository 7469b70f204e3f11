//! The events of a subscription.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::Error;
use crate::protocol::{AttachmentId, Channel, Header, Message};

/// Something that happened on a subscription.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A message arrived.
    Message(Arc<Received>),
    /// So many messages arrived here and were dropped, as this reader was too slow.
    Missed(u64),
    /// The listening connection is gone. Whatever is sent until [`Event::Restored`] is missed.
    Lost(Error),
    /// Listening again, after so long.
    Restored(Duration),
}

/// A message, and how it came.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// When it arrived here.
    pub time: SystemTime,
    /// The process id of the Postgres session that sent it, as `pg_stat_activity` has it; `None` for one that is replayed.
    pub backend: Option<i32>,
    /// The channel on which it came.
    pub channel: Channel,
    /// The text of the notification, as it travelled.
    pub text: String,
    /// The row that holds the message, where it is not in the notification.
    pub attachment: Option<Attached>,
    /// What it says.
    pub content: Content,
    /// Whether it is a durable event that was sent while this reader did not listen. The text is then what its notification
    /// would have been.
    pub is_replayed: bool,
}

/// A row of the attachment table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// Its id.
    pub id: AttachmentId,
    /// The size of its document in bytes; `None` where the row was gone already, or was too large to be fetched.
    pub bytes: Option<usize>,
    /// What its values take in memory, which is far more than the document for many small ones.
    pub(crate) memory: usize,
}

impl Received {
    /// How many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        let document = |attached: Attached| attached.memory.max(attached.bytes.unwrap_or(0));
        self.text.len() + self.attachment.map_or(0, document)
    }

    /// The content, without a copy if there is no other reference.
    #[cfg(feature = "adapter")]
    pub(crate) fn into_content(self: Arc<Self>) -> Content {
        Arc::try_unwrap(self).map_or_else(|shared| shared.content.clone(), |own| own.content)
    }
}

/// What a notification turned out to say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Content {
    /// A message.
    Message(Message),
    /// A message whose row was gone: some node cleans up more often than this reader reads.
    Missing(Header),
    /// Nothing that makes sense. The header is there where at least that much did.
    Unreadable(Option<Header>, Error),
}

impl Content {
    /// Why it cannot be read; empty for a message.
    pub(crate) fn failure(&self) -> String {
        match self {
            Self::Message(_) => String::new(),
            Self::Missing(_) => "its attachment is missing".into(),
            Self::Unreadable(_, error) => error.to_string(),
        }
    }

    /// The header, where there is one.
    pub fn header(&self) -> Option<Header> {
        match self {
            Self::Message(Message { uid, nsp, body }) => {
                Some(Header { uid: uid.clone(), nsp: nsp.clone(), kind: body.kind() })
            }
            Self::Missing(header) => Some(header.clone()),
            Self::Unreadable(header, _) => header.clone(),
        }
    }
}
