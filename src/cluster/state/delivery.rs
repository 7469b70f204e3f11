//! In-order delivery of one channel: a message whose row is being fetched blocks the messages behind it.
//!
//! Owns the messages that cannot be delivered yet. Invariant: slots leave the queue in the order in which they entered it
//! (FIFO), and their bytes stay within the bound. Beyond the bound, messages are dropped, and counted in their slot.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use super::io::Arrival;
use super::replay::{MissedEvent, Replay};
use super::subscription_start::SentAt;
use super::{Config, Row, SubscriptionId};
use crate::Error;
use crate::cluster::{Attached, Content, Received};
use crate::protocol::{AttachmentId, Channel, Header, Message, Namespace, Uid, durable};

/// The memory of a slot without its texts, in bytes.
const SLOT_BYTES: usize = 256;

/// The maximum number of replayed events that have slots at the same time.
const MAX_REPLAYED_SLOTS: usize = 1024;

/// A message at its position in the queue.
pub(super) enum Slot {
    /// Its row is being looked up.
    Waiting(Waiting),
    /// It can be delivered.
    Ready { received: Box<Received>, recipients: Recipients, row: Option<RowRead> },
    /// A replay: the missed durable events before this position that have no slots yet.
    Replay(Replay),
    /// A missed durable event whose row was deleted.
    Deleted,
    /// The number of messages that were dropped at this position.
    Missed(u64),
    /// The goodbye of a peer, which takes effect after the answers before it.
    Goodbye(Uid),
}

/// The subscriptions that get a message.
pub(super) enum Recipients {
    /// These subscriptions.
    Known(Vec<SubscriptionId>),
    /// All subscriptions that want it and that are older than the event.
    Replayed { sent_at: SentAt },
}

/// The row that a message names or came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowRead {
    pub(super) id: AttachmentId,
    /// Whether the row is delivered at most once to a subscription: it is durable, or too large to tell.
    pub(super) deduplicate: bool,
}

/// A message whose row is being looked up.
pub(super) struct Waiting {
    arrival: Arrival,
    id: AttachmentId,
    origin: Origin,
}

/// How the message became known.
enum Origin {
    /// By a notification.
    Notified { text: String, header: Header, recipients: Vec<SubscriptionId> },
    /// By a listing of the rows after a gap.
    Replayed { sent_at: SentAt },
}

/// The content of a slot that leaves the queue.
pub(super) enum Released {
    Message { received: Box<Received>, recipients: Recipients, row: Option<RowRead> },
    Missed(u64),
    Goodbye(Uid),
}

/// The result of filling a slot with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// The slot is filled, or does not exist any more.
    Done,
    /// The queue had no room for the message, so it was dropped.
    Dropped,
    /// The row cannot be read for now. If it holds a durable event, a later replay may read it.
    Failed,
    /// Both: the row cannot be read, and the queue had no room for the failure.
    DroppedFailed,
}

impl Slot {
    pub(super) fn waiting(
        arrival: Arrival,
        text: String,
        id: AttachmentId,
        header: Header,
        recipients: Vec<SubscriptionId>,
    ) -> Self {
        Self::Waiting(Waiting { arrival, id, origin: Origin::Notified { text, header, recipients } })
    }

    /// The waiting slot of a message that was read before. Its row is looked up again.
    fn wait_again(id: AttachmentId, received: Received, recipients: Recipients) -> Self {
        let Received { time, backend, text, content, .. } = received;
        let arrival = Arrival { time, backend };
        let origin = match (recipients, content.header()) {
            (Recipients::Known(recipients), Some(header)) => Origin::Notified { text, header, recipients },
            (Recipients::Replayed { sent_at }, _) => Origin::Replayed { sent_at },
            // A notification has a header.
            (Recipients::Known(_), None) => return Self::Deleted,
        };
        Self::Waiting(Waiting { arrival, id, origin })
    }

    fn bytes(&self) -> usize {
        SLOT_BYTES
            + match self {
                Self::Waiting(Waiting { origin: Origin::Notified { text, .. }, .. }) => text.len(),
                Self::Ready { received, .. } => received.memory(),
                Self::Waiting(_) | Self::Missed(_) | Self::Goodbye(_) | Self::Replay(_) | Self::Deleted => 0,
            }
    }
}

