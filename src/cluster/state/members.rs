//! The nodes of this process: which heartbeats each has to publish, and when.
//!
//! A member publishes an initial heartbeat (hello) once it listens, answers the initial heartbeat of others, and sends
//! heartbeats while another server may need them. Owns the pending announcements of all channels. In: received
//! messages, snapshots of the advisory locks, time. Out: messages to publish in one commit. Invariants:
//!
//! - A hello, an answer and a goodbye (adapter close) stay pending until they are committed: a later heartbeat does not
//!   replace them, and the lock of this process shows all its nodes as live.
//! - Heartbeats are due in every interval while this process holds no recently renewed lock, for a heartbeat timeout
//!   after each hello, and while a live peer holds no lock, since it may be a server that does not read locks.
//! - Nothing is due otherwise.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::SubscriptionId;
use super::channels::Channels;
use crate::protocol::{Body, Channel, Message, MessageKind, Namespace, Uid};

/// The shortest and the longest interval between two checks whether a heartbeat is due.
const TIMER_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The delay of the second heartbeat for a new peer without a lock: an adapter before 0.5 may publish its initial
/// heartbeat before it listens.
const FOLLOWUP_DELAY: Duration = Duration::from_millis(800);

/// How long heartbeats are sent every second after this process has lost its lock, so that at least one falls between
/// two lock snapshots of every other node.
const QUICK_HEARTBEATS_FOR: Duration = Duration::from_secs(5);

/// The back-off before a failed announcement is retried.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The maximum number of messages in one commit.
const MAX_PER_COMMIT: usize = 1000;

/// The bound of the queue of goodbyes. Beyond it, other servers count departed nodes until this process ends.
const MAX_GOODBYES: usize = 1 << 17;

/// A node of this process in a channel.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) uid: Uid,
    /// The subscription that reads its channel. The member ends with it.
    pub(super) subscription: SubscriptionId,
    /// Whether it has to publish an initial heartbeat.
    hello_pending: bool,
    /// Whether it has to publish a heartbeat. An initial heartbeat would not do: its receiver would take this node for
    /// a new one.
    heartbeat_pending: bool,
    /// The announcement that is in flight.
    sending: Option<Announcement>,
    /// When it last published a message, as far as known.
    last_published: Instant,
    /// When it last published an initial heartbeat; `None` while it may publish one at once.
    last_hello: Option<Instant>,
    /// Whether it has published anything, so that other servers may know it.
    pub(super) has_published: bool,
    /// Whether its first initial heartbeat is committed. Before that it sends no plain heartbeats: they would make it
    /// look like a node that was there before.
    hello_committed: bool,
    /// Until when other servers may have missed its initial heartbeat.
    uncertain_until: Instant,
    /// When the next and the last heartbeat for new peers are due. They may be equal.
    followup_heartbeats: Option<(Instant, Instant)>,
}

/// An announcement that has to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announcement {
    Heartbeat,
    Hello,
}

impl Announcement {
    fn body(self) -> Body {
        match self {
            Self::Heartbeat => Body::Heartbeat,
            Self::Hello => Body::InitialHeartbeat,
        }
    }
}

impl Member {
    pub(super) fn new(
        uid: Uid,
        subscription: SubscriptionId,
        hello_pending: bool,
        now: Instant,
        timeout: Duration,
    ) -> Self {
        Self {
            uid,
            subscription,
            hello_pending,
            heartbeat_pending: false,
            sending: None,
            last_published: now,
            last_hello: (!hello_pending).then_some(now),
            has_published: !hello_pending,
            hello_committed: !hello_pending,
            uncertain_until: now + timeout,
            followup_heartbeats: None,
        }
    }

    /// Handles a message of its channel. Returns whether it has to answer with a heartbeat.
    pub(super) fn on_message(&mut self, uid: &Uid, kind: MessageKind, now: Instant) -> bool {
        if *uid == self.uid {
            self.last_published = self.last_published.max(now);
            return false;
        }
        let is_request = kind == MessageKind::InitialHeartbeat;
        self.heartbeat_pending |= is_request;
        is_request
    }

    /// A peer has appeared that holds no lock.
    pub(super) fn on_peer_without_lock(&mut self, now: Instant) {
        let at = now + FOLLOWUP_DELAY;
        self.followup_heartbeats =
            Some(self.followup_heartbeats.map_or((at, at), |(next, last)| (next, last.max(at))));
    }

    /// It listens again after a gap: it has to discover the peers again.
    pub(super) fn on_reconnect(&mut self, now: Instant, timeout: Duration) {
        self.last_hello = None;
        self.hello_pending = true;
        self.uncertain_until = now + timeout;
    }

