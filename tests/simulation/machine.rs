//! One machine under test, with the world's independent model of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pgio::cluster::state::{ClusterState, Config, LookUpId, Summary};
use pgio::protocol::{Header, Instance, MessageKind};

use crate::peer::{Life, Peer};
use crate::postgres::{Commit, Postgres, Snapshot};
use crate::trace::SECOND;
use crate::wire::Says;

pub const HEARTBEAT_TIMEOUT: u64 = 10 * SECOND;
pub const TICK: u64 = SECOND;

/// How long a row is waited for.
pub const ROW_DEADLINE: u64 = 10 * SECOND;

/// The maximum wait of a message for its row while look-ups get no response.
const WITHOUT_ANSWER: u64 = 40 * SECOND;

/// How long after an answer no message gives up its row.
const AFTER_ANSWER: u64 = 2 * SECOND;

/// A row that messages wait for.
pub struct WaitingRow {
    /// Since when it is wanted.
    wanted: u64,
    /// From when its deadline counts.
    since: u64,
}

/// A violated invariant, with the details.
#[derive(Debug, Clone)]
pub struct Violation {
    pub invariant: &'static str,
    pub why: String,
}

pub type Checked<T = ()> = Result<T, Violation>;

pub fn violated<T>(invariant: &'static str, why: impl Into<String>) -> Checked<T> {
    Err(Violation { invariant, why: why.into() })
}

macro_rules! ensure {
    ($holds:expr, $invariant:literal, $($why:tt)+) => {
        if !$holds {
            return $crate::machine::violated($invariant, format!($($why)+));
        }
    };
}
pub(crate) use ensure;

/// The filter of a subscriber.
#[derive(Debug, Clone, Copy)]
pub enum Taste {
    Everything,
    Broadcasts,
    Answers,
    Unreadable,
    Nothing,
}

impl Taste {
    pub const ALL: [Self; 6] = [
        Self::Everything,
        Self::Everything,
        Self::Broadcasts,
        Self::Answers,
        Self::Unreadable,
        Self::Nothing,
    ];

    pub fn wants_header(self, header: Option<&Header>) -> bool {
        self.wants(header.map(|header| header.kind))
    }

    pub fn wants(self, kind: Option<MessageKind>) -> bool {
        match self {
            Self::Everything => true,
            Self::Broadcasts => kind == Some(MessageKind::Broadcast),
            Self::Answers => kind.is_some_and(is_answer),
            Self::Unreadable => kind.is_none(),
            Self::Nothing => false,
        }
    }
}

pub fn is_answer(kind: MessageKind) -> bool {
    use MessageKind::*;
    matches!(kind, FetchSocketsResponse | ServerSideEmitResponse | BroadcastClientCount | BroadcastAck)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Down,
    Up,
    Stalled,
}

pub struct Sub {
    pub channels: Vec<usize>,
    pub taste: Taste,
    pub wants_text: bool,
    pub is_confirmed: bool,
    pub is_lost: bool,
    /// Whether it was told of a stall that has not ended.
    pub is_stalled: bool,
    /// Messages that the machine was given and this subscriber is still to get, by channel.
    pub given: [VecDeque<usize>; 4],
    pub last: [Option<usize>; 4],
    /// The number of messages that were reported as dropped at the bound.
    pub budget: u64,
    /// The reports of this step.
    pub told_lost: u32,
    pub told_missed: Vec<u64>,
    /// When it was made.
    pub made: Option<u64>,
    /// The snapshot of its LISTEN; `None` if the session already listened.
    pub snapshot: Option<Snapshot>,
    /// Durable events that were committed since, and that it has not got yet.
    pub due: BTreeSet<usize>,
    /// Durable events that it has got.
    pub got: BTreeSet<usize>,
    /// The listing and the row of the last event that was replayed to it, by channel.
    pub replayed: [Option<(u64, i64)>; 4],
    /// Whether it has got a message since the last loss, by channel.
    pub is_live: [bool; 4],
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// By the passing of time.
    pub was_timeout: bool,
    /// Whether nothing reaches the machine, or did not for a while since the question went out.
    pub is_receiving_nothing: bool,
}

