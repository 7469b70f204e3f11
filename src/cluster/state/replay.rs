//! The replay of the durable events that a channel has missed (catch-up).
//!
//! Owns the ids of each channel's delivered durable events, and the listings of their rows. After a gap, a replay slot in
//! the channel's queue blocks the later messages. When this slot is at the front, the machine lists the rows of durable
//! events, looks up those that were not delivered, and delivers them there. LISTEN is in effect before the listing: an
//! event that the listing does not see is committed later, and its notification arrives. Ids do not show the order of
//! commits, so the machine keeps all ids of a retention period, and no highest id.
//!
//! Invariant: the id of a delivered durable event is kept, or the event is older than every row that a listing may return.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use super::delivery::{Recipients, RowRead};
use super::look_ups::LOOK_UP_DEADLINE;
use super::subscription_start::{SentAt, SubscriptionStart};
use super::{ClusterState, DurableRow, DurableRows, Output, SubscriptionId};
use crate::Error;
use crate::cluster::Received;
use crate::protocol::{AttachmentId, Channel};

/// How much longer than the cleanup interval an id is kept: rows are deleted only from time to time, and clocks may be set.
const RETENTION_MARGIN: Duration = Duration::from_secs(20);

/// The maximum number of ids of one channel, which take 13 MB. Beyond it, the oldest id is evicted, and no event that may
/// be as old is replayed after a gap.
const MAX_REMEMBERED_IDS: usize = 1 << 18;

/// The back-off before a listing is retried.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The delay of the next listing after a row or a listing was not read in time. The channel delivers later messages meanwhile,
/// and that listing does not block it.
const RELIST_DELAY: Duration = Duration::from_secs(5);

/// The maximum delay between the request of a listing and the server's timestamp.
const LISTING_LATENCY: Duration = Duration::from_secs(10);

/// The maximum number of channels in one listing.
const MAX_CHANNELS_PER_LISTING: usize = 1024;

/// The state of a replay slot in a channel's queue.
#[derive(Debug)]
pub(super) enum Replay {
    /// The rows are not listed yet.
    Wanted,
    /// The rows are being listed.
    Listing,
    /// These missed events have no slots yet.
    Listed(VecDeque<MissedEvent>),
}

/// A missed durable event.
#[derive(Debug, Clone, Copy)]
pub(super) struct MissedEvent {
    pub(super) id: AttachmentId,
    pub(super) sent_at: SentAt,
}

/// What happened to a row.
#[derive(Debug)]
enum RowOutcome {
    /// It was delivered to all interested subscriptions; with a time, to those that had started before this time (replay).
    /// In a box, since few rows are replayed.
    Delivered(Option<Box<SentAt>>),
    /// No subscription wanted the message that named it.
    Unwanted,
}

/// The ids of the durable events that a channel has delivered.
#[derive(Debug)]
pub(super) struct DeliveredIds {
    rows: HashMap<AttachmentId, RowOutcome>,
    /// In the order of their arrival.
    order: VecDeque<(Instant, AttachmentId)>,
    /// When the channel was created: earlier events do not count as missed.
    created_at: Instant,
    /// The ids of events that arrived until then may be evicted.
    evicted_until: Option<Instant>,
    /// When the session first listened to the channel; earlier events do not count as missed.
    listened_since: Option<Instant>,
    /// The start of the gap that no listing has covered yet. Nothing is evicted during a gap.
    gap: Option<Instant>,
    /// Whether the gap is still open: it ends when the session listens to the channel again.
    gap_is_open: bool,
}

impl DeliveredIds {
    /// `listens` is true if the server has already confirmed the channel.
    pub(super) fn new(now: Instant, listens: bool) -> Self {
        Self {
            rows: HashMap::new(),
            order: VecDeque::new(),
            created_at: now,
            evicted_until: None,
            listened_since: listens.then_some(now),
            gap: None,
            gap_is_open: false,
        }
    }

    /// Opens a gap: messages may be missed from that moment on, until the session listens to the channel again.
    pub(super) fn on_messages_lost(&mut self, since: Instant) {
        if self.listened_since.is_some() {
            self.gap.get_or_insert(since);
            self.gap_is_open = true;
        }
    }

    /// The session listens to the channel. Returns whether that ends a gap.
    pub(super) fn on_listening(&mut self, now: Instant) -> bool {
        self.listened_since.get_or_insert(now);
        std::mem::take(&mut self.gap_is_open)
    }

