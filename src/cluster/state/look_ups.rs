//! Rows of the attachment table that messages wait for.
//!
//! Owns which rows are wanted, which are being looked up, and which places wait for each. A row that several messages
//! wait for is looked up once, and a large one is not looked up again for messages that name it soon after: no sender does
//! that, and a notification of a hundred bytes would cost a document of megabytes each time. Invariant: each place is
//! resolved once, at the latest at its deadline.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::LookUpId;
use crate::protocol::{AttachmentId, Channel};

/// How long a message waits for its row while Postgres answers look-ups. Servers delete rows after 30 s unless told
/// otherwise. While Postgres is unreachable, rows are not deleted either, and nothing else could be delivered.
pub const LOOK_UP_DEADLINE: Duration = Duration::from_secs(10);

/// How long it waits at most while notifications come and look-ups get no answer, as when the network loses what goes to the
/// server. A stall of 30 s that ends by itself is to lose nothing.
const WITHOUT_ANSWER: Duration = Duration::from_secs(40);

/// How long after an answer no message gives up: where many rows are waited for, its own has not been asked for yet.
const AFTER_ANSWER: Duration = Duration::from_secs(2);

/// How many statements may be in progress at once.
const AT_ONCE: usize = 4;

/// How many rows one statement asks for at most. The server bounds their bytes.
const ROWS: usize = 128;

/// The pause before a look-up is tried again whose connection was lost.
const RETRY: Duration = Duration::from_millis(100);

/// From how many bytes on a row is given to one message only.
pub(super) const LARGE_ROW: usize = 64 << 10;

/// How long a large row is remembered.
const REMEMBERED: Duration = Duration::from_secs(10);

/// How many large rows are remembered at most. Beyond that, the oldest is forgotten.
const MAX_REMEMBERED: usize = 4096;

/// The place of a message: its channel, the channel's epoch, and the slot's number.
type Place = (Channel, u64, i64);

/// A row that messages wait for.
struct Row {
    /// Tells this wish from earlier ones for the same row.
    turn: u64,
    wanted_at: Instant,
    places: Vec<Place>,
}

/// A wish for a row. It is void once the row's entry has another turn.
type Wish = (AttachmentId, u64);

#[derive(Default)]
pub(super) struct LookUps {
    rows: HashMap<AttachmentId, Row>,
    wanted: VecDeque<Wish>,
    under_way: HashMap<LookUpId, Vec<Wish>>,
    /// In the order of the deadlines; those that are void stay until they come first.
    deadlines: VecDeque<(Instant, Wish)>,
    /// Large rows that were found, and when, in that order.
    large: VecDeque<(Instant, AttachmentId)>,
    retry_at: Option<Instant>,
    /// When rows came last.
    answered_at: Option<Instant>,
    last_turn: u64,
    last_id: u64,
}

