//! The nodes of this process: what each owes the other servers, and when.
//!
//! A member says hello once it listens, answers the hello of others, and sends heartbeats while anybody may need them. Owns what
//! is owed; what was heard, the looks and time come in; messages come out, those of all channels together. Invariants:
//!
//! - A hello, an answer and a goodbye are owed until they are committed: no later heartbeat would make up for them, and the
//!   lock of this process shows all its nodes as live.
//! - Heartbeats are due in every interval while this process holds no lock that was renewed lately, for a heartbeat timeout
//!   after each hello, and while a live peer holds no lock, as it may be a server that knows of none.
//! - Nothing is due otherwise.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::SubscriptionId;
use super::channels::Channels;
use crate::protocol::{Body, Channel, Message, MessageKind, Namespace, Uid};

/// How often it is looked whether a heartbeat is due, at most and at least.
const PULSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How soon a heartbeat follows on the appearance of a peer that holds no lock: an adapter before 0.5 may say hello before it
/// listens.
const SECOND_WORD: Duration = Duration::from_millis(800);

/// For how long heartbeats come once a second after this process has lost its lock, so that one of them falls between any two
/// looks of the others.
const WITHOUT_LOCK: Duration = Duration::from_secs(5);

/// The pause before what could not be published is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How many messages one commit holds.
const AT_ONCE: usize = 1000;

/// How many goodbyes may wait. Beyond that the others see nodes that have ended, until this process ends.
const MAX_GOODBYES: usize = 1 << 17;

/// A node of this process in a channel.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) uid: Uid,
    /// The subscription with which it reads its channel. It ends with it.
    pub(super) subscription: SubscriptionId,
    /// Whether it has to ask the others anew.
    owes_hello: bool,
    /// Whether it has to show that it is there. A hello would not do: whoever asked would take it for a node that starts.
    owes_heartbeat: bool,
    /// What is being published.
    sending: Option<Owed>,
    /// When it last published anything, as far as it was heard or said so.
    last_word: Instant,
    /// When it last said hello; `None` while it may say it again at once.
    last_hello: Option<Instant>,
    /// Whether the others may know of it.
    pub(super) has_spoken: bool,
    /// Whether its first hello is committed. Before that it sends no heartbeats: whose first word is one, was there before.
    has_greeted: bool,
    /// Until when others may not have heard its hello.
    uncertain_until: Instant,
    /// When heartbeats are due for peers that have just appeared: the next, and the last. They may be equal.
    second_words: Option<(Instant, Instant)>,
}

/// What is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Heartbeat,
    Hello,
}

impl Owed {
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
        owes_hello: bool,
        now: Instant,
        timeout: Duration,
    ) -> Self {
        Self {
            uid,
            subscription,
            owes_hello,
            owes_heartbeat: false,
            sending: None,
            last_word: now,
            last_hello: (!owes_hello).then_some(now),
            has_spoken: !owes_hello,
            has_greeted: !owes_hello,
            uncertain_until: now + timeout,
            second_words: None,
        }
    }

    /// A message of its channel was heard. Returns whether it owes an answer.
    pub(super) fn hear(&mut self, uid: &Uid, kind: MessageKind, now: Instant) -> bool {
        if *uid == self.uid {
            self.last_word = self.last_word.max(now);
            return false;
        }
        let asks = kind == MessageKind::InitialHeartbeat;
        self.owes_heartbeat |= asks;
        asks
    }

    /// A peer has appeared that holds no lock.
    pub(super) fn meet(&mut self, now: Instant) {
        let at = now + SECOND_WORD;
        self.second_words = Some(self.second_words.map_or((at, at), |(next, last)| (next, last.max(at))));
    }

    /// It listens again after messages were lost: the others are to be asked anew.
    pub(super) fn come_back(&mut self, now: Instant, timeout: Duration) {
        self.last_hello = None;
        self.owes_hello = true;
        self.uncertain_until = now + timeout;
    }

    fn say(&mut self, says: Owed, now: Instant) {
        self.owe(says, false);
        (self.sending, self.last_word, self.has_spoken) = (Some(says), now, true);
        // An answer now may come before its asker listens.
        self.second_words =
            self.second_words.filter(|(_, last)| *last > now).map(|(next, last)| match next > now {
                true => (next, last),
                false => (last, last),
            });
        if says == Owed::Hello {
            self.last_hello = Some(now);
        }
    }

    /// The others may have given it up, and know it again by its next heartbeat.
    pub(super) fn reappear(&mut self) {
        self.owes_heartbeat = true;
    }

    fn owe(&mut self, says: Owed, owes: bool) {
        match says {
            Owed::Heartbeat => self.owes_heartbeat = owes,
            Owed::Hello => self.owes_hello = owes,
        }
    }

    /// Messages were dropped. It asks the others anew, but not again and again: what is asked is more to read.
    pub(super) fn miss(&mut self) {
        self.owes_hello = true;
    }
}