    /// Records a row that is delivered now.
    fn deliver(&mut self, id: AttachmentId, sent_at: Option<SentAt>, now: Instant, keep: Duration) {
        if self.rows.insert(id, RowOutcome::Delivered(sent_at.map(Box::new))).is_none() {
            self.order.push_back((now, id));
            self.evict(now, keep);
        }
    }

    /// Records a row that no subscription wants. It may be durable.
    pub(super) fn skip(&mut self, id: AttachmentId, now: Instant, keep: Duration) {
        if let Entry::Vacant(entry) = self.rows.entry(id) {
            entry.insert(RowOutcome::Unwanted);
            self.order.push_back((now, id));
            self.evict(now, keep);
        }
    }

    /// Whether a row was already delivered to a subscription with that start.
    pub(super) fn was_delivered(&self, id: AttachmentId, start: Option<&SubscriptionStart>) -> bool {
        match self.rows.get(&id) {
            Some(RowOutcome::Delivered(None)) => true,
            Some(RowOutcome::Delivered(Some(sent_at))) => start.is_some_and(|start| start.precedes(sent_at)),
            Some(RowOutcome::Unwanted) | None => false,
        }
    }

    /// The arrival of the oldest event that may have been missed.
    fn oldest_missed(&self) -> Instant {
        self.evicted_until.unwrap_or(self.created_at)
    }

    fn evict(&mut self, now: Instant, keep: Duration) {
        let now = self.gap.map_or(now, |gap| gap.min(now));
        while let Some((at, id)) = self.order.front().copied()
            && (now.saturating_duration_since(at) > keep || self.order.len() > MAX_REMEMBERED_IDS)
        {
            self.order.pop_front();
            self.rows.remove(&id);
            self.evicted_until = self.evicted_until.max(Some(at));
        }
    }

    /// The missed events among these rows, in the same order. The rows were listed between the two moments, for
    /// subscriptions with these starts.
    fn missed(
        &self,
        rows: Vec<DurableRow>,
        (asked, now): (Instant, Instant),
        starts: &[&SubscriptionStart],
    ) -> VecDeque<MissedEvent> {
        let found = rows.into_iter().filter_map(|DurableRow { id, age, origin }| {
            // A row as old as the evicted ids may have been delivered.
            let earliest = asked.checked_sub(age);
            let is_evicted =
                self.evicted_until.is_some_and(|until| earliest.is_none_or(|earliest| earliest <= until));
            let sent_at = SentAt { at: now.checked_sub(age)?, row: origin };
            let is_missed = starts.iter().any(|start| start.precedes(&sent_at));
            let is_known = self.rows.contains_key(&id);
            (!is_evicted && !is_known && is_missed).then_some(MissedEvent { id, sent_at })
        });
        found.collect()
    }
}

/// A later listing of a channel.
#[derive(Debug, Clone, Copy)]
struct Relisting {
    at: Instant,
    /// Events were missed until then that a listing which was requested earlier may not hold.
    uncovered: Option<Instant>,
}

impl Relisting {
    /// Whether a listing that was requested at that moment holds all missed events.
    fn is_covered_by(&self, asked: Instant) -> bool {
        self.uncovered.is_none_or(|at| at < asked)
    }
}

/// The listings of all channels.
#[derive(Default)]
pub(super) struct Replays {
    /// The channels whose first slot waits for a listing, and since when.
    due: BTreeMap<Channel, Instant>,
    /// The listing in flight: when it was requested, and its channels with their epochs.
    in_flight: Option<(Instant, Vec<(Channel, u64)>)>,
    retry_at: Option<Instant>,
    /// The channels to list again later, without blocking them.
    later: BTreeMap<Channel, Relisting>,
    /// When the last listing arrived. It is the arrival time of its events.
    time: Option<SystemTime>,
}

impl Replays {
    pub(super) fn next_deadline(&self, deadlines_active: bool) -> Option<Instant> {
        let held = self.due.values().min().map(|since| *since + LOOK_UP_DEADLINE);
        let retry = self.retry_at.filter(|_| !self.due.is_empty() && self.in_flight.is_none());
        // A listing that ends starts the next one.
        let later =
            self.later.values().map(|relisting| relisting.at).min().filter(|_| self.in_flight.is_none());
        let later = later.map(|at| self.retry_at.map_or(at, |retry| at.max(retry)));
        [held, retry, later].into_iter().flatten().min().filter(|_| deadlines_active)
    }

    /// Lists a channel again after a delay. `uncovered` is set if a listing in progress may not hold its missed events.
    fn list_later(&mut self, channel: &Channel, now: Instant, uncovered: Option<Instant>) {
        let before = self.later.get(channel).and_then(|relisting| relisting.uncovered);
        let relisting = Relisting { at: now + RELIST_DELAY, uncovered: uncovered.or(before) };
        self.later.insert(channel.clone(), relisting);
    }

