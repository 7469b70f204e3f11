//! Look-ups of the rows of the attachment table that messages wait for.
//!
//! Owns the queued rows, the look-ups in flight, and the slots that wait for each row. A row that several messages wait for
//! is looked up once. A large row is not looked up again for messages that name it soon after (amplification attack): no
//! honest sender does that, and each notification of a hundred bytes would cost a document of megabytes. Invariant: each
//! slot is resolved once, at the latest at its deadline.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::LookUpId;
use crate::protocol::{AttachmentId, Channel};

/// How long a message waits for its row while Postgres answers look-ups. Servers delete rows after 30 s by default. While
/// Postgres is unreachable, rows are not deleted either, and nothing else could be delivered.
pub const LOOK_UP_DEADLINE: Duration = Duration::from_secs(10);

/// The maximum wait while notifications arrive and look-ups get no response, as when the network loses the packets to the
/// server. A stall of 30 s that ends by itself must lose nothing.
const MAX_WAIT_WITHOUT_RESPONSE: Duration = Duration::from_secs(40);

/// The time after a response in which no wait expires: with many queued rows, the look-up of the row may not have started.
const GRACE_AFTER_RESPONSE: Duration = Duration::from_secs(2);

/// The maximum number of look-ups in flight.
const MAX_IN_FLIGHT: usize = 4;

/// The maximum number of rows in one look-up. The statement bounds their bytes.
const MAX_ROWS_PER_LOOK_UP: usize = 128;

/// The back-off before the retry of a look-up whose connection was lost.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The size in bytes from which a row is delivered with one message only.
pub(super) const LARGE_ROW: usize = 64 << 10;

/// How long a large row is remembered.
const REMEMBER_LARGE_FOR: Duration = Duration::from_secs(10);

/// The maximum number of remembered large rows. Beyond it, the oldest is evicted.
const MAX_REMEMBERED_LARGE: usize = 4096;

/// The key of a slot: its channel, the channel's epoch, and the slot's number.
type SlotKey = (Channel, u64, i64);

/// A row that messages wait for.
struct Row {
    /// The generation number that tells this entry from earlier ones of the same row.
    generation: u64,
    wanted_at: Instant,
    slots: Vec<SlotKey>,
}

/// A row and the generation of its entry. It is stale when the entry has another generation.
type WantedRow = (AttachmentId, u64);

#[derive(Default)]
pub(super) struct LookUps {
    rows: HashMap<AttachmentId, Row>,
    wanted: VecDeque<WantedRow>,
    in_flight: HashMap<LookUpId, Vec<WantedRow>>,
    /// In the order of the deadlines. A stale entry stays until it is the first.
    deadlines: VecDeque<(Instant, WantedRow)>,
    /// Large rows that were found, and when, in that order.
    large: VecDeque<(Instant, AttachmentId)>,
    retry_at: Option<Instant>,
    /// When rows came last.
    last_response: Option<Instant>,
    last_generation: u64,
    last_id: u64,
}