    fn start_announcing(&mut self, announcement: Announcement, now: Instant) {
        self.set_pending(announcement, false);
        (self.sending, self.last_published, self.has_published) = (Some(announcement), now, true);
        // A follow-up that is due later stays: an answer now may arrive before the new peer listens.
        self.followup_heartbeats =
            self.followup_heartbeats.filter(|(_, last)| *last > now).map(|(next, last)| match next > now {
                true => (next, last),
                false => (last, last),
            });
        if announcement == Announcement::Hello {
            self.last_hello = Some(now);
        }
    }

    /// The process has its lock again. Other servers may count the member as dead until its next heartbeat.
    pub(super) fn on_lock_regained(&mut self) {
        self.heartbeat_pending = true;
    }

    fn set_pending(&mut self, announcement: Announcement, is_pending: bool) {
        match announcement {
            Announcement::Heartbeat => self.heartbeat_pending = is_pending,
            Announcement::Hello => self.hello_pending = is_pending,
        }
    }

    /// Messages were dropped. It sends an initial heartbeat again, at most once in an interval, since the answers add load.
    pub(super) fn on_messages_dropped(&mut self) {
        self.hello_pending = true;
    }
}

/// The next action of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextAction {
    /// Publish that now.
    Publish(Announcement),
    /// Send the next heartbeat at that moment.
    WaitUntil(Instant),
    /// Nothing: no other server needs its heartbeats.
    Idle,
}

/// The interval of the heartbeats, and when they are needed.
#[derive(Debug, Clone)]
pub(super) struct HeartbeatSchedule {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    /// Whether heartbeats are always sent.
    pub(super) is_always: bool,
}

impl HeartbeatSchedule {
    /// The interval after this process has lost its lock: shorter than that between two lock snapshots of other servers.
    fn interval_without_lock(&self) -> Duration {
        self.interval.min(self.timeout / 8).min(Duration::from_secs(1))
    }
}

/// Decides when the members publish, and owns their pending goodbyes.
#[derive(Debug)]
pub(super) struct HeartbeatTimer {
    schedule: HeartbeatSchedule,
    /// When the last snapshot showed that this process holds a lock.
    held_at: Option<Instant>,
    /// When it lost its lock.
    lost_at: Option<Instant>,
    /// The pending goodbyes of nodes that have ended.
    goodbyes: BTreeMap<(Channel, Uid), Namespace>,
    /// The messages in flight.
    in_flight: Vec<(Channel, Uid, MessageKind)>,
    /// When to check again whether anything is due; `None` without members.
    next: Option<Instant>,
    retry_at: Option<Instant>,
}

impl HeartbeatTimer {
    pub(super) fn new(schedule: HeartbeatSchedule) -> Self {
        Self {
            schedule,
            held_at: None,
            lost_at: None,
            goodbyes: BTreeMap::new(),
            in_flight: Vec::new(),
            next: None,
            retry_at: None,
        }
    }

    /// A snapshot shows whether this process holds a lock. Returns true if it holds one again after it lost it, or renewed
    /// it too late: other servers may count its nodes as dead meanwhile.
    pub(super) fn on_lock_snapshot(&mut self, now: Instant, holds: bool) -> bool {
        if !holds || self.is_stale(now) {
            self.lose_lock(now);
        }
        if holds {
            self.held_at = Some(now);
        }
        holds && self.lost_at.take().is_some()
    }

    /// Whether the lock is so old that other servers may soon count the nodes of this process as dead.
    fn is_stale(&self, now: Instant) -> bool {
        self.held_at.is_some_and(|at| now.saturating_duration_since(at) > self.schedule.timeout / 2)
    }

    /// The lock is lost, or is too old to prove liveness.
    pub(super) fn lose_lock(&mut self, now: Instant) {
        if self.held_at.take().is_some() {
            self.lost_at = Some(now);
            self.wake(now);
        }
    }

    /// Checks at that time or before whether anything is due.
    pub(super) fn wake(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// A peer that expects heartbeats has appeared.
    pub(super) fn on_peer_without_lock(&mut self, now: Instant) {
        self.wake(now + FOLLOWUP_DELAY);
    }

    /// A node has ended, and its goodbye is still to be published.
    pub(super) fn queue_goodbye(&mut self, now: Instant, channel: Channel, namespace: Namespace, uid: Uid) {
        if self.goodbyes.len() < MAX_GOODBYES {
            self.goodbyes.insert((channel, uid), namespace);
            self.wake(now);
        }
    }

    /// How many goodbyes are still to be published.
    pub(super) fn goodbyes(&self) -> usize {
        self.goodbyes.len()
    }

    /// When [`collect`](Self::collect) is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let next = self.next.filter(|_| self.in_flight.is_empty())?;
        Some(self.retry_at.map_or(next, |retry| next.max(retry)))
    }