/// What one peer has answered to one request, as far as the machine was given it.
#[derive(Default)]
pub struct Answered {
    pub promised: Option<u64>,
    pub given: u64,
    pub delivered: u64,
}

pub struct Req {
    pub channel: usize,
    pub kind: MessageKind,
    pub sender: String,
    pub deadline: u64,
    pub sent: Option<u64>,
    /// Whether it finds its peers by an initial heartbeat.
    pub discovers: bool,
    pub published: bool,
    pub may_fail: bool,
    pub question: Option<usize>,
    /// The question, once the machine was given it.
    pub heard_itself: Option<usize>,
    /// Whether the question may be lost, so that the machine waits for it no longer.
    pub gave_up_question: bool,
    /// Peers that were well long before, each with the time since.
    pub healthy: Vec<(usize, u64)>,
    /// Peers with a recent message.
    pub heard: Vec<usize>,
    pub answers: BTreeMap<usize, Answered>,
    pub was_lossy: bool,
}

/// A node that a machine hosts.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Its subscription.
    pub sub: u64,
    /// Its number among the peers, once it has joined.
    pub peer: Option<usize>,
}

pub struct Machine {
    pub state: ClusterState,
    /// Which of its lives this is.
    pub life: u32,
    pub session: Option<usize>,
    pub link: Link,
    pub max_bytes: usize,
    pub executing: Option<u64>,
    pub look_ups: BTreeMap<LookUpId, Vec<i64>>,
    pub subs: BTreeMap<u64, Sub>,
    pub requests: BTreeMap<String, Req>,
    pub ended: BTreeSet<String>,
    /// When the server last refused a channel alone.
    pub refused_at: [Option<u64>; 4],
    /// The channel that was refused alone in this step.
    pub refused_now: Option<usize>,
    /// The time of the last message of each peer on each channel.
    pub heard: [BTreeMap<usize, u64>; 4],
    /// The time of the goodbye of each peer on each channel.
    pub departed: [BTreeMap<usize, u64>; 4],
    /// Messages that wait for their rows, in their order, with the row.
    pub blocked: [VecDeque<(usize, i64)>; 4],
    /// Rows that messages wait for.
    pub waiting_rows: BTreeMap<i64, WaitingRow>,
    /// When rows came last.
    pub answered_at: Option<u64>,
    /// The look-up that last asked for a row since messages wait for it.
    pub asked: BTreeMap<i64, LookUpId>,
    pub expired_rows: BTreeSet<i64>,
    /// Rows that came in this step.
    pub read_now: BTreeSet<i64>,
    /// How often each row was asked for again in the step in which it came, since a message was delivered.
    pub read_in_vain: BTreeMap<i64, u32>,
    /// Messages whose row was found, or not.
    pub found: BTreeMap<usize, bool>,
    /// When anything last went wrong with its connection, or was dropped.
    pub disturbed_at: u64,
    /// When nothing reached it last, noticed or not.
    pub deaf_at: u64,
    /// When the machine last had a reason to count live peers as heard, as it may have missed what they said.
    pub refreshed_at: u64,
    /// Since when each channel is listened to without a gap, as the machine was told.
    pub listening_since: [Option<u64>; 4],
    /// The rows of durable events that it was given, with their channels.
    pub durable_rows: BTreeMap<i64, usize>,
    /// Messages that it was given since it was lost last.
    pub since_loss: BTreeSet<usize>,
    /// The number of the last listing, and whether one is under way.
    pub listings: u64,
    pub is_listing: bool,
    pub reads_listening: bool,
    /// When a listing of durable events last failed.
    pub unlisted_at: Option<u64>,
    /// When the last listing was requested, and how long the longest one took.
    pub listing: (u64, u64),
    /// Rows that were listed.
    pub listed: BTreeSet<i64>,
    /// Since when rows are wanted that were listed.
    pub listed_since: BTreeMap<i64, u64>,
    /// Whether each channel was held back by events that it has missed, after the last step.
    pub was_replaying: [bool; 4],
    /// Since when each channel is held back by events that it has missed, with nothing in the way.
    pub replaying_since: [Option<u64>; 4],
    /// When it first heard an initial heartbeat on each channel since then.
    pub asked_since: [Option<u64>; 4],
    /// The snapshot that it was given in this step.
    pub snapshot_now: Option<Snapshot>,
    pub last_sub: u64,
    pub last_request: u64,
    pub connects: u32,
    pub instance: Instance,
    /// Whether its role may read the locks.
    pub can_see: bool,
    pub beat: u8,
    /// The nodes that it hosts, by channel.
    pub hosts: BTreeMap<usize, Host>,
    pub is_announcing: bool,
    /// Whether its last signs of life are late, or were not published.
    pub is_troubled: bool,
    /// When that was last so.
    pub troubled_at: u64,
    /// When the server last refused a lock snapshot.
    pub looked_badly_at: u64,
}