    /// Removes a channel.
    pub(super) fn remove(&mut self, channel: &Channel) {
        self.due.remove(channel);
        self.later.remove(channel);
    }

    /// The connection answers again: every waiting channel gets a new deadline.
    pub(super) fn restart_deadlines(&mut self, now: Instant) {
        let later = self.later.values_mut().map(|relisting| &mut relisting.at);
        self.due.values_mut().chain(later).for_each(|at| *at = (*at).max(now));
    }
}

impl ClusterState {
    /// The retention period of the ids of durable events.
    pub(super) fn retention(&self) -> Duration {
        self.config.cleanup_interval.saturating_add(RETENTION_MARGIN)
    }

    /// Queues a replay, since messages of the channel may have been missed before this moment.
    pub(super) fn replay(&mut self, now: Instant, channel: &Channel) {
        if let Some(state) = self.channels.get_mut(channel)
            && !state.subscribers.is_empty()
        {
            state.queue.push_replay();
            self.release(now, channel);
        }
    }

    /// Queues a replay for all confirmed channels, since messages were dropped between that moment and now.
    pub(super) fn replay_all(&mut self, now: Instant, since: Instant) {
        for channel in self.channels.open_gaps(since) {
            if let Some(state) = self.channels.get_mut(&channel)
                && state.delivered.on_listening(now)
            {
                self.replay(now, &channel);
            }
        }
    }

    /// Advances a replay slot at the front of a channel's queue: requests its listing, or gives slots to its events.
    /// Returns whether the next slot may leave the queue.
    pub(super) fn advance_replay(&mut self, now: Instant, channel: &Channel) -> bool {
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
        for (id, number) in state.queue.expand_replay(time, self.config.max_waiting_bytes) {
            self.look_ups.request(id, channel, state.epoch, number, now);
        }
        false
    }

    /// The next listing, if one is due and none is in progress.
    pub(super) fn next_listing(&mut self, now: Instant) -> Option<Output> {
        if self.replays.in_flight.is_some() || self.replays.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let mut listing = Vec::new();
        let mut oldest = now;
        for channel in self.replays.due.keys() {
            if listing.len() >= MAX_CHANNELS_PER_LISTING {
                break;
            }
            // Before the server has confirmed the channel, an event after the listing may send no notification.
            let is_confirmed = self.channels.is_confirmed(channel);
            let Some(state) = self.channels.get_mut(channel).filter(|_| is_confirmed) else { continue };
            if let Some(replay @ Replay::Wanted) = state.queue.front_replay() {
                *replay = Replay::Listing;
                oldest = oldest.min(state.delivered.oldest_missed());
                listing.push((channel.clone(), state.epoch));
            }
        }
        for (channel, _) in self.replays.later.iter().filter(|(_, relisting)| relisting.at <= now) {
            let is_confirmed = self.channels.is_confirmed(channel);
            let Some(state) = self.channels.get(channel).filter(|_| is_confirmed) else { continue };
            if listing.len() < MAX_CHANNELS_PER_LISTING && !state.queue.has_replay() {
                oldest = oldest.min(state.delivered.oldest_missed());
                listing.push((channel.clone(), state.epoch));
            }
        }
        if listing.is_empty() {
            return None;
        }
        self.replays.retry_at = None;
        let channels = listing.iter().map(|(channel, _)| channel.clone()).collect();
        self.replays.in_flight = Some((now, listing));
        Some(Output::List { channels, max_age: now.saturating_duration_since(oldest) + LISTING_LATENCY })
    }

