//! The durable events that a channel has missed.
//!
//! Owns what is remembered of each channel's durable events, and the listings of their rows. Whenever messages of a channel
//! may have been missed, a place in the channel's queue holds back what comes later; once that place is first, the rows of
//! durable events are listed, and those that were not delivered yet are looked up and delivered there. LISTEN is in effect
//! before the listing: an event that the listing does not see is committed later, and its notification comes. Ids do not
//! tell the order of commits, so no highest id is kept but all ids of a while.
//!
//! Invariant: what was delivered as a durable event is remembered, or older than every row that a listing may bring.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use super::delivery::{Recipients, RowRead};
use super::look_ups::LOOK_UP_DEADLINE;
use super::{ClusterState, DurableRow, DurableRows, Output, SubscriptionId};
use crate::Error;
use crate::cluster::Received;
use crate::protocol::{AttachmentId, Channel};

/// How much longer than the cleanup interval a durable event is remembered: rows are deleted now and then only, and clocks
/// may be set.
const REMEMBERED_LONGER: Duration = Duration::from_secs(20);

/// How many durable events of one channel are remembered at most, which takes 13 MB. Beyond that the oldest is forgotten,
/// and no event that may be as old is delivered after a gap.
const MAX_REMEMBERED: usize = 1 << 18;

/// The pause before a listing is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// When events that were missed are listed once more whose rows were not to be had in time. The channel goes on meanwhile.
const LATER: Duration = Duration::from_secs(5);

/// How long such a listing may hold the channel back.
const HELD_AGAIN: Duration = Duration::from_secs(1);

/// How long a listing may be in progress before the server takes its time.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// How many channels one listing is for.
const CHANNELS_AT_ONCE: usize = 1024;

/// The events that were missed before a place in a channel's queue.
#[derive(Debug)]
pub(super) enum Replay {
    /// They are not known yet.
    Wanted,
    /// Their rows are being listed.
    Listing,
    /// These are left.
    Listed(VecDeque<Found>),
}

/// An event that was missed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) id: AttachmentId,
    /// When its transaction began, or a little later.
    pub(super) made_at: Instant,
}

/// What became of a row that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowOutcome {
    /// To all who wanted it then. After a gap, to those only who had subscribed before it was made.
    Delivered(Option<Instant>),
    /// No subscription wanted the message that named it.
    Unwanted,
}

/// What a channel remembers of its durable events.
#[derive(Debug)]
pub(super) struct DeliveredIds {
    rows: HashMap<AttachmentId, RowOutcome>,
    /// In the order in which they came.
    order: VecDeque<(Instant, AttachmentId)>,
    /// Since when there is such a channel: no event before that was missed.
    born: Instant,
    /// What came until then may be forgotten.
    forgotten_until: Option<Instant>,
    /// When it was listened to first; nothing before that was missed.
    listened_since: Option<Instant>,
    /// Since when messages may have been missed that no listing has covered. Nothing is forgotten meanwhile.
    gap: Option<Instant>,
    /// Whether the gap ends with the next sign that the channel is listened to.
    is_deaf: bool,
}

impl DeliveredIds {
    /// `listens` where the server has confirmed the channel before.
    pub(super) fn new(now: Instant, listens: bool) -> Self {
        Self {
            rows: HashMap::new(),
            order: VecDeque::new(),
            born: now,
            forgotten_until: None,
            listened_since: listens.then_some(now),
            gap: None,
            is_deaf: false,
        }
    }

    /// Messages may be missed from that moment on, until the channel is listened to again.
    pub(super) fn lose(&mut self, since: Instant) {
        if self.listened_since.is_some() {
            self.gap.get_or_insert(since);
            self.is_deaf = true;
        }
    }

    /// The channel is listened to. Returns whether that ends a gap.
    pub(super) fn hears(&mut self, now: Instant) -> bool {
        self.listened_since.get_or_insert(now);
        std::mem::take(&mut self.is_deaf)
    }

    /// Takes note of a row that is delivered now.
    fn deliver(&mut self, id: AttachmentId, made_at: Option<Instant>, now: Instant, keep: Duration) {
        if self.rows.insert(id, RowOutcome::Delivered(made_at)).is_none() {
            self.order.push_back((now, id));
            self.forget(now, keep);
        }
    }

    /// Records a row that no subscription wants. It may be durable.
    pub(super) fn skip(&mut self, id: AttachmentId, now: Instant, keep: Duration) {
        if let Entry::Vacant(entry) = self.rows.entry(id) {
            entry.insert(RowOutcome::Unwanted);
            self.order.push_back((now, id));
            self.forget(now, keep);
        }
    }

    /// Whether a row was delivered before to a subscription that was made at that time, if it was.
    pub(super) fn has_given(&self, id: AttachmentId, subscribed_at: Option<Instant>) -> bool {
        match self.rows.get(&id) {
            Some(RowOutcome::Delivered(None)) => true,
            Some(RowOutcome::Delivered(Some(made_at))) => {
                subscribed_at.is_some_and(|since| since <= *made_at)
            }
            Some(RowOutcome::Unwanted) | None => false,
        }
    }