impl Machine {
    pub fn new(life: u32, max_bytes: usize, instance: Instance, can_see: bool) -> Self {
        let config = Config {
            channel_prefix: "socket.io".into(),
            heartbeat_interval: std::time::Duration::from_micros(crate::peer::HEARTBEAT_INTERVAL),
            always_heartbeats: false,
            heartbeat_timeout: std::time::Duration::from_micros(HEARTBEAT_TIMEOUT),
            cleanup_interval: std::time::Duration::from_secs(5),
            max_waiting_bytes: max_bytes,
            max_attachment: 1 << 30,
        };
        Self {
            state: ClusterState::new(config),
            life,
            session: None,
            link: Link::Down,
            max_bytes,
            executing: None,
            look_ups: BTreeMap::new(),
            subs: BTreeMap::new(),
            requests: BTreeMap::new(),
            ended: BTreeSet::new(),
            refused_at: [None; 4],
            refused_now: None,
            heard: Default::default(),
            departed: Default::default(),
            blocked: Default::default(),
            waiting_rows: BTreeMap::new(),
            answered_at: None,
            asked: BTreeMap::new(),
            expired_rows: BTreeSet::new(),
            read_now: BTreeSet::new(),
            read_in_vain: BTreeMap::new(),
            found: BTreeMap::new(),
            disturbed_at: 0,
            deaf_at: 0,
            refreshed_at: 0,
            listening_since: [None; 4],
            durable_rows: BTreeMap::new(),
            since_loss: BTreeSet::new(),
            listings: 0,
            is_listing: false,
            reads_listening: false,
            unlisted_at: None,
            listing: (0, 0),
            listed: BTreeSet::new(),
            listed_since: BTreeMap::new(),
            was_replaying: [false; 4],
            replaying_since: [None; 4],
            asked_since: [None; 4],
            snapshot_now: None,
            last_sub: 0,
            last_request: 0,
            connects: 0,
            instance,
            can_see,
            beat: 0,
            hosts: BTreeMap::new(),
            is_announcing: false,
            is_troubled: false,
            troubled_at: 0,
            looked_badly_at: 0,
        }
    }

    /// Whether its bound is so low that messages are dropped.
    pub fn is_tight(&self) -> bool {
        self.max_bytes < 100_000
    }

    /// Whether nothing keeps it from the table.
    pub fn is_free(&self, now: u64, kept_until: u64) -> bool {
        now >= kept_until && !self.is_tight()
    }

    /// Whether messages of a channel wait for a row, or for a replay.
    fn is_blocked(&self, channel: usize) -> bool {
        !self.blocked[channel].is_empty()
            || self.was_replaying[channel]
            || self.state.is_replaying(&crate::postgres::channel(channel))
    }

    /// The channels that somebody wants, as bits.
    pub fn wanted(&self) -> u8 {
        let subscribed = self.subs.values().flat_map(|sub| &sub.channels);
        let asked = self.requests.values().map(|request| &request.channel);
        subscribed.chain(asked).fold(0, |bits, channel| bits | 1 << channel)
    }

    /// Removes the model of a channel without subscriptions and requests.
    pub fn forget_unwanted(&mut self) {
        let wanted = self.wanted();
        for channel in 0..4 {
            if wanted & (1 << channel) == 0 {
                self.heard[channel].clear();
                self.departed[channel].clear();
                self.blocked[channel].clear();
                self.listening_since[channel] = None;
                self.asked_since[channel] = None;
            }
        }
    }

