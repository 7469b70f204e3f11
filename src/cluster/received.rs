//! The events of a subscription.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::Error;
use crate::protocol::{AttachmentId, Channel, Header, Message};

/// An event of a subscription.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A message arrived.
    Message(Arc<Received>),
    /// The number of messages that were dropped at this position, because this reader was too slow.
    Missed(u64),
    /// The listening connection is lost. Messages until [`Event::Restored`] are missed, except durable events.
    Lost(Error),
    /// The listening connection is restored. The duration of the gap.
    Restored(Duration),
    /// Postgres keeps the listening connection open, and does not answer on it. Messages until [`Event::Resumed`] are
    /// late. If the connection ends, [`Event::Lost`] follows, and messages are missing from the start of the stall on.
    Stalled,
    /// The stalled connection answers again, and no message was lost. The duration of the stall.
    Resumed(Duration),
}

/// A received message, with its notification.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// When it arrived here.
    pub time: SystemTime,
    /// The process id of the Postgres session that sent it, as in `pg_stat_activity`; `None` for a replayed event.
    pub backend: Option<i32>,
    /// The channel of the notification.
    pub channel: Channel,
    /// The payload of the notification.
    pub text: String,
    /// The row that holds the message, if the message is not in the notification.
    pub attachment: Option<Attached>,
    /// The decoded content.
    pub content: Content,
    /// Whether it is a durable event that was sent while this reader did not listen. The text is then that of the
    /// notification which this reader missed.
    pub is_replayed: bool,
}

/// A row of the attachment table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// Its id.
    pub id: AttachmentId,
    /// The size of its document in bytes; `None` if the row was deleted, or too large to be fetched.
    pub bytes: Option<usize>,
    /// The memory of its values, in bytes. Many small values take far more memory than their document.
    pub(crate) memory: usize,
}

impl Received {
    /// The memory that it takes, in bytes.
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

/// The content of a notification.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Content {
    /// A message.
    Message(Message),
    /// A message whose row was deleted: some node cleans up before this reader reads the row.
    Missing(Header),
    /// A message that cannot be decoded. With its header, if the header was readable.
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

    /// The header, if it was readable.
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