    fn forget(&mut self, now: Instant, keep: Duration) {
        let now = self.gap.map_or(now, |gap| gap.min(now));
        while let Some((at, id)) = self.order.front().copied()
            && (now.saturating_duration_since(at) > keep || self.order.len() > MAX_REMEMBERED)
        {
            self.order.pop_front();
            self.rows.remove(&id);
            self.forgotten_until = self.forgotten_until.max(Some(at));
        }
    }

    /// Of these rows, in their order, those that were missed. They were listed between the two moments.
    fn missed(
        &self,
        rows: Vec<DurableRow>,
        (asked, now): (Instant, Instant),
        since: Instant,
    ) -> VecDeque<Found> {
        let found = rows.into_iter().filter_map(|DurableRow { id, age }| {
            // A row as old as what is forgotten may have been delivered.
            let earliest = asked.checked_sub(age);
            let is_forgotten =
                self.forgotten_until.is_some_and(|until| earliest.is_none_or(|earliest| earliest <= until));
            let made_at = now.checked_sub(age)?;
            let is_known = self.rows.contains_key(&id);
            (!is_forgotten && !is_known && made_at >= since).then_some(Found { id, made_at })
        });
        found.collect()
    }
}

/// The listings of all channels.
#[derive(Default)]
pub(super) struct Replays {
    /// Channels whose first slot waits for a listing, and since when.
    due: BTreeMap<Channel, Instant>,
    /// The listing in progress: its channels with their epochs, and when it was asked for.
    under_way: Option<(Instant, Vec<(Channel, u64)>)>,
    retry_at: Option<Instant>,
    /// Channels to be listed again later.
    later: BTreeMap<Channel, Instant>,
    /// When the last listing came, for the events in it.
    time: Option<SystemTime>,
}

impl Replays {
    pub(super) fn next_deadline(&self, deadlines_count: bool) -> Option<Instant> {
        let held = self.due.values().min().map(|since| *since + LOOK_UP_DEADLINE);
        let retry = self.retry_at.filter(|_| !self.due.is_empty() && self.under_way.is_none());
        let later = self.later.values().min().copied();
        [held, retry, later].into_iter().flatten().min().filter(|_| deadlines_count)
    }

    /// A channel is forgotten.
    pub(super) fn forget(&mut self, channel: &Channel) {
        self.due.remove(channel);
        self.later.remove(channel);
    }

    /// The connection answers again: what waited meanwhile has its whole time once more.
    pub(super) fn restart_deadlines(&mut self, now: Instant) {
        self.due.values_mut().chain(self.later.values_mut()).for_each(|at| *at = (*at).max(now));
    }
}

impl ClusterState {
    /// How long a durable event is remembered.
    pub(super) fn remembered(&self) -> Duration {
        self.config.cleanup_interval + REMEMBERED_LONGER
    }

    /// Messages of a channel may have been missed before what comes now.
    pub(super) fn replay(&mut self, now: Instant, channel: &Channel) {
        if let Some(state) = self.channels.get_mut(channel)
            && !state.subscribers.is_empty()
        {
            state.queue.push_replay();
            self.release(now, channel);
        }
    }

    /// The same for all channels that are listened to, from messages that were dropped until now.
    pub(super) fn replay_all(&mut self, now: Instant, since: Instant) {
        for channel in self.channels.interrupted(since) {
            if let Some(state) = self.channels.get_mut(&channel)
                && state.memory.hears(now)
            {
                self.replay(now, &channel);
            }
        }
    }

    /// The first slot of a channel is one of events that were missed: gives them slots of their own, or has them listed.
    /// Returns whether the queue can move on.
    pub(super) fn go_on_with_replay(&mut self, now: Instant, channel: &Channel) -> bool {
        let Some(state) = self.channels.get_mut(channel) else { return false };
        match state.queue.front_replay() {
            None => return false,
            Some(Replay::Wanted) => {
                self.replays.due.entry(channel.clone()).or_insert(now);
                return false;
            }
            Some(Replay::Listing) => return false,
            Some(Replay::Listed(rows)) if rows.is_empty() => {
                state.queue.end_replay();
                return true;
            }
            Some(Replay::Listed(_)) => {}
        }
        let time = self.replays.time.unwrap_or(SystemTime::UNIX_EPOCH);
        for (id, number) in state.queue.place_found(time, self.config.max_waiting_bytes) {
            self.look_ups.want(id, channel, state.epoch, number, now);
        }
        false
    }