/// What a member has to do at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It has to say that now.
    Say(Owed),
    /// It sends heartbeats, and the next one is due then.
    Later(Instant),
    /// Nobody needs its heartbeats.
    Quiet,
}

/// How often members speak.
#[derive(Debug, Clone)]
pub(super) struct Rhythm {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    /// Whether heartbeats are sent whoever is there.
    pub(super) is_always: bool,
}

impl Rhythm {
    /// The interval after this process has lost its lock: shorter than that between two looks of the others.
    fn quick(&self) -> Duration {
        self.interval.min(self.timeout / 8).min(Duration::from_secs(1))
    }
}

/// When the members speak.
#[derive(Debug)]
pub(super) struct Pulse {
    rhythm: Rhythm,
    /// When a look last showed that this process holds a lock.
    held_at: Option<Instant>,
    /// Since when it does not, after it did.
    lost_at: Option<Instant>,
    /// Nodes that have ended without a goodbye.
    goodbyes: BTreeMap<(Channel, Uid), Namespace>,
    /// What is being published.
    under_way: Vec<(Channel, Uid, MessageKind)>,
    /// When it is looked again whether anything is due; `None` without members.
    next: Option<Instant>,
    retry_at: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(rhythm: Rhythm) -> Self {
        Self {
            rhythm,
            held_at: None,
            lost_at: None,
            goodbyes: BTreeMap::new(),
            under_way: Vec::new(),
            next: None,
            retry_at: None,
        }
    }

    /// A look has shown whether this process holds a lock. Returns true if it does again, after it did not, or had no time to
    /// renew it: the others may have given up its nodes meanwhile.
    pub(super) fn looked(&mut self, now: Instant, holds: bool) -> bool {
        if !holds || self.is_stale(now) {
            self.lose_lock(now);
        }
        if holds {
            self.held_at = Some(now);
        }
        holds && self.lost_at.take().is_some()
    }

    /// Whether the lock was not renewed for so long that the others may soon give up the nodes of this process.
    fn is_stale(&self, now: Instant) -> bool {
        self.held_at.is_some_and(|at| now.saturating_duration_since(at) > self.rhythm.timeout / 2)
    }

    /// The lock is gone, or nobody may count on it any longer.
    pub(super) fn lose_lock(&mut self, now: Instant) {
        if self.held_at.take().is_some() {
            self.lost_at = Some(now);
            self.wake(now);
        }
    }