    /// A message is about to be given to the machine.
    pub fn note_given(&mut self, now: u64, seq: usize, commit: &Commit) {
        let Commit { channel, says, row, sender, uid, .. } = commit;
        let (channel, kind) = (*channel, says.kind());
        self.since_loss.insert(seq);
        if let (Some(row), true) = (*row, commit.durable_since.is_some()) {
            self.durable_rows.insert(row, channel);
        }
        if self.wanted() & (1 << channel) == 0 {
            return;
        }
        let mut is_taken = false;
        for sub in self.subs.values_mut().filter(|sub| sub.channels.contains(&channel)) {
            if sub.taste.wants(kind) && !sub.got.contains(&seq) {
                is_taken = true;
                sub.given[channel].push_back(seq);
            }
        }
        let may_matter = self.requests.values().any(|request| {
            let is_own =
                request.sender == *uid && Some(request.kind) == kind && self.awaits_question(request);
            request.channel == channel && (kind.is_some_and(is_answer) || is_own)
        });
        if *says == Says::InitialHeartbeat && commit.says_nsp {
            self.asked_since[channel].get_or_insert(now);
        }
        if let Some(row) = *row
            && (is_taken || may_matter)
        {
            self.blocked[channel].push_back((seq, row));
            if !self.waiting_rows.contains_key(&row) {
                self.asked.remove(&row);
            }
            // Messages that a tight bound drops are not looked up.
            if self.is_tight() {
                self.waiting_rows.insert(row, WaitingRow { wanted: now, since: now });
            } else {
                self.waiting_rows.entry(row).or_insert(WaitingRow { wanted: now, since: now });
            }
        }
        if let crate::postgres::Sender::Peer(peer) = sender
            && kind.is_some()
        {
            match says {
                Says::Goodbye => {
                    self.heard[channel].remove(peer);
                    self.departed[channel].insert(*peer, now);
                }
                // What it published otherwise may be committed after its goodbye.
                Says::Heartbeat | Says::InitialHeartbeat => {
                    self.departed[channel].remove(peer);
                    self.heard[channel].insert(*peer, now);
                }
                _ if self.departed[channel].get(peer).is_some_and(|at| now <= at + HEARTBEAT_TIMEOUT) => {}
                _ => {
                    self.heard[channel].insert(*peer, now);
                }
            }
            if let Some(request) = says.answers().and_then(|id| self.requests.get_mut(id)) {
                let of = request.answers.entry(*peer).or_default();
                match says {
                    Says::ClientCount { count, .. } => of.promised = Some(*count),
                    _ => of.given += 1,
                }
            }
        }
        if let Some(request) = says.asks().and_then(|id| self.requests.get_mut(id)) {
            request.heard_itself.get_or_insert(seq);
        }
    }

    /// Whether a request waits for its question to come back: it was not given yet, or waits for a row, or its row was not
    /// to be had.
    fn awaits_question(&self, request: &Req) -> bool {
        let waits =
            |seq: usize| self.blocked[request.channel].front().is_some_and(|(first, _)| *first <= seq);
        // The loopback of the request may wait behind a replay.
        let is_held = self.state.is_replaying(&crate::postgres::channel(request.channel));
        let is_there = |seq: usize| !is_held && !waits(seq) && self.found.get(&seq) != Some(&false);
        !request.gave_up_question && !request.heard_itself.is_some_and(is_there)
    }

    /// Messages to the machine are lost, and its questions may be among them.
    pub fn lose(&mut self) {
        self.since_loss.clear();
        self.subs.values_mut().for_each(|sub| sub.is_live = [false; 4]);
        self.asked_since = [None; 4];
        for request in self.requests.values_mut() {
            request.was_lossy = true;
            request.gave_up_question |= request.sent.is_some();
        }
    }