impl LookUps {
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.in_flight.len()
    }

    pub(super) fn request(
        &mut self,
        id: AttachmentId,
        channel: &Channel,
        epoch: u64,
        number: i64,
        now: Instant,
    ) {
        let slot = (channel.clone(), epoch, number);
        if let Some(row) = self.rows.get_mut(&id) {
            row.slots.push(slot);
            return;
        }
        self.last_generation += 1;
        let wanted_row = (id, self.last_generation);
        self.rows.insert(id, Row { generation: self.last_generation, wanted_at: now, slots: vec![slot] });
        self.wanted.push_back(wanted_row);
        self.deadlines.push_back((now + LOOK_UP_DEADLINE, wanted_row));
    }

    /// Records a row that was found, if it is large. Returns whether it is large, and so for its first slot only.
    pub(super) fn record_large(&mut self, id: AttachmentId, bytes: usize, now: Instant) -> bool {
        let is_large = bytes >= LARGE_ROW;
        if is_large {
            if self.large.len() >= MAX_REMEMBERED_LARGE {
                self.large.pop_front();
            }
            self.large.push_back((now, id));
        }
        is_large
    }

    /// Whether a large row of that id was found a short time ago.
    pub(super) fn is_recent_large(&mut self, id: AttachmentId, now: Instant) -> bool {
        while let Some((at, _)) = self.large.front()
            && now.saturating_duration_since(*at) > REMEMBER_LARGE_FOR
        {
            self.large.pop_front();
        }
        self.large.iter().any(|(_, other)| *other == id)
    }

    /// The entry of a row; `None` for a stale one.
    fn pending_row(&self, (id, generation): WantedRow) -> Option<&Row> {
        self.rows.get(&id).filter(|row| row.generation == generation)
    }

    fn is_pending(&self, wanted_row: WantedRow) -> bool {
        self.pending_row(wanted_row).is_some()
    }

    /// The next look-up, if one may start.
    pub(super) fn next(&mut self, now: Instant) -> Option<(LookUpId, Vec<AttachmentId>)> {
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let mut wanted = Vec::new();
        while wanted.len() < MAX_ROWS_PER_LOOK_UP
            && let Some(wanted_row) = self.wanted.pop_front()
        {
            // Its deadline may have passed meanwhile.
            if self.is_pending(wanted_row) {
                wanted.push(wanted_row);
            }
        }
        if wanted.is_empty() {
            return None;
        }
        self.last_id += 1;
        let look_up = LookUpId(self.last_id);
        let ids = wanted.iter().map(|(id, _)| *id).collect();
        self.in_flight.insert(look_up, wanted);
        Some((look_up, ids))
    }

    /// Some look-up has returned rows.
    pub(super) fn on_response(&mut self, now: Instant) {
        self.last_response = Some(now);
    }

    /// When the wait for a row expires: its deadline, extended while other look-ups get responses.
    fn expires_at(&self, deadline: Instant, wanted_at: Instant) -> Instant {
        let extended = self.last_response.map_or(deadline, |at| deadline.max(at + GRACE_AFTER_RESPONSE));
        extended.min(wanted_at + MAX_WAIT_WITHOUT_RESPONSE).max(deadline)
    }

    /// Ends a look-up. Returns those of its rows that slots still wait for.
    pub(super) fn finish(&mut self, look_up: LookUpId) -> Vec<AttachmentId> {
        let wanted = self.in_flight.remove(&look_up).unwrap_or_default();
        wanted.into_iter().filter(|wanted_row| self.is_pending(*wanted_row)).map(|(id, _)| id).collect()
    }

    /// Ends a look-up whose connection was lost. Its rows are queued again, before all others.
    pub(super) fn retry(&mut self, now: Instant, look_up: LookUpId) {
        for wanted_row in self.in_flight.remove(&look_up).unwrap_or_default().into_iter().rev() {
            self.wanted.push_front(wanted_row);
        }
        self.retry_at = Some(now + RETRY_DELAY);
        // Other look-ups fail as well, so every wait gets a new deadline.
        let open = self.deadlines.iter().filter_map(|(_, wanted_row)| {
            let row = self.pending_row(*wanted_row)?;
            Some(((now + LOOK_UP_DEADLINE).min(row.wanted_at + MAX_WAIT_WITHOUT_RESPONSE), *wanted_row))
        });
        self.deadlines = open.collect();
    }

    /// Queues a row again, before all others. It was not read, since the other rows of its look-up filled the byte limit.
    pub(super) fn postpone(&mut self, id: AttachmentId) {
        if let Some(row) = self.rows.get(&id) {
            self.wanted.push_front((id, row.generation));
        }
    }

    /// Removes and returns the slots that wait for a row.
    pub(super) fn take(&mut self, id: AttachmentId) -> Vec<SlotKey> {
        self.rows.remove(&id).map(|row| row.slots).unwrap_or_default()
    }

    /// The rows whose deadline has passed, with the time that each has waited.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(AttachmentId, Duration)> {
        let mut expired = Vec::new();
        while let Some((deadline, wanted_row)) = self.deadlines.front().copied() {
            let row = self.pending_row(wanted_row);
            if row.is_some_and(|row| self.expires_at(deadline, row.wanted_at) > now) {
                break;
            }
            let waited = row.map(|row| now.saturating_duration_since(row.wanted_at));
            self.deadlines.pop_front();
            expired.extend(waited.map(|waited| (wanted_row.0, waited)));
        }
        expired
    }

    /// Postgres answers again: every waiting row gets a new deadline.
    pub(super) fn restart_deadlines(&mut self, now: Instant) {
        let open: Vec<_> = self
            .deadlines
            .iter()
            .map(|(_, wanted_row)| *wanted_row)
            .filter(|wanted_row| self.is_pending(*wanted_row))
            .collect();
        self.rows.values_mut().for_each(|row| row.wanted_at = now);
        self.deadlines = open.into_iter().map(|wanted_row| (now + LOOK_UP_DEADLINE, wanted_row)).collect();
    }

    /// When to call [`expired`](Self::expired), or to retry a look-up.
    pub(super) fn next_deadline(&self, deadlines_active: bool) -> Option<Instant> {
        let first = self.deadlines.front().filter(|_| deadlines_active);
        let deadline = first.map(|(deadline, wanted_row)| match self.pending_row(*wanted_row) {
            Some(row) => self.expires_at(*deadline, row.wanted_at),
            None => *deadline,
        });
        let retry = self.retry_at.filter(|_| !self.wanted.is_empty());
        deadline.into_iter().chain(retry).min()
    }
}
