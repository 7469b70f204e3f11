//! In-order delivery of one channel: a message whose row is being fetched blocks the messages behind it.
//!
//! Owns the messages that cannot be delivered yet. Invariant: slots leave in the order in which they came, and the bytes
//! that they hold stay within the bound, beyond which messages are dropped and counted at their place.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime};

use super::io::Arrival;
use super::replay::{Found, Replay};
use super::{Config, Row, SubscriptionId};
use crate::Error;
use crate::cluster::{Attached, Content, Received};
use crate::protocol::{AttachmentId, Channel, Header, Message, Namespace, Uid, durable};

/// What a slot costs besides its texts, in bytes.
const SLOT_BYTES: usize = 256;

/// How many events that were missed have slots of their own at once.
const FOUND_AT_ONCE: usize = 1024;

/// A message in its place.
pub(super) enum Slot {
    /// Its row is being looked up.
    Waiting(Waiting),
    /// It can be delivered.
    Ready { received: Box<Received>, recipients: Recipients, row: Option<RowRead> },
    /// The durable events that were missed before this place, as far as they are not in slots of their own.
    Replay(Replay),
    /// A durable event that was missed, and whose row is not there any more.
    Gone,
    /// So many messages were dropped here.
    Missed(u64),
    /// A peer said goodbye here, after the answers before.
    Goodbye(Uid),
}

/// The subscriptions that get a message.
pub(super) enum Recipients {
    /// These subscriptions.
    Known(Vec<SubscriptionId>),
    /// Those that want it and were made before it was.
    Replayed { made_at: Instant },
}

/// The row that a message names or came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowRead {
    pub(super) id: AttachmentId,
    /// Whether it is not to be delivered again: it is durable, or too large to tell.
    pub(super) is_once: bool,
}

/// A message whose row is being looked up.
pub(super) struct Waiting {
    arrival: Arrival,
    id: AttachmentId,
    origin: Origin,
}

/// How it is known that there is such a message.
enum Origin {
    /// By a notification.
    Notified { text: String, header: Header, recipients: Vec<SubscriptionId> },
    /// Its row was found after a gap.
    Found { made_at: Instant },
}

/// What may be delivered.
pub(super) enum Released {
    Message { received: Box<Received>, recipients: Recipients, row: Option<RowRead> },
    Missed(u64),
    Goodbye(Uid),
}

/// What has become of a slot whose row has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// It is filled, or there is no such slot.
    Well,
    /// There was no room for the message, which is dropped.
    Dropped,
    /// The row is not to be had for now. If it is that of a durable event, it may be later.
    Failed,
    /// Both: there was no room even for the failure.
    DroppedUnread,
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

    /// Once more the slot of a message that was read already.
    fn waiting_again(id: AttachmentId, received: Received, recipients: Recipients) -> Self {
        let Received { time, backend, text, content, .. } = received;
        let arrival = Arrival { time, backend };
        let origin = match (recipients, content.header()) {
            (Recipients::Known(recipients), Some(header)) => Origin::Notified { text, header, recipients },
            (Recipients::Replayed { made_at }, _) => Origin::Found { made_at },
            // A notification has a header.
            (Recipients::Known(_), None) => return Self::Gone,
        };
        Self::Waiting(Waiting { arrival, id, origin })
    }

    fn bytes(&self) -> usize {
        SLOT_BYTES
            + match self {
                Self::Waiting(Waiting { origin: Origin::Notified { text, .. }, .. }) => text.len(),
                Self::Ready { received, .. } => received.memory(),
                Self::Waiting(_) | Self::Missed(_) | Self::Goodbye(_) | Self::Replay(_) | Self::Gone => 0,
            }
    }
}

/// The messages of one channel that wait.
#[derive(Default)]
pub(super) struct Queue {
    slots: VecDeque<Slot>,
    /// The number of the first slot. Numbers of slots that have left are used again, by events that were missed before the
    /// slots that are left.
    first: i64,
    bytes: usize,
    /// Waiting slots of durable events that had no room when their rows came, with the room that each needs, in bytes. A row
    /// is looked up once more as soon as there is room.
    parked: BTreeMap<i64, (AttachmentId, usize)>,
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
    pub(super) fn last(&self) -> i64 {
        self.first + (self.slots.len() as i64 - 1).max(0)
    }