    /// A row has arrived, or cannot be read: no slot waits for it any longer.
    pub fn resolve(&mut self, row: i64, is_found: bool) {
        if self.waiting_rows.remove(&row).is_some() {
            for blocked in &mut self.blocked {
                blocked.retain(|(seq, other)| {
                    if *other == row {
                        self.found.insert(*seq, is_found);
                    }
                    *other != row
                });
            }
        }
    }

    /// The connection answers again: every waiting row gets a new deadline.
    pub fn restart_rows(&mut self, now: u64) {
        self.waiting_rows.values_mut().for_each(|row| *row = WaitingRow { wanted: now, since: now });
    }

    /// A look-up got no response: rows may wait longer, up to a limit.
    pub fn extend_rows(&mut self, now: u64) {
        let longest = WITHOUT_ANSWER - ROW_DEADLINE;
        self.waiting_rows.values_mut().for_each(|row| row.since = now.min(row.wanted + longest));
    }

    /// Whether what wanted a row may have given it up, so that it may be asked for while an earlier look-up is under way.
    pub fn may_have_given_up(&self, row: i64, now: u64) -> bool {
        let since = self.listed_since.get(&row);
        self.expired_rows.contains(&row) || since.is_some_and(|since| now - since >= ROW_DEADLINE)
    }

    pub fn expire_rows(&mut self, now: u64) {
        if self.link != Link::Up {
            return;
        }
        let due: Vec<_> = self
            .waiting_rows
            .iter()
            .filter(|(_, row)| {
                let deadline = row.since + ROW_DEADLINE;
                let patience = self.answered_at.map_or(deadline, |at| deadline.max(at + AFTER_ANSWER));
                patience.min(row.wanted + WITHOUT_ANSWER).max(deadline) <= now
            })
            .map(|(row, _)| *row)
            .collect();
        for row in due {
            self.expired_rows.insert(row);
            self.resolve(row, false);
        }
    }

    /// A subscriber gets a durable event.
    pub fn check_durable(&mut self, id: u64, seq: usize) -> Checked {
        let Some(sub) = self.subs.get_mut(&id) else {
            return violated("durable-once", format!("#{seq} to subscription {id}, which has ended"));
        };
        ensure!(sub.got.insert(seq), "durable-once", "subscription {id} got #{seq} twice");
        sub.due.remove(&seq);
        Ok(())
    }

    /// A subscriber gets an event that was missed.
    pub fn check_replayed(
        &mut self,
        id: u64,
        seq: usize,
        commit: &Commit,
        server: u64,
        is_calm: bool,
    ) -> Checked {
        let is_calm = is_calm && !self.is_tight();
        let Some(sub) = self.subs.get_mut(&id) else {
            return violated("durable-once", format!("#{seq} to subscription {id}, which has ended"));
        };
        let (channel, Some(row)) = (commit.channel, commit.row) else {
            return violated("durable-once", format!("#{seq} is replayed, and has no row"));
        };
        ensure!(
            sub.channels.contains(&channel) && sub.taste.wants(commit.says.kind()),
            "durable-once",
            "#{seq} is replayed to subscription {id}, which does not want it"
        );
        // A listing that takes long makes its rows look younger than they are.
        let latency = self.listing.1.max(10 * SECOND);
        let start = sub.snapshot.as_ref().map(|snapshot| snapshot.at).or(sub.made);
        let is_earlier = start.zip(commit.durable_since).is_none_or(|(start, began)| began + latency < start);
        ensure!(!is_earlier, "durable-once", "#{seq} is replayed to subscription {id}, which was made later");
        // The clock of a former server may have been ahead.
        let is_of_server = commit.durable_since >= Some(server);
        let snapshot = sub.snapshot.as_ref();
        let snapshot = snapshot.filter(|snapshot| is_of_server && snapshot.of_server.server == server as i64);
        ensure!(
            snapshot.is_none_or(|snapshot| snapshot.commits <= seq),
            "durable-after-listen",
            "#{seq} is replayed to subscription {id}, and was committed before its LISTEN"
        );
        let last = sub.replayed[channel].replace((self.listings, row));
        ensure!(
            last.is_none_or(|(listing, last)| listing != self.listings || last < row),
            "durable-in-order",
            "subscription {id} got row {row} after {last:?}"
        );
        ensure!(
            !is_calm || !sub.is_live[channel],
            "durable-in-order",
            "subscription {id} got #{seq}, which it had missed, after what came live"
        );
        Ok(())
    }

