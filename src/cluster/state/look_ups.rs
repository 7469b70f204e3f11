//! Rows of the attachment table that messages wait for.
//!
//! Owns which rows are wanted, which are being looked up, and which places wait for each. A row is looked up once,
//! however many messages name it. Invariant: each place is resolved once, at the latest at its deadline.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::LookUpId;
use crate::protocol::{AttachmentId, Channel};

/// How long a message waits for its row. Servers delete rows after 30 s unless told otherwise.
pub const LOOK_UP_DEADLINE: Duration = Duration::from_secs(10);

/// How many statements may be under way at once.
const AT_ONCE: usize = 4;

/// How many rows one statement asks for.
const ROWS: usize = 16;

/// The pause before a look-up is tried again whose connection was lost.
const RETRY: Duration = Duration::from_millis(100);

/// The place of a message: its channel, the channel's epoch, and the slot's number.
type Place = (Channel, u64, u64);

#[derive(Default)]
pub(super) struct LookUps {
    places: HashMap<AttachmentId, Vec<Place>>,
    wanted: VecDeque<AttachmentId>,
    under_way: HashMap<LookUpId, Vec<AttachmentId>>,
    /// In the order of the deadlines; those resolved before stay until then.
    deadlines: VecDeque<(Instant, AttachmentId)>,
    retry_at: Option<Instant>,
    last_id: u64,
}

impl LookUps {
    pub(super) fn len(&self) -> usize {
        self.places.len() + self.under_way.len()
    }

    pub(super) fn want(
        &mut self,
        id: AttachmentId,
        channel: &Channel,
        epoch: u64,
        number: u64,
        now: Instant,
    ) {
        let places = self.places.entry(id).or_default();
        places.push((channel.clone(), epoch, number));
        if places.len() == 1 {
            self.wanted.push_back(id);
            self.deadlines.push_back((now + LOOK_UP_DEADLINE, id));
        }
    }

    /// The next statement's rows.
    pub(super) fn next(&mut self, now: Instant) -> Option<(LookUpId, Vec<AttachmentId>)> {
        if self.under_way.len() >= AT_ONCE || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        let mut ids = Vec::new();
        while ids.len() < ROWS
            && let Some(id) = self.wanted.pop_front()
        {
            // It may have been given up meanwhile.
            if self.places.contains_key(&id) {
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return None;
        }
        self.last_id += 1;
        let look_up = LookUpId(self.last_id);
        self.under_way.insert(look_up, ids.clone());
        Some((look_up, ids))
    }

    /// Ends a look-up; returns the rows that it asked for.
    pub(super) fn finished(&mut self, look_up: LookUpId) -> Vec<AttachmentId> {
        self.under_way.remove(&look_up).unwrap_or_default()
    }

    /// Ends a look-up whose connection was lost: its rows are looked up again, before all others.
    pub(super) fn again(&mut self, now: Instant, look_up: LookUpId) {
        for id in self.finished(look_up).into_iter().rev() {
            self.wanted.push_front(id);
        }
        self.retry_at = Some(now + RETRY);
    }

    /// The places that wait for a row, which wait no longer.
    pub(super) fn take(&mut self, id: AttachmentId) -> Vec<Place> {
        self.places.remove(&id).unwrap_or_default()
    }

    /// Rows whose deadline has passed.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<AttachmentId> {
        let mut expired = Vec::new();
        while let Some((deadline, id)) = self.deadlines.front().copied() {
            let is_open = self.places.contains_key(&id);
            if is_open && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            if is_open {
                expired.push(id);
            }
        }
        expired
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadline = self.deadlines.front().map(|(deadline, _)| *deadline);
        let retry = self.retry_at.filter(|_| !self.wanted.is_empty());
        deadline.into_iter().chain(retry).min()
    }
}