    /// The messages to publish now, in one commit. If there are any, [`published`](Self::published) has to follow.
    pub(super) fn collect(&mut self, now: Instant, channels: &mut Channels) -> Vec<Message> {
        let (shortest, longest) = TIMER_BOUNDS;
        self.retry_at = None;
        if self.is_stale(now) {
            self.lose_lock(now);
        }
        self.next = None;
        let mut actions = Vec::new();
        for (state, is_listening) in channels.with_members() {
            let uids = state.members.iter().map(|member| &member.uid);
            let heartbeats_expected = state.peers.expect_heartbeats(uids, now, self.schedule.timeout);
            for member in &state.members {
                self.wake(now + longest);
                let action = self.action(member, heartbeats_expected, is_listening, now);
                if let NextAction::WaitUntil(at) = action {
                    self.wake(at.max(now + shortest));
                }
                if action != NextAction::Idle {
                    actions.push((state.channel.clone(), member.uid.clone(), action));
                }
            }
        }
        // Heartbeats that are due soon join this commit, so that later ones are due together.
        let is_any_due =
            actions.iter().any(|(_, _, action)| *action == NextAction::Publish(Announcement::Heartbeat));
        let soon = now + self.schedule.interval / 2;
        actions.retain(|(_, _, action)| match action {
            NextAction::WaitUntil(at) => is_any_due && *at <= soon,
            _ => true,
        });
        actions.sort_unstable_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut messages = Vec::new();
        for ((channel, uid), namespace) in self.goodbyes.iter().take(MAX_PER_COMMIT) {
            let body = Body::AdapterClose;
            self.in_flight.push((channel.clone(), uid.clone(), body.kind()));
            messages.push(Message { uid: uid.clone(), nsp: namespace.clone(), body });
        }
        let room = MAX_PER_COMMIT - messages.len();
        if actions.len() > room || self.goodbyes.len() > MAX_PER_COMMIT {
            actions.truncate(room);
            self.wake(now);
        }
        for (channel, uid, action) in actions {
            let Some(state) = channels.get_mut(&channel) else { continue };
            let Some(member) = state.members.iter_mut().find(|member| member.uid == uid) else { continue };
            let announcement = if let NextAction::Publish(announcement) = action {
                announcement
            } else {
                Announcement::Heartbeat
            };
            member.start_announcing(announcement, now);
            let body = announcement.body();
            self.in_flight.push((channel, uid.clone(), body.kind()));
            messages.push(Message { uid, nsp: state.namespace.clone(), body });
        }
        messages
    }

    fn action(
        &self,
        member: &Member,
        heartbeats_expected: bool,
        is_listening: bool,
        now: Instant,
    ) -> NextAction {
        let HeartbeatSchedule { interval, is_always, .. } = self.schedule;
        // The answers to the last hello may still arrive.
        let hello_at = member.last_hello.map_or(now, |at| at + interval);
        if member.hello_committed && member.heartbeat_pending {
            return NextAction::Publish(Announcement::Heartbeat);
        }
        if member.hello_pending && is_listening && hello_at <= now {
            return NextAction::Publish(Announcement::Hello);
        }
        if !member.hello_committed {
            return NextAction::Idle;
        }
        if !is_always && self.held_at.is_some() && now >= member.uncertain_until && !heartbeats_expected {
            return NextAction::Idle;
        }
        let lost_lock_recently =
            self.lost_at.is_some_and(|at| now.saturating_duration_since(at) <= QUICK_HEARTBEATS_FOR);
        let interval = if lost_lock_recently { self.schedule.interval_without_lock() } else { interval };
        let due = member.last_published + interval;
        let due = member.followup_heartbeats.map_or(due, |(next, _)| next.min(due));
        if due <= now { NextAction::Publish(Announcement::Heartbeat) } else { NextAction::WaitUntil(due) }
    }

    /// Handles the outcome of the messages that were collected last.
    pub(super) fn on_published(&mut self, now: Instant, is_committed: bool, channels: &mut Channels) {
        for (channel, uid, kind) in std::mem::take(&mut self.in_flight) {
            if kind == MessageKind::AdapterClose {
                if is_committed {
                    self.goodbyes.remove(&(channel, uid));
                }
                continue;
            }
            let members = channels.get_mut(&channel).map(|state| &mut state.members);
            if let Some(member) = members.and_then(|all| all.iter_mut().find(|member| member.uid == uid)) {
                let announcement = member.sending.take();
                member.hello_committed |= is_committed && announcement == Some(Announcement::Hello);
                if !is_committed {
                    if announcement == Some(Announcement::Hello) {
                        member.last_hello = None;
                    }
                    if let Some(announcement) = announcement {
                        member.set_pending(announcement, true);
                    }
                }
            }
        }
        self.wake(now);
        if !is_committed {
            self.retry_at = Some(now + RETRY_DELAY);
        }
    }
}