    /// A subscriber gets a message.
    pub fn check_delivery(&mut self, id: u64, seq: usize, commit: &Commit, text: &str) -> Checked {
        let Some(sub) = self.subs.get_mut(&id) else {
            return violated("delivered-once", format!("#{seq} to subscription {id}, which has ended"));
        };
        let may_be_without = !sub.wants_text && text.is_empty();
        ensure!(
            may_be_without || text == commit.text,
            "delivered-once",
            "#{seq} came with the text of another: {text}"
        );
        let channel = commit.channel;
        ensure!(
            sub.taste.wants(commit.says.kind()),
            "delivered-once",
            "#{seq} to subscription {id}, which wants {:?}",
            sub.taste
        );
        while let Some(front) = sub.given[channel].pop_front() {
            if front == seq {
                sub.last[channel] = Some(seq);
                sub.is_live[channel] |= self.since_loss.contains(&seq);
                return Ok(());
            }
            if sub.got.contains(&front) {
                continue;
            }
            if sub.budget > 0 {
                sub.budget -= 1;
                continue;
            }
            if sub.last[channel].is_some_and(|last| last >= seq) {
                break;
            }
            return violated("delivered-in-order", format!("subscription {id} got #{seq} before #{front}"));
        }
        violated("delivered-once", format!("subscription {id} got #{seq} though nothing of it was due"))
    }

    /// After a step: nothing is held back that does not wait for a row of its own channel.
    pub fn check_blocked(&mut self) -> Checked {
        let durable = self.durable_rows.values().filter(|_| self.is_tight());
        let put_off: BTreeSet<usize> = durable.copied().collect();
        let is_replaying = |channel: usize| self.state.is_replaying(&crate::postgres::channel(channel));
        let replaying: BTreeSet<usize> = (0..4).filter(|channel| is_replaying(*channel)).collect();
        let is_anything_blocked = self.blocked.iter().any(|blocked| !blocked.is_empty());
        for (id, sub) in &mut self.subs {
            for channel in 0..4 {
                while let Some(front) = sub.given[channel].front() {
                    // With a tight bound, the row of a durable event is looked up again and again until there is room.
                    let is_put_off = put_off.contains(&channel);
                    let is_blocked = self.blocked[channel].front().is_some_and(|(seq, _)| seq <= front);
                    if is_blocked || is_put_off || replaying.contains(&channel) {
                        break;
                    }
                    if sub.got.contains(front) {
                        sub.given[channel].pop_front();
                        continue;
                    }
                    if sub.budget > 0 {
                        sub.budget -= 1;
                        sub.given[channel].pop_front();
                        continue;
                    }
                    let name = match is_anything_blocked {
                        true => "slow-lookup-holds-only-its-channel",
                        false => "nothing-lost-while-connected",
                    };
                    return violated(
                        name,
                        format!(
                            "subscription {id} did not get #{front}; {:?} wait for rows",
                            self.blocked[channel]
                        ),
                    );
                }
            }
        }
        Ok(())
    }

    /// The wanted set of the machine is right, and without a statement in flight the server listens to the same channels.
    pub fn check_channels(&self, now: u64, postgres: &Postgres) -> Checked {
        let wanted = self.wanted();
        let (says, confirmed) = self.state.channel_sets();
        let bits = |channels: &[pgio::protocol::Channel]| {
            channels.iter().fold(0u8, |bits, c| bits | 1 << crate::postgres::channel_number(c.as_str()))
        };
        ensure!(
            bits(&says) == wanted,
            "channels-follow-interest",
            "wanted are {wanted:04b}, the machine says {:04b}",
            bits(&says)
        );
        let Some(session) = self.session.filter(|session| postgres.sessions[*session].is_alive) else {
            return Ok(());
        };
        if self.executing.is_some() || self.link == Link::Down {
            return Ok(());
        }
        let listening = postgres.sessions[session].channels;
        ensure!(
            bits(&confirmed) == listening,
            "channels-follow-interest",
            "the server listens to {listening:04b}, the machine believes {:04b}",
            bits(&confirmed)
        );
        for channel in 0..4 {
            let is_wanted = wanted & (1 << channel) != 0;
            let is_listened_to = listening & (1 << channel) != 0;
            let was_refused = self.refused_at[channel].is_some_and(|at| now < at + SECOND);
            ensure!(
                is_wanted == is_listened_to || (is_wanted && was_refused),
                "channels-follow-interest",
                "channel {channel}: wanted {is_wanted}, listened to {is_listened_to}, and no statement is under way"
            );
        }
        Ok(())
    }