    /// Handles the rows of a listing, or its failure.
    pub(super) fn listed(&mut self, now: Instant, time: SystemTime, listed: Result<DurableRows, Error>) {
        let Some((asked, listing)) = self.replays.in_flight.take() else { return };
        let (mut rows, is_retried) = match listed {
            Ok(rows) => (rows, false),
            // Without the table, or without the privilege to read it, there is nothing to replay.
            Err(error) => (DurableRows::new(), error.is_transient()),
        };
        if is_retried {
            self.replays.retry_at = Some(now + RETRY_DELAY);
        }
        self.replays.time = Some(time);
        for (channel, epoch) in listing {
            let Some(state) = self.channels.get_mut(&channel).filter(|state| state.epoch == epoch) else {
                continue;
            };
            let is_in_time = matches!(state.queue.front_replay(), Some(Replay::Listing));
            // After the deadline of its replay the channel is released. The listing then serves it without blocking it.
            let late = self.replays.later.get(&channel).filter(|_| !state.queue.has_replay()).copied();
            if is_retried {
                if let Some(replay @ Replay::Listing) = state.queue.front_replay() {
                    *replay = Replay::Wanted;
                }
                continue;
            }
            if !is_in_time && late.is_none() {
                continue;
            }
            let starts = state.subscribers.iter().filter_map(|id| self.subscriptions.get(id)?.start.as_ref());
            let starts: Vec<_> = starts.collect();
            let rows = rows.remove(&channel).unwrap_or_default();
            let missed = state.delivered.missed(rows, (asked, now), &starts);
            let is_covered = match state.queue.front_replay() {
                Some(replay @ Replay::Listing) => {
                    *replay = Replay::Listed(missed);
                    self.replays.due.remove(&channel);
                    true
                }
                _ => {
                    state.queue.push_listed(missed);
                    let is_covered = late.is_none_or(|relisting| relisting.is_covered_by(asked));
                    if is_covered {
                        self.replays.later.remove(&channel);
                    }
                    is_covered
                }
            };
            if is_covered && !state.delivered.gap_is_open {
                state.delivered.gap = None;
            }
            self.release(now, &channel);
        }
    }

    /// Releases the channels that a replay has blocked for too long, and lists them later.
    pub(super) fn handle_replay_timeouts(&mut self, now: Instant) {
        let is_late = |(_, since): &(&Channel, &Instant)| **since + LOOK_UP_DEADLINE <= now;
        let late: Vec<_> =
            self.replays.due.iter().filter(is_late).map(|(channel, _)| channel.clone()).collect();
        for channel in late {
            self.replays.due.remove(&channel);
            if let Some(state) = self.channels.get_mut(&channel) {
                // A listing that is in progress holds the events that this replay is for, unless it was requested before.
                let is_listed = matches!(state.queue.front_replay(), Some(Replay::Listing));
                state.queue.end_replay();
                self.replays.list_later(&channel, now, (!is_listed).then_some(now));
                self.release(now, &channel);
            }
        }
        for (channel, relisting) in self.replays.later.iter_mut().filter(|(_, relisting)| relisting.at <= now)
        {
            // A replay in the queue, or the end of the gap, lists the channel as well.
            let is_ready = self.channels.is_confirmed(channel)
                && self.channels.get(channel).is_some_and(|state| !state.queue.has_replay());
            if !is_ready {
                relisting.at = now + RELIST_DELAY;
            }
        }
        if self.replays.retry_at.is_some_and(|at| at <= now) {
            self.replays.retry_at = None;
        }
    }

    /// The row of a durable event could not be read in time: the channel is listed again later.
    pub(super) fn replay_later(&mut self, now: Instant, channel: &Channel) {
        if let Some(state) = self.channels.get_mut(channel) {
            state.delivered.gap.get_or_insert(now);
            match self.replays.later.get_mut(channel) {
                Some(relisting) => relisting.uncovered = Some(now),
                None => self.replays.list_later(channel, now, Some(now)),
            }
        }
    }

    /// The recipients of a message. A row is delivered at most once to each.
    pub(super) fn recipients_of(
        &mut self,
        now: Instant,
        channel: &Channel,
        received: &Received,
        recipients: Recipients,
        row: Option<RowRead>,
    ) -> Vec<SubscriptionId> {
        let keep = self.retention();
        let Some(state) = self.channels.get_mut(channel) else { return Vec::new() };
        let start = |id: &SubscriptionId| self.subscriptions.get(id)?.start.as_ref();
        let (mut recipients, sent_at) = match recipients {
            Recipients::Known(recipients) => (recipients, None),
            Recipients::Replayed { sent_at } => {
                let header = received.content.header();
                let wants = |id: &SubscriptionId| {
                    self.subscriptions
                        .get(id)
                        .is_some_and(|subscription| (subscription.interest)(header.as_ref()))
                };
                let was_there = |id: &SubscriptionId| start(id).is_some_and(|start| start.precedes(&sent_at));
                let recipients = state.subscribers.iter().filter(|id| was_there(id) && wants(id));
                (recipients.copied().collect(), Some(sent_at))
            }
        };
        if let Some(RowRead { id, deduplicate }) = row {
            recipients.retain(|subscription_id| !state.delivered.was_delivered(id, start(subscription_id)));
            if deduplicate {
                state.delivered.deliver(id, sent_at, now, keep);
            }
        }
        recipients
    }
}
