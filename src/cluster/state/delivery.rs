//! The order of one channel: a message whose row is on its way holds back those behind it.
//!
//! Owns the messages that cannot be delivered yet. Invariant: slots leave in the order in which they came, and the bytes
//! that they hold stay within the bound, beyond which messages are dropped and counted at their place.

use std::collections::VecDeque;
use std::time::SystemTime;

use super::{Config, Row, SubscriptionId};
use crate::Error;
use crate::cluster::{Attached, Content, Received};
use crate::protocol::{AttachmentId, Channel, Header, Message, Namespace, Uid};

/// What a slot costs besides its texts, in bytes.
const SLOT_BYTES: usize = 256;

/// A message in its place.
pub(super) enum Slot {
    /// Its row is being looked up.
    Waiting(Waiting),
    /// It can be delivered.
    Ready { received: Box<Received>, takers: Vec<SubscriptionId> },
    /// So many messages were dropped here.
    Missed(u64),
    /// A peer said goodbye here, after the answers before.
    Goodbye(Uid),
}

/// A message whose row is being looked up.
pub(super) struct Waiting {
    time: SystemTime,
    text: String,
    id: AttachmentId,
    header: Header,
    takers: Vec<SubscriptionId>,
}

/// What may be delivered.
pub(super) enum Released {
    Message { received: Box<Received>, takers: Vec<SubscriptionId> },
    Missed(u64),
    Goodbye(Uid),
}

impl Slot {
    pub(super) fn waiting(
        time: SystemTime,
        text: String,
        id: AttachmentId,
        header: Header,
        takers: Vec<SubscriptionId>,
    ) -> Self {
        Self::Waiting(Waiting { time, text, id, header, takers })
    }

    fn bytes(&self) -> usize {
        SLOT_BYTES
            + match self {
                Self::Waiting(waiting) => waiting.text.len(),
                Self::Ready { received, .. } => received.memory(),
                Self::Missed(_) | Self::Goodbye(_) => 0,
            }
    }
}

/// The messages of one channel that wait.
#[derive(Default)]
pub(super) struct Queue {
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: u64,
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a slot. Beyond the bound it is dropped and counted; then this returns false.
    pub(super) fn push(&mut self, slot: Slot, max_bytes: usize) -> bool {
        let bytes = slot.bytes();
        if self.bytes + bytes <= max_bytes {
            self.bytes += bytes;
            self.slots.push_back(slot);
            return true;
        }
        match self.slots.back_mut() {
            Some(Slot::Missed(count)) => *count += 1,
            _ => {
                self.bytes += SLOT_BYTES;
                self.slots.push_back(Slot::Missed(1));
            }
        }
        false
    }

    /// Lets a goodbye wait for the answers before it. Returns false where none wait, and beyond the bound.
    pub(super) fn push_goodbye(&mut self, uid: &Uid, max_bytes: usize) -> bool {
        let is_possible = !self.slots.is_empty() && self.bytes + SLOT_BYTES <= max_bytes;
        if is_possible {
            self.bytes += SLOT_BYTES;
            self.slots.push_back(Slot::Goodbye(uid.clone()));
        }
        is_possible
    }

    /// The number of the slot that came last.
    pub(super) fn last(&self) -> u64 {
        self.first + (self.slots.len() as u64).saturating_sub(1)
    }

    /// Completes a waiting slot with its row: found, gone, or not to be had. A row that has to wait for others and
    /// exceeds the bound is dropped; then this returns false.
    pub(super) fn fill(
        &mut self,
        channel: &Channel,
        number: u64,
        row: &Result<Option<Row>, Error>,
        namespace: &Namespace,
        config: &Config,
    ) -> bool {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) else { return true };
        let Slot::Waiting(_) = slot else { return true };
        self.bytes -= slot.bytes();
        let Slot::Waiting(waiting) = std::mem::replace(slot, Slot::Missed(1)) else { return true };
        let filled = waiting.with_row(channel, row, namespace, config.max_attachment);
        let has_room = index == Some(0) || self.bytes + filled.bytes() <= config.max_waiting_bytes;
        if has_room {
            *slot = filled;
        }
        self.bytes += slot.bytes();
        has_room
    }

    /// Takes the next slot, unless it still waits.
    pub(super) fn pop_ready(&mut self) -> Option<Released> {
        if matches!(self.slots.front()?, Slot::Waiting(_)) {
            return None;
        }
        let slot = self.slots.pop_front()?;
        self.first += 1;
        self.bytes -= slot.bytes();
        match slot {
            Slot::Waiting(_) => None,
            Slot::Ready { received, takers } => Some(Released::Message { received, takers }),
            Slot::Missed(count) => Some(Released::Missed(count)),
            Slot::Goodbye(uid) => Some(Released::Goodbye(uid)),
        }
    }
}

impl Waiting {
    fn with_row(
        self,
        channel: &Channel,
        row: &Result<Option<Row>, Error>,
        namespace: &Namespace,
        max_memory: usize,
    ) -> Slot {
        let Self { time, text, id, header, takers } = self;
        let (mut bytes, mut memory) = (None, 0);
        let content = match row {
            Ok(Some(Row::Document(document))) => {
                bytes = Some(document.len());
                match Message::decode_bounded(document, namespace, max_memory) {
                    Ok((message, taken)) => {
                        memory = taken;
                        Content::Message(message)
                    }
                    Err(error) => Content::Unreadable(Some(header), error),
                }
            }
            Ok(Some(Row::TooLarge(bytes))) => {
                let error = Error::AttachmentTooLarge { bytes: *bytes, limit: max_memory as u64 };
                Content::Unreadable(Some(header), error)
            }
            // The machine asks for it once more instead.
            Ok(None | Some(Row::Postponed)) => Content::Missing(header),
            Err(error) => Content::Unreadable(Some(header), error.clone()),
        };
        let attachment = Some(Attached { id, bytes, memory });
        let received = Received { time, channel: channel.clone(), text, attachment, content };
        Slot::Ready { received: Box::new(received), takers }
    }
}