    /// Whether the peer has left, or was silent for so long that it counts as such.
    fn has_left(now: u64, peer: &Peer, sent: u64) -> bool {
        if peer.member.is_some() {
            // It need not say anything to be live.
            return peer.life != Life::Live || peer.healthy_since.is_none_or(|since| since >= sent);
        }
        let long = HEARTBEAT_TIMEOUT - SECOND;
        peer.life == Life::Closed || now.saturating_sub(peer.last_commit) > long || peer.gap_end >= sent
    }

    fn has_answered(kind: MessageKind, answered: Option<&Answered>) -> bool {
        answered.is_some_and(|answered| match kind {
            MessageKind::Broadcast => answered.promised.is_some_and(|count| answered.delivered >= count),
            _ => answered.delivered >= 1,
        })
    }

    /// A request has ended well.
    pub fn check_summary(
        &self,
        now: u64,
        id: &str,
        summary: &Summary,
        ending: Ending,
        peers: &[Peer],
        commits: &[Commit],
    ) -> Checked {
        let request = &self.requests[id];
        let sent = request.sent.unwrap_or(now);
        if summary.is_complete() {
            ensure!(
                request.question.is_some() && request.heard_itself.is_some(),
                "complete-means-everyone-answered",
                "{id} is called complete, and its question did not come back"
            );
            let healthy = request
                .healthy
                .iter()
                .filter(|(peer, since)| {
                    peers[*peer].life == Life::Live && peers[*peer].healthy_since == Some(*since)
                })
                .map(|(peer, _)| peer);
            // What falls silent while unknown peers answer is noticed too late: see the limits in `ClusterState`.
            let healthy = healthy.filter(|_| !(request.discovers && ending.is_receiving_nothing));
            for index in healthy.chain(&request.heard) {
                let peer = &peers[*index];
                // It froze for long, and then nothing was heard of anybody, which was not noticed yet.
                let heard_at = self.heard[request.channel].get(index).copied().unwrap_or(0);
                let was_missed = ending.is_receiving_nothing
                    && heard_at + HEARTBEAT_TIMEOUT <= now
                    && peer.healthy_since.is_none_or(|since| since > heard_at);
                let is_settled = was_missed
                    || peer.uid == request.sender
                    || Self::has_left(now, peer, sent)
                    || Self::has_answered(request.kind, request.answers.get(index));
                ensure!(
                    is_settled,
                    "complete-means-everyone-answered",
                    "{id} is called complete without {} of {}",
                    peer.uid,
                    peer.version.name()
                );
            }
            // It may wait for the first reading of the servers that listen.
            ensure!(
                !(ending.was_timeout
                    && now >= request.deadline
                    && self.disturbed_at < sent
                    && !self.reads_listening),
                "request-ends-by-deadline",
                "{id} waited until its deadline though everyone had answered"
            );
        }
        ensure!(
            summary.unresponsive.servers() == 0 || now >= request.deadline,
            "request-ends-by-deadline",
            "{id} did not wait for {:?}, which listen",
            summary.unresponsive
        );
        let may_give_up = self.disturbed_at >= sent || self.is_tight() || now >= request.deadline;
        ensure!(
            summary.is_complete() || may_give_up,
            "request-ends-by-deadline",
            "{id} ends early, is not complete, and nothing was lost"
        );
        for uid in &summary.silent {
            let Some((index, peer)) = peers.iter().enumerate().find(|(_, peer)| peer.uid == uid.as_str())
            else {
                return violated("no-ghost-peers", format!("{id} waited for {uid}, which is no peer"));
            };
            let answered = request.answers.get(&index);
            let may_have_dropped = self.is_tight() || self.is_blocked(request.channel);
            ensure!(
                !Self::has_answered(request.kind, answered) || may_have_dropped,
                "complete-means-everyone-answered",
                "{id} says that {uid} is silent, which has answered in full"
            );
            // One that lost its session meanwhile counted as gone, and is found like one that was there before.
            let was_lost = peer.member.is_some() && peer.healthy_since.is_none_or(|since| since >= sent);
            let is_joiner =
                !was_lost && matches!((peer.started, request.question), (Some(a), Some(b)) if a > b);
            let is_in_row = request.question.is_some_and(|question| commits[question].row.is_some());
            let has_promised = answered.is_some_and(|answered| answered.promised.is_some());
            ensure!(
                !is_joiner || has_promised || request.was_lossy || is_in_row,
                "joiners-are-not-awaited",
                "{id} waited for {uid}, which started after the question"
            );
        }
        let known_since = self.listening_since[request.channel].map(|since| since + HEARTBEAT_TIMEOUT);
        let were_asked = self.asked_since[request.channel].is_some_and(|at| at + SECOND < sent);
        let is_calm = self.disturbed_at + HEARTBEAT_TIMEOUT < sent
            && known_since.is_some_and(|at| at < sent)
            && were_asked;
        ensure!(
            summary.knew_peers
                || !is_calm
                || self.is_tight()
                || request.heard_itself.is_none()
                || request.question.is_some_and(|question| commits[question].row.is_some())
                || self.is_blocked(request.channel),
            "complete-means-everyone-answered",
            "{id}: the peers were known for long, and the summary denies it"
        );
        Ok(())
    }