    /// Looks at that time whether anything is due, or before.
    pub(super) fn wake(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// A peer that expects heartbeats has appeared.
    pub(super) fn meet(&mut self, now: Instant) {
        self.wake(now + SECOND_WORD);
    }

    /// A node has ended, and its goodbye is still to be published.
    pub(super) fn owe_goodbye(&mut self, now: Instant, channel: Channel, namespace: Namespace, uid: Uid) {
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
        let next = self.next.filter(|_| self.under_way.is_empty())?;
        Some(self.retry_at.map_or(next, |retry| next.max(retry)))
    }

    /// What is to be published now, in one commit. [`published`](Self::published) has to follow, if it is anything.
    pub(super) fn collect(&mut self, now: Instant, channels: &mut Channels) -> Vec<Message> {
        let (shortest, longest) = PULSE;
        self.retry_at = None;
        if self.is_stale(now) {
            self.lose_lock(now);
        }
        self.next = None;
        let mut turns = Vec::new();
        for (state, is_heard) in channels.with_members() {
            let uids = state.members.iter().map(|member| &member.uid);
            let is_expected = state.peers.expect_heartbeats(uids, now, self.rhythm.timeout);
            for member in &state.members {
                self.wake(now + longest);
                let turn = self.turn(member, is_expected, is_heard, now);
                if let Turn::Later(at) = turn {
                    self.wake(at.max(now + shortest));
                }
                if turn != Turn::Quiet {
                    turns.push((state.channel.clone(), member.uid.clone(), turn));
                }
            }
        }
        // Whoever is due soon goes with the others, and with them from then on.
        let is_any_due = turns.iter().any(|(_, _, turn)| *turn == Turn::Say(Owed::Heartbeat));
        let soon = now + self.rhythm.interval / 2;
        turns.retain(|(_, _, turn)| match turn {
            Turn::Later(at) => is_any_due && *at <= soon,
            _ => true,
        });
        turns.sort_unstable_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut messages = Vec::new();
        for ((channel, uid), namespace) in self.goodbyes.iter().take(AT_ONCE) {
            let body = Body::AdapterClose;
            self.under_way.push((channel.clone(), uid.clone(), body.kind()));
            messages.push(Message { uid: uid.clone(), nsp: namespace.clone(), body });
        }
        let room = AT_ONCE - messages.len();
        if turns.len() > room || self.goodbyes.len() > AT_ONCE {
            turns.truncate(room);
            self.wake(now);
        }
        for (channel, uid, turn) in turns {
            let Some(state) = channels.get_mut(&channel) else { continue };
            let Some(member) = state.members.iter_mut().find(|member| member.uid == uid) else { continue };
            let says = if let Turn::Say(owed) = turn { owed } else { Owed::Heartbeat };
            member.say(says, now);
            let body = says.body();
            self.under_way.push((channel, uid.clone(), body.kind()));
            messages.push(Message { uid, nsp: state.namespace.clone(), body });
        }
        messages
    }

    fn turn(&self, member: &Member, is_expected: bool, is_heard: bool, now: Instant) -> Turn {
        let Rhythm { interval, is_always, .. } = self.rhythm;
        // The answers to the last hello may still come.
        let hello_at = member.last_hello.map_or(now, |at| at + interval);
        if member.has_greeted && member.owes_heartbeat {
            return Turn::Say(Owed::Heartbeat);
        }
        if member.owes_hello && is_heard && hello_at <= now {
            return Turn::Say(Owed::Hello);
        }
        if !member.has_greeted {
            return Turn::Quiet;
        }
        if !is_always && self.held_at.is_some() && now >= member.uncertain_until && !is_expected {
            return Turn::Quiet;
        }
        let is_alarmed = self.lost_at.is_some_and(|at| now.saturating_duration_since(at) <= WITHOUT_LOCK);
        let interval = if is_alarmed { self.rhythm.quick() } else { interval };
        let due = member.last_word + interval;
        let due = member.second_words.map_or(due, |(next, _)| next.min(due));
        if due <= now { Turn::Say(Owed::Heartbeat) } else { Turn::Later(due) }
    }

    /// What became of what was collected last.
    pub(super) fn published(&mut self, now: Instant, is_committed: bool, channels: &mut Channels) {
        for (channel, uid, kind) in std::mem::take(&mut self.under_way) {
            if kind == MessageKind::AdapterClose {
                if is_committed {
                    self.goodbyes.remove(&(channel, uid));
                }
                continue;
            }
            let members = channels.get_mut(&channel).map(|state| &mut state.members);
            if let Some(member) = members.and_then(|all| all.iter_mut().find(|member| member.uid == uid)) {
                let said = member.sending.take();
                member.has_greeted |= is_committed && said == Some(Owed::Hello);
                if !is_committed {
                    if said == Some(Owed::Hello) {
                        member.last_hello = None;
                    }
                    if let Some(said) = said {
                        member.owe(said, true);
                    }
                }
            }
        }
        self.wake(now);
        if !is_committed {
            self.retry_at = Some(now + RETRY);
        }
    }
}