    /// The next listing, if one is due and none is in progress.
    pub(super) fn next_listing(&mut self, now: Instant) -> Option<Output> {
        if self.replays.under_way.is_some() || self.replays.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let mut listing = Vec::new();
        let mut oldest = now;
        for channel in self.replays.due.keys() {
            if listing.len() >= CHANNELS_AT_ONCE {
                break;
            }
            // Before the server has confirmed the channel, the next events might not come by notifications.
            let is_confirmed = self.channels.is_confirmed(channel);
            let Some(state) = self.channels.get_mut(channel).filter(|_| is_confirmed) else { continue };
            if let Some(replay @ Replay::Wanted) = state.queue.front_replay() {
                *replay = Replay::Listing;
                oldest = oldest.min(state.memory.forgotten_until.unwrap_or(state.memory.born));
                listing.push((channel.clone(), state.epoch));
            }
        }
        if listing.is_empty() {
            return None;
        }
        self.replays.retry_at = None;
        let channels = listing.iter().map(|(channel, _)| channel.clone()).collect();
        self.replays.under_way = Some((now, listing));
        Some(Output::List { channels, max_age: now.saturating_duration_since(oldest) + UNDER_WAY })
    }

    /// The rows of a listing have come, or are not to be had.
    pub(super) fn listed(&mut self, now: Instant, time: SystemTime, listed: Result<DurableRows, Error>) {
        let Some((asked, listing)) = self.replays.under_way.take() else { return };
        let (mut rows, is_to_be_tried_again) = match listed {
            Ok(rows) => (rows, false),
            // Without the table, or without the right to read it, there is nothing to be had.
            Err(error) => (DurableRows::new(), error.is_transient()),
        };
        if is_to_be_tried_again {
            self.replays.retry_at = Some(now + RETRY);
        }
        self.replays.time = Some(time);
        for (channel, epoch) in listing {
            let Some(state) = self.channels.get_mut(&channel).filter(|state| state.epoch == epoch) else {
                continue;
            };
            // It may have been given up meanwhile.
            let Some(replay @ Replay::Listing) = state.queue.front_replay() else { continue };
            if is_to_be_tried_again {
                *replay = Replay::Wanted;
                continue;
            }
            let since = state.subscribers.iter().filter_map(|id| self.subscriptions.get(id)?.made_at);
            *replay = Replay::Listed(match (rows.remove(&channel), since.min()) {
                (Some(rows), Some(since)) => state.memory.missed(rows, (asked, now), since),
                _ => VecDeque::new(),
            });
            if !state.memory.is_deaf {
                state.memory.gap = None;
            }
            self.replays.due.remove(&channel);
            self.release(now, &channel);
        }
    }

    /// Time has passed: channels that have been held back for too long go on, and are listed later.
    pub(super) fn replays_due(&mut self, now: Instant) {
        let is_late = |(_, since): &(&Channel, &Instant)| **since + LOOK_UP_DEADLINE <= now;
        let late: Vec<_> =
            self.replays.due.iter().filter(is_late).map(|(channel, _)| channel.clone()).collect();
        for channel in late {
            self.replays.due.remove(&channel);
            if let Some(state) = self.channels.get_mut(&channel) {
                state.queue.end_replay();
                self.replays.later.insert(channel.clone(), now + LATER);
                self.release(now, &channel);
            }
        }
        let due: Vec<_> = self
            .replays
            .later
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(channel, _)| channel.clone())
            .collect();
        for channel in due {
            self.replays.later.remove(&channel);
            // What came meanwhile has overtaken these events, and is not held back for long once more.
            let held_since = (now + HELD_AGAIN).checked_sub(LOOK_UP_DEADLINE).unwrap_or(now);
            self.replays.due.entry(channel.clone()).or_insert(held_since);
            self.replay(now, &channel);
        }
        if self.replays.retry_at.is_some_and(|at| at <= now) {
            self.replays.retry_at = None;
        }
    }

    /// The row of an event that was missed was not to be had in time: it is listed once more.
    pub(super) fn replay_later(&mut self, now: Instant, channel: &Channel) {
        if let Some(state) = self.channels.get_mut(channel) {
            state.memory.gap.get_or_insert(now);
            self.replays.later.entry(channel.clone()).or_insert(now + LATER);
        }
    }

    /// The recipients of a message. A row is delivered to each only once.
    pub(super) fn takers_of(
        &mut self,
        now: Instant,
        channel: &Channel,
        received: &Received,
        recipients: Recipients,
        row: Option<RowRead>,
    ) -> Vec<SubscriptionId> {
        let keep = self.remembered();
        let Some(state) = self.channels.get_mut(channel) else { return Vec::new() };
        let made_at_of = |id: &SubscriptionId| self.subscriptions.get(id).and_then(|sub| sub.made_at);
        let (mut recipients, made_at) = match recipients {
            Recipients::Known(recipients) => (recipients, None),
            Recipients::Replayed { made_at } => {
                let header = received.content.header();
                let wants = |id: &SubscriptionId| {
                    self.subscriptions
                        .get(id)
                        .is_some_and(|subscription| (subscription.interest)(header.as_ref()))
                };
                let was_there = |id: &SubscriptionId| made_at_of(id).is_some_and(|since| since <= made_at);
                let recipients = state.subscribers.iter().filter(|id| was_there(id) && wants(id));
                (recipients.copied().collect(), Some(made_at))
            }
        };
        if let Some(RowRead { id, is_once }) = row {
            recipients.retain(|taker| !state.memory.has_given(id, made_at_of(taker)));
            if is_once {
                state.memory.deliver(id, made_at, now, keep);
            }
        }
        recipients
    }
}