/// The queue of one channel.
#[derive(Default)]
pub(super) struct Queue {
    slots: VecDeque<Slot>,
    /// The number of the first slot. The slots of replayed events, which are pushed to the front, use numbers again.
    first: i64,
    bytes: usize,
    /// Waiting slots of durable events for which the queue had no room when their rows came, with the bytes that each
    /// needs. The row is looked up again when there is room.
    deferred: BTreeMap<i64, (AttachmentId, usize)>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a slot. Beyond the bound it drops and counts the message, and returns false.
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

    /// Queues a goodbye behind the answers before it. Returns false if the queue is empty, or beyond the bound.
    pub(super) fn push_goodbye(&mut self, uid: &Uid, max_bytes: usize) -> bool {
        let is_possible = !self.slots.is_empty() && self.bytes + SLOT_BYTES <= max_bytes;
        if is_possible {
            self.bytes += SLOT_BYTES;
            self.slots.push_back(Slot::Goodbye(uid.clone()));
        }
        is_possible
    }

    /// The number of the last slot.
    pub(super) fn last(&self) -> i64 {
        self.first + (self.slots.len() as i64 - 1).max(0)
    }

    /// Completes a waiting slot with its row: found, deleted, or not readable. A row beyond the bound that would have to
    /// wait for others is dropped, unless it is durable.
    pub(super) fn fill(
        &mut self,
        channel: &Channel,
        number: i64,
        row: &Result<Option<Row>, Error>,
        namespace: &Namespace,
        config: &Config,
    ) -> Filled {
        let index = usize::try_from(number - self.first).ok();
        let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) else { return Filled::Done };
        let Slot::Waiting(waiting) = slot else { return Filled::Done };
        let is_replayed_slot = matches!(waiting.origin, Origin::Replayed { .. });
        if is_replayed_slot && row.is_err() {
            // A deleted slot takes as many bytes as a waiting one.
            *slot = Slot::Deleted;
            return Filled::Failed;
        }
        let other_bytes = self.bytes - slot.bytes();
        let Slot::Waiting(waiting) = std::mem::replace(slot, Slot::Missed(1)) else { return Filled::Done };
        let filled = waiting.with_row(channel, row, namespace, config.max_attachment);
        let needed = filled.bytes();
        let has_room = index == Some(0) || other_bytes + needed <= config.max_waiting_bytes;
        let outcome = match filled {
            filled if has_room => {
                *slot = filled;
                if row.is_ok() { Filled::Done } else { Filled::Failed }
            }
            Slot::Ready { received, recipients, row: Some(RowRead { id, deduplicate: true }) } => {
                *slot = Slot::wait_again(id, *received, recipients);
                self.deferred.insert(number, (id, needed));
                Filled::Done
            }
            _ if row.is_err() => Filled::DroppedFailed,
            _ => Filled::Dropped,
        };
        self.bytes = other_bytes + slot.bytes();
        outcome
    }

    /// Removes and returns the row and the number of the first deferred slot, if the queue has room for its event now.
    pub(super) fn take_deferred(&mut self, max_bytes: usize) -> Option<(AttachmentId, i64)> {
        let entry = self.deferred.first_entry()?;
        let (number, (id, needed)) = (*entry.key(), *entry.get());
        let index = usize::try_from(number - self.first).ok();
        let slot = index.and_then(|index| self.slots.get(index));
        let has_room =
            slot.is_none_or(|slot| index == Some(0) || self.bytes - slot.bytes() + needed <= max_bytes);
        has_room.then(|| {
            entry.remove();
            (id, number)
        })
    }

    /// Whether the slot of that number holds a replayed event.
    pub(super) fn is_replayed_slot(&self, number: i64) -> bool {
        let slot = usize::try_from(number - self.first).ok().and_then(|index| self.slots.get(index));
        matches!(slot, Some(Slot::Waiting(Waiting { origin: Origin::Replayed { .. }, .. })))
    }

    /// Adds a replay of the events that were missed before this moment. It is accepted beyond the bound.
    pub(super) fn push_replay(&mut self) {
        // A listing that has not started yet will cover this as well.
        if !self.slots.iter().any(|slot| matches!(slot, Slot::Replay(Replay::Wanted))) {
            self.bytes += SLOT_BYTES;
            self.slots.push_back(Slot::Replay(Replay::Wanted));
        }
    }

    /// Adds a replay of these missed events.
    pub(super) fn push_listed(&mut self, missed: VecDeque<MissedEvent>) {
        self.bytes += SLOT_BYTES;
        self.slots.push_back(Slot::Replay(Replay::Listed(missed)));
    }

    /// Whether a replay blocks the later messages.
    pub(super) fn has_replay(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Replay(_)))
    }

    /// The replay at the front of the queue, if all messages before it have been delivered.
    pub(super) fn front_replay(&mut self) -> Option<&mut Replay> {
        match self.slots.front_mut() {
            Some(Slot::Replay(replay)) => Some(replay),
            _ => None,
        }
    }

    /// Gives slots to the first events of the replay at the front: as many as the queue has room for, and at least one.
    /// Returns the rows to look up with the numbers of their slots; none if no event is left.
    pub(super) fn expand_replay(&mut self, time: SystemTime, max_bytes: usize) -> Vec<(AttachmentId, i64)> {
        let Some(Slot::Replay(Replay::Listed(rows))) = self.slots.front_mut() else { return Vec::new() };
        let room = max_bytes.saturating_sub(self.bytes) / SLOT_BYTES;
        let count = rows.len().min(room.clamp(1, MAX_REPLAYED_SLOTS));
        let rows: Vec<_> = rows.drain(..count).collect();
        for MissedEvent { id, sent_at } in rows.iter().rev() {
            let origin = Origin::Replayed { sent_at: *sent_at };
            let arrival = Arrival { time, backend: None };
            self.slots.push_front(Slot::Waiting(Waiting { arrival, id: *id, origin }));
            self.first -= 1;
            self.bytes += SLOT_BYTES;
        }
        rows.iter().enumerate().map(|(index, found)| (found.id, self.first + index as i64)).collect()
    }

    /// Removes the replay at the front.
    pub(super) fn end_replay(&mut self) {
        if self.front_replay().is_some() {
            self.slots.pop_front();
            self.first += 1;
            self.bytes -= SLOT_BYTES;
        }
    }

    /// Takes the first slot, unless it still waits.
    pub(super) fn pop_ready(&mut self) -> Option<Released> {
        loop {
            if matches!(self.slots.front()?, Slot::Waiting(_) | Slot::Replay(_)) {
                return None;
            }
            let slot = self.slots.pop_front()?;
            self.first += 1;
            self.bytes -= slot.bytes();
            return match slot {
                Slot::Deleted => continue,
                Slot::Waiting(_) | Slot::Replay(_) => None,
                Slot::Ready { received, recipients, row } => {
                    Some(Released::Message { received, recipients, row })
                }
                Slot::Missed(count) => Some(Released::Missed(count)),
                Slot::Goodbye(uid) => Some(Released::Goodbye(uid)),
            };
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
        let Self { arrival: Arrival { time, backend }, id, origin } = self;
        let (text, header, recipients) = match origin {
            Origin::Notified { text, header, recipients } => {
                (text, Some(header), Recipients::Known(recipients))
            }
            Origin::Replayed { sent_at } => (String::new(), None, Recipients::Replayed { sent_at }),
        };
        let (mut bytes, mut memory, mut deduplicate) = (None, 0, header.is_none());
        let content = match row {
            Ok(Some(Row::Document(document))) => {
                bytes = Some(document.len());
                deduplicate |= durable::channel_of(document) == Some(channel.as_str().as_bytes());
                match Message::decode_bounded(document, namespace, max_memory) {
                    Ok((message, taken)) => {
                        memory = taken;
                        Content::Message(message)
                    }
                    Err(error) => Content::Unreadable(header, error),
                }
            }
            Ok(Some(Row::TooLarge(bytes))) => {
                deduplicate = true;
                let error = Error::AttachmentTooLarge { bytes: *bytes, limit: max_memory as u64 };
                Content::Unreadable(header, error)
            }
            // `Postponed` does not come here: the machine looks it up again.
            Ok(None | Some(Row::Postponed)) => match header {
                Some(header) => Content::Missing(header),
                None => return Slot::Deleted,
            },
            Err(error) => Content::Unreadable(header, error.clone()),
        };
        let attachment = Some(Attached { id, bytes, memory });
        let is_replayed = matches!(recipients, Recipients::Replayed { .. });
        let text = match content.header().filter(|_| is_replayed) {
            // The text that its notification had.
            Some(header) => format!("{}{id}\"}}", header.before_attachment_id()),
            None => text,
        };
        let received =
            Received { time, backend, channel: channel.clone(), text, attachment, content, is_replayed };
        Slot::Ready { received: Box::new(received), recipients, row: Some(RowRead { id, deduplicate }) }
    }
}