    /// Completes a waiting slot with its row: found, gone, or not to be had. A row that has to wait for others and
    /// exceeds the bound is dropped, unless it is durable.
    pub(super) fn fill(
        &mut self,
        channel: &Channel,
        number: i64,
        row: &Result<Option<Row>, Error>,
        namespace: &Namespace,
        config: &Config,
    ) -> Filled {
        let index = usize::try_from(number - self.first).ok();
        let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) else { return Filled::Well };
        let Slot::Waiting(waiting) = slot else { return Filled::Well };
        let is_found = matches!(waiting.origin, Origin::Found { .. });
        if is_found && row.is_err() {
            // It takes as much room.
            *slot = Slot::Gone;
            return Filled::Failed;
        }
        let others = self.bytes - slot.bytes();
        let Slot::Waiting(waiting) = std::mem::replace(slot, Slot::Missed(1)) else { return Filled::Well };
        let filled = waiting.with_row(channel, row, namespace, config.max_attachment);
        let needed = filled.bytes();
        let has_room = index == Some(0) || others + needed <= config.max_waiting_bytes;
        let outcome = match filled {
            filled if has_room => {
                *slot = filled;
                if row.is_ok() { Filled::Well } else { Filled::Failed }
            }
            Slot::Ready { received, recipients, row: Some(RowRead { id, is_once: true }) } => {
                *slot = Slot::waiting_again(id, *received, recipients);
                self.parked.insert(number, (id, needed));
                Filled::Well
            }
            _ if row.is_err() => Filled::DroppedUnread,
            _ => Filled::Dropped,
        };
        self.bytes = others + slot.bytes();
        outcome
    }

    /// The first parked slot, if there is room for its event now: its row and number. The slot is parked no longer.
    pub(super) fn unpark(&mut self, max_bytes: usize) -> Option<(AttachmentId, i64)> {
        let entry = self.parked.first_entry()?;
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

    /// Whether the slot of that number holds an event that was missed.
    pub(super) fn is_found(&self, number: i64) -> bool {
        let slot = usize::try_from(number - self.first).ok().and_then(|index| self.slots.get(index));
        matches!(slot, Some(Slot::Waiting(Waiting { origin: Origin::Found { .. }, .. })))
    }

    /// Adds the place of the events that were missed before those to come. It takes no room.
    pub(super) fn push_replay(&mut self) {
        // A listing that has not started yet will cover this as well.
        if !self.slots.iter().any(|slot| matches!(slot, Slot::Replay(Replay::Wanted))) {
            self.bytes += SLOT_BYTES;
            self.slots.push_back(Slot::Replay(Replay::Wanted));
        }
    }

    /// Whether events that were missed hold back what comes later.
    pub(super) fn has_replay(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Replay(_)))
    }

    /// The events that were missed, if all before them have been delivered.
    pub(super) fn front_replay(&mut self) -> Option<&mut Replay> {
        match self.slots.front_mut() {
            Some(Slot::Replay(replay)) => Some(replay),
            _ => None,
        }
    }

    /// Gives slots of their own to the first of the events that were missed, as many as there is room for, and at least to
    /// one. Returns the rows to look up, with the numbers of their slots; none where no event is left.
    pub(super) fn place_found(&mut self, time: SystemTime, max_bytes: usize) -> Vec<(AttachmentId, i64)> {
        let Some(Slot::Replay(Replay::Listed(rows))) = self.slots.front_mut() else { return Vec::new() };
        let room = max_bytes.saturating_sub(self.bytes) / SLOT_BYTES;
        let count = rows.len().min(room.clamp(1, FOUND_AT_ONCE));
        let rows: Vec<_> = rows.drain(..count).collect();
        for Found { id, made_at } in rows.iter().rev() {
            let origin = Origin::Found { made_at: *made_at };
            let arrival = Arrival { time, backend: None };
            self.slots.push_front(Slot::Waiting(Waiting { arrival, id: *id, origin }));
            self.first -= 1;
            self.bytes += SLOT_BYTES;
        }
        rows.iter().enumerate().map(|(index, found)| (found.id, self.first + index as i64)).collect()
    }

    /// Removes the place of events that were missed.
    pub(super) fn end_replay(&mut self) {
        if self.front_replay().is_some() {
            self.slots.pop_front();
            self.first += 1;
            self.bytes -= SLOT_BYTES;
        }
    }

    /// Takes the next slot, unless it still waits.
    pub(super) fn pop_ready(&mut self) -> Option<Released> {
        loop {
            if matches!(self.slots.front()?, Slot::Waiting(_) | Slot::Replay(_)) {
                return None;
            }
            let slot = self.slots.pop_front()?;
            self.first += 1;
            self.bytes -= slot.bytes();
            return match slot {
                Slot::Gone => continue,
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
            Origin::Found { made_at } => (String::new(), None, Recipients::Replayed { made_at }),
        };
        let (mut bytes, mut memory, mut is_once) = (None, 0, header.is_none());
        let content = match row {
            Ok(Some(Row::Document(document))) => {
                bytes = Some(document.len());
                is_once |= durable::channel_of(document) == Some(channel.as_str().as_bytes());
                match Message::decode_bounded(document, namespace, max_memory) {
                    Ok((message, taken)) => {
                        memory = taken;
                        Content::Message(message)
                    }
                    Err(error) => Content::Unreadable(header, error),
                }
            }
            Ok(Some(Row::TooLarge(bytes))) => {
                is_once = true;
                let error = Error::AttachmentTooLarge { bytes: *bytes, limit: max_memory as u64 };
                Content::Unreadable(header, error)
            }
            // The machine asks for it once more instead.
            Ok(None | Some(Row::Postponed)) => match header {
                Some(header) => Content::Missing(header),
                None => return Slot::Gone,
            },
            Err(error) => Content::Unreadable(header, error.clone()),
        };
        let attachment = Some(Attached { id, bytes, memory });
        let is_replayed = matches!(recipients, Recipients::Replayed { .. });
        let text = match content.header().filter(|_| is_replayed) {
            // As its notification would have said it.
            Some(header) => format!("{}{id}\"}}", header.before_attachment_id()),
            None => text,
        };
        let received =
            Received { time, backend, channel: channel.clone(), text, attachment, content, is_replayed };
        Slot::Ready { received: Box::new(received), recipients, row: Some(RowRead { id, is_once }) }
    }
}