    /// An answer is handed to the caller.
    pub fn check_answer(&mut self, id: &str, uid: &str, peers: &[Peer]) -> Checked {
        let Some(request) = self.requests.get_mut(id) else {
            return violated("request-ends-by-deadline", format!("an answer to {id}, which has ended"));
        };
        let Some(index) = peers.iter().position(|peer| peer.uid == uid) else {
            return violated("no-ghost-peers", format!("{uid}, which is no peer, answers {id}"));
        };
        let of = request.answers.entry(index).or_default();
        of.delivered += 1;
        ensure!(of.delivered <= of.given, "delivered-once", "{id} got more answers of {uid} than came");
        Ok(())
    }

    /// Live nodes exist, and have sent a recent message.
    pub fn check_live_nodes(
        &self,
        now: u64,
        instant: std::time::Instant,
        channel: usize,
        peers: &[Peer],
    ) -> Checked {
        let (live, _) = self.state.live_nodes(&crate::postgres::channel(channel), instant);
        for node in live {
            let Some(index) = peers.iter().position(|peer| peer.uid == node.uid.as_str()) else {
                return violated("no-ghost-peers", format!("{} is called live and is no peer", node.uid));
            };
            let Some(heard) = self.heard[channel].get(&index) else {
                return violated("no-ghost-peers", format!("{} is called live and said goodbye", node.uid));
            };
            // A lock shows it live until the process ends, and until a look shows it no longer. The first look after a
            // stall, and after one that was refused, shows what happened meanwhile.
            let peer = &peers[index];
            let last_gap = self.refreshed_at.max(self.deaf_at).max(self.looked_badly_at);
            // Its goodbye may be late, and its process goes on.
            let shown_until = peer.stopped_at.unwrap_or(now).max(peer.last_commit).max(last_gap);
            let shown_until = shown_until + 2 * SECOND + SECOND / 2;
            let last_sign = if peer.member.is_some() { (*heard).max(shown_until) } else { *heard };
            let alive_until = last_sign.max(self.refreshed_at) + HEARTBEAT_TIMEOUT + TICK;
            ensure!(
                now <= alive_until,
                "no-ghost-peers",
                "{} is called live {} us after it could have been heard, by {:?}",
                node.uid,
                now - alive_until.min(now),
                node.liveness
            );
        }
        Ok(())
    }
}