impl LookUps {
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.under_way.len()
    }

    pub(super) fn want(
        &mut self,
        id: AttachmentId,
        channel: &Channel,
        epoch: u64,
        number: i64,
        now: Instant,
    ) {
        let place = (channel.clone(), epoch, number);
        if let Some(row) = self.rows.get_mut(&id) {
            row.places.push(place);
            return;
        }
        self.last_turn += 1;
        let wish = (id, self.last_turn);
        self.rows.insert(id, Row { turn: self.last_turn, wanted_at: now, places: vec![place] });
        self.wanted.push_back(wish);
        self.deadlines.push_back((now + LOOK_UP_DEADLINE, wish));
    }

    /// Takes note of a row that was found; whether it is a large one, and so for its first place only.
    pub(super) fn found(&mut self, id: AttachmentId, bytes: usize, now: Instant) -> bool {
        let is_large = bytes >= LARGE_ROW;
        if is_large {
            if self.large.len() >= MAX_REMEMBERED {
                self.large.pop_front();
            }
            self.large.push_back((now, id));
        }
        is_large
    }

    /// Whether a large row of that id was found a short time ago.
    pub(super) fn was_found(&mut self, id: AttachmentId, now: Instant) -> bool {
        while let Some((at, _)) = self.large.front()
            && now.saturating_duration_since(*at) > REMEMBERED
        {
            self.large.pop_front();
        }
        self.large.iter().any(|(_, other)| *other == id)
    }

    /// The row that is wished for; nothing for a wish that is void.
    fn row_of(&self, (id, turn): Wish) -> Option<&Row> {
        self.rows.get(&id).filter(|row| row.turn == turn)
    }

    fn is_open(&self, wish: Wish) -> bool {
        self.row_of(wish).is_some()
    }

    /// The next statement's rows.
    pub(super) fn next(&mut self, now: Instant) -> Option<(LookUpId, Vec<AttachmentId>)> {
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        if self.under_way.len() >= AT_ONCE {
            return None;
        }
        let mut wishes = Vec::new();
        while wishes.len() < ROWS
            && let Some(wish) = self.wanted.pop_front()
        {
            // It may have been given up meanwhile.
            if self.is_open(wish) {
                wishes.push(wish);
            }
        }
        if wishes.is_empty() {
            return None;
        }
        self.last_id += 1;
        let look_up = LookUpId(self.last_id);
        let ids = wishes.iter().map(|(id, _)| *id).collect();
        self.under_way.insert(look_up, wishes);
        Some((look_up, ids))
    }

    /// Rows have come, whichever.
    pub(super) fn answered(&mut self, now: Instant) {
        self.answered_at = Some(now);
    }

    /// When a message that waits for its row gives up, whose deadline that is.
    fn gives_up_at(&self, deadline: Instant, wanted_at: Instant) -> Instant {
        let patience = self.answered_at.map_or(deadline, |at| deadline.max(at + AFTER_ANSWER));
        patience.min(wanted_at + WITHOUT_ANSWER).max(deadline)
    }

    /// Ends a look-up; returns the rows that are still waited for, of those that it asked for.
    pub(super) fn finished(&mut self, look_up: LookUpId) -> Vec<AttachmentId> {
        let wishes = self.under_way.remove(&look_up).unwrap_or_default();
        wishes.into_iter().filter(|wish| self.is_open(*wish)).map(|(id, _)| id).collect()
    }

    /// Ends a look-up whose connection was lost: its rows are looked up again, before all others.
    pub(super) fn again(&mut self, now: Instant, look_up: LookUpId) {
        for wish in self.under_way.remove(&look_up).unwrap_or_default().into_iter().rev() {
            self.wanted.push_front(wish);
        }
        self.retry_at = Some(now + RETRY);
        // Other rows cannot be had, either.
        let open = self.deadlines.iter().filter_map(|(_, wish)| {
            let row = self.row_of(*wish)?;
            Some(((now + LOOK_UP_DEADLINE).min(row.wanted_at + WITHOUT_ANSWER), *wish))
        });
        self.deadlines = open.collect();
    }

    /// A row that was not read, since the others of its look-up were large enough, is asked for again, before all others.
    pub(super) fn postpone(&mut self, id: AttachmentId) {
        if let Some(row) = self.rows.get(&id) {
            self.wanted.push_front((id, row.turn));
        }
    }

    /// The places that wait for a row, which wait no longer.
    pub(super) fn take(&mut self, id: AttachmentId) -> Vec<Place> {
        self.rows.remove(&id).map(|row| row.places).unwrap_or_default()
    }

    /// Rows whose deadline has passed, and how long each was waited for.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(AttachmentId, Duration)> {
        let mut expired = Vec::new();
        while let Some((deadline, wish)) = self.deadlines.front().copied() {
            let row = self.row_of(wish);
            if row.is_some_and(|row| self.gives_up_at(deadline, row.wanted_at) > now) {
                break;
            }
            let waited = row.map(|row| now.saturating_duration_since(row.wanted_at));
            self.deadlines.pop_front();
            expired.extend(waited.map(|waited| (wish.0, waited)));
        }
        expired
    }

    /// Postgres answers again: what waited meanwhile has its whole time once more.
    pub(super) fn restart_deadlines(&mut self, now: Instant) {
        let open: Vec<_> =
            self.deadlines.iter().map(|(_, wish)| *wish).filter(|wish| self.is_open(*wish)).collect();
        self.rows.values_mut().for_each(|row| row.wanted_at = now);
        self.deadlines = open.into_iter().map(|wish| (now + LOOK_UP_DEADLINE, wish)).collect();
    }

    /// When [`expired`](Self::expired) has to be asked, or a look-up to be tried again.
    pub(super) fn next_deadline(&self, deadlines_count: bool) -> Option<Instant> {
        let first = self.deadlines.front().filter(|_| deadlines_count);
        let deadline = first.map(|(deadline, wish)| match self.row_of(*wish) {
            Some(row) => self.gives_up_at(*deadline, row.wanted_at),
            None => *deadline,
        });
        let retry = self.retry_at.filter(|_| !self.wanted.is_empty());
        deadline.into_iter().chain(retry).min()
    }
}
