//! A world: machines under test, peers, and a Postgres between them, on virtual time and one seed.
//!
//! Events lie in one queue, ordered by time and then by their making. Every random number comes from the seed, so that a
//! seed always gives the same run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgio::Error;
use pgio::cluster::state::{
    Arrival, DurableRow, DurableRows, Input, ListenSnapshot, ListeningSession, ListeningSessions, LookUpId,
    Output, Row, Statement,
};
use pgio::cluster::{Content, Event as Delivered};
use pgio::protocol::{AttachmentId, Body, EventArgs, Instance, Message, Uid, Value};

use crate::machine::{Checked, Ending, Link, Machine, Sub, Violation, ensure, violated};
use crate::peer::{Life, Peer};
use crate::postgres::{
    CHANNELS, Commit, Item, NAMESPACES, Owner, Postgres, Sender, Session, Snapshot, channel,
};
use crate::trace::{SECOND, Trace};
use crate::wire::{Says, Version, header};

pub const MILLI: u64 = 1000;

/// A peer counts as able to hear and to be heard when it was well for that long.
const WELL: u64 = 5 * SECOND + SECOND / 2;

/// The maximum time until a stalled connection is detected.
pub const NOTICED_AFTER: u64 = 4 * SECOND;

/// Something that will happen.
#[derive(Debug)]
pub enum Event {
    Arrive {
        session: usize,
        item: Item,
    },
    Execute {
        m: usize,
        session: usize,
        number: u64,
        statement: Statement,
    },
    LookUp {
        m: usize,
        life: u32,
        look_up: LookUpId,
        ids: Vec<i64>,
        fate: Fate,
    },
    Rows {
        m: usize,
        life: u32,
        look_up: LookUpId,
        ids: Vec<i64>,
        rows: Result<HashMap<AttachmentId, Row>, Error>,
    },
    List {
        m: usize,
        life: u32,
        channels: Vec<usize>,
        max_age: u64,
        fate: Fate,
    },
    Listed {
        m: usize,
        life: u32,
        rows: Result<DurableRows, Error>,
    },
    /// The servers that listen have been read, or not.
    Listening {
        m: usize,
        life: u32,
        is_read: bool,
    },
    /// The transaction of a durable event commits.
    CommitDurable {
        row: i64,
        began: u64,
        channel: usize,
        number: u64,
    },
    Publish {
        m: usize,
        life: u32,
        request: String,
        messages: Vec<Message>,
        fate: Fate,
    },
    Published {
        m: usize,
        life: u32,
        request: String,
        outcome: Result<(), Error>,
    },
    Announce {
        m: usize,
        life: u32,
        messages: Vec<Message>,
        fate: Fate,
    },
    LockSnapshot {
        m: usize,
        session: usize,
    },
    DropSession {
        session: usize,
    },
    Connect {
        m: usize,
        number: u32,
    },
    Connected {
        m: usize,
        number: u32,
        session: usize,
        listening: Vec<usize>,
        snapshot: Option<Snapshot>,
    },
    Lost {
        m: usize,
        session: usize,
    },
    Notice {
        m: usize,
        session: usize,
    },
    Heal {
        session: usize,
    },
    PeerStarts {
        p: usize,
    },
    PeerListens {
        p: usize,
    },
    PeerSays {
        p: usize,
        says: Says,
        in_row: bool,
    },
    PeerNamesRow {
        p: usize,
        says: Says,
        row: i64,
    },
    Heartbeat {
        p: usize,
    },
    Thaw {
        p: usize,
    },
    Act,
    /// A process ends, and another begins.
    Restart {
        m: usize,
    },
    Rest,
}

/// How a statement of the driver ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Well,
    Refused,
    Lost,
    /// It is executed, and the answer is lost.
    LostAfterwards,
}

/// Which faults a world has.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub losses: bool,
    pub silences: bool,
    pub restarts: bool,
    pub peers_stop: bool,
    pub peers_freeze: bool,
    pub slow: bool,
    pub rows: bool,
    pub refusals: bool,
    pub missed: bool,
    /// Whether some machines may not read the locks.
    pub blind: bool,
    /// Whether all peers are nodes of the machines, which see each other's locks.
    pub only_members: bool,
}

pub struct World {
    pub seed: u64,
    pub rng: fastrand::Rng,
    base: Instant,
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    last_event: u64,
    pub postgres: Postgres,
    pub machines: Vec<Machine>,
    pub peers: Vec<Peer>,
    pub channels: usize,
    pub faults: Faults,
    pub trace: Trace,
    pub until: u64,
    pub is_at_rest: bool,
    last_number: u64,
    names: [Arc<str>; 4],
    pub steps: u64,
    was_timeout: bool,
    /// When an initial heartbeat was last published on each channel.
    pub asked_at: [Option<u64>; 4],
    /// What follows from a step, to be given to the machines after it.
    pub pending_inputs: Vec<(usize, Input)>,
    /// What a commit has shown to be broken.
    violation: Option<Violation>,
}

impl World {
    pub fn new(seed: u64, base: Instant, is_traced: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let is_calm = rng.u8(0..8) == 0;
        let mut fault = || !is_calm && rng.u8(0..100) < 55;
        let faults = Faults {
            losses: fault(),
            silences: fault(),
            restarts: fault(),
            peers_stop: fault(),
            peers_freeze: fault(),
            slow: fault(),
            rows: fault(),
            refusals: fault(),
            missed: fault(),
            blind: false,
            only_members: false,
        };
        let only_members = rng.u8(0..4) == 0;
        let faults = Faults { only_members, blind: !only_members && rng.u8(0..3) == 0, ..faults };
        let mut world = Self {
            seed,
            base,
            now: 0,
            queue: BTreeMap::new(),
            last_event: 0,
            postgres: Postgres::default(),
            machines: Vec::new(),
            peers: Vec::new(),
            channels: rng.usize(1..=4),
            faults,
            trace: Trace::new(is_traced),
            until: rng.u64(12..36) * SECOND,
            is_at_rest: false,
            last_number: 0,
            names: CHANNELS.map(Arc::from),
            steps: 0,
            was_timeout: false,
            asked_at: [None; 4],
            pending_inputs: Vec::new(),
            violation: None,
            rng,
        };
        for m in 0..world.rng.usize(1..=if faults.only_members { 3 } else { 2 }) {
            let machine = world.new_machine(0);
            world.machines.push(machine);
            world.reconnect(m, 0);
        }
        let peers = if faults.only_members { 0 } else { world.rng.usize(0..=4) };
        for _ in 0..peers {
            let delay = world.rng.u64(0..2 * SECOND);
            world.new_peer(delay);
        }
        let at = world.rng.u64(0..SECOND);
        world.after(at, Event::Act);
        if is_calm && world.machines.len() > 1 && world.chance(50) {
            // A process ends where everything else is well for long.
            world.until = world.rng.u64(32..40) * SECOND;
            let at = world.until - world.rng.u64(6 * SECOND..10 * SECOND);
            world.after(at, Event::Restart { m: 0 });
        }
        world.after(world.until, Event::Rest);
        world
    }

    pub fn new_machine(&mut self, life: u32) -> Machine {
        let (bytes, instance) = (self.bytes(), Instance::from(self.rng.u64(..)));
        let can_see = !self.faults.blind || self.chance(50);
        Machine::new(life, bytes, instance, can_see)
    }

    fn bytes(&mut self) -> usize {
        if self.faults.rows && self.rng.u8(0..3) == 0 { self.rng.usize(500..6000) } else { 10_000_000 }
    }

    pub fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(0..100) < percent
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        self.last_event += 1;
        self.queue.insert((self.now + delay, self.last_event), event);
    }

    pub fn instant(&self, at: u64) -> Instant {
        self.base + Duration::from_micros(at)
    }

    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos().div_ceil(1000) as u64
    }

    pub fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// A delay of the network or of the server.
    pub fn delay(&mut self) -> u64 {
        self.rng.u64(200..40 * MILLI)
    }

    /// Runs the world to its end.
    pub fn run(&mut self) -> Checked {
        loop {
            let event_at = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = |m: &Machine| m.state.next_deadline().map(|at| self.micros(at).max(self.now));
            let wake = self.machines.iter().enumerate().filter_map(|(i, m)| Some((deadline(m)?, i))).min();
            self.steps += 1;
            match (event_at, wake) {
                (None, None) => break,
                (Some(at), Some((wake, m))) if wake <= at => self.wake(wake, m)?,
                (None, Some((wake, m))) => self.wake(wake, m)?,
                (Some(_), _) => {
                    let Some(((at, _), event)) = self.queue.pop_first() else { break };
                    self.now = at;
                    self.happen(event)?;
                }
            }
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            while let Some((m, input)) = self.pending_inputs.pop() {
                self.give(m, input)?;
            }
            if self.now > self.until + 120 * SECOND || self.steps > 200_000 {
                return violated("quiescent-is-empty", "the world does not come to rest");
            }
        }
        for machine in &self.machines {
            let held_resources = machine.state.held_resources();
            ensure!(
                held_resources == Default::default(),
                "quiescent-is-empty",
                "all handles are gone, and there held_resources {held_resources:?}"
            );
            let (wanted, confirmed) = machine.state.channel_sets();
            ensure!(wanted.is_empty() && confirmed.is_empty(), "quiescent-is-empty", "channels remain");
            if let Some(session) = machine.session {
                let channels = self.postgres.sessions[session].channels;
                ensure!(channels == 0, "quiescent-is-empty", "the server still listens to {channels:04b}");
            }
        }
        Ok(())
    }

    fn wake(&mut self, at: u64, m: usize) -> Checked {
        self.now = at;
        let instant = self.instant(at);
        self.trace.count(at, 1);
        self.machines[m].expire_rows(at);
        self.machines[m].state.handle_timeout(instant);
        self.was_timeout = true;
        self.drain(m)?;
        self.was_timeout = false;
        let next = self.machines[m].state.next_deadline();
        ensure!(
            next.is_none_or(|next| next > instant),
            "deadlines-move-on",
            "machine {m} was woken in time and asks to be woken at once again"
        );
        Ok(())
    }

    /// Gives an input to a machine, carries out what follows, and checks everything.
    pub fn give(&mut self, m: usize, input: Input) -> Checked {
        let now = self.instant(self.now);
        self.trace.count(self.now, 2 + m as u64);
        if self.trace.is_on() {
            self.trace.add(self.now, &format!("machine {m} <"), format_args!("{}", brief(&input)));
        }
        self.machines[m].state.handle(now, input);
        self.drain(m)
    }

    fn drain(&mut self, m: usize) -> Checked {
        let now = self.instant(self.now);
        while let Some(output) = self.machines[m].state.poll_output(now) {
            if self.trace.is_on() {
                self.trace.add(self.now, &format!("machine {m} >"), format_args!("{}", brief(&output)));
            }
            self.carry_out(m, output)?;
        }
        self.check(m)
    }

    /// What holds after every step.
    fn check(&mut self, m: usize) -> Checked {
        let channel = self.steps as usize % self.channels;
        let instant = self.instant(self.now);
        let machine = &mut self.machines[m];
        machine.check_blocked()?;
        machine.check_channels(self.now, &self.postgres)?;
        machine.check_live_nodes(self.now, instant, channel, &self.peers)?;
        for (id, request) in &machine.requests {
            ensure!(
                request.deadline > self.now || (request.deadline == self.now && !self.was_timeout),
                "request-ends-by-deadline",
                "{id} should have ended {} us ago",
                self.now - request.deadline
            );
        }
        let bytes = machine.state.held_resources().waiting_bytes;
        // Each channel may count what it dropped beyond its bound.
        // The places of missed events, and one event of each, are let in beyond the bound.
        let bound = (machine.max_bytes + 256 + 1024) * machine.wanted().count_ones() as usize;
        ensure!(bytes <= bound, "bounded", "{bytes} bytes wait, and the bound is {bound}");
        ensure!(machine.look_ups.len() <= 4, "bounded", "{} look-ups are under way", machine.look_ups.len());
        machine.refused_now = None;
        for number in 0..4 {
            let is_replaying = machine.state.is_replaying(&crate::postgres::channel(number));
            machine.was_replaying[number] = is_replaying;
            let is_held = machine.link == Link::Up
                && machine.is_free(self.now, self.postgres.locked_until.max(self.postgres.down_until))
                && is_replaying;
            let since = match is_held {
                true => *machine.replaying_since[number].get_or_insert(self.now),
                false => {
                    machine.replaying_since[number] = None;
                    self.now
                }
            };
            ensure!(
                self.now - since < 25 * SECOND,
                "durable-not-lost",
                "channel {number} is held back by what it has missed since {since}"
            );
        }
        self.renew_members(m);
        self.check_departed(m, channel)?;
        let machine = &mut self.machines[m];
        for (id, sub) in &mut machine.subs {
            ensure!(
                sub.told_lost == 0 && sub.told_missed.is_empty(),
                "losses-are-told",
                "subscription {id} was told of a loss that was none"
            );
            let receives = sub.is_confirmed && !sub.is_lost && !sub.channels.is_empty();
            ensure!(
                sub.is_stalled == (receives && machine.link == Link::Stalled),
                "losses-are-told",
                "subscription {id} does not know whether the connection has stalled"
            );
        }
        Ok(())
    }

    fn carry_out(&mut self, m: usize, output: Output) -> Checked {
        let life = self.machines[m].life;
        match output {
            Output::Execute(statement) => {
                self.trace.count(self.now, 10);
                let number = self.number();
                let delay = self.delay() + if self.is_slow(4) { self.rng.u64(0..2 * SECOND) } else { 0 };
                let machine = &mut self.machines[m];
                ensure!(machine.executing.is_none(), "one-statement-at-a-time", "a second statement");
                ensure!(
                    machine.link != Link::Down,
                    "one-statement-at-a-time",
                    "a statement with no connection"
                );
                let is_empty = statement.listen.is_empty() && statement.unlisten.is_empty();
                ensure!(!is_empty, "one-statement-at-a-time", "an empty statement");
                machine.executing = Some(number);
                let Some(session) = machine.session else { return Ok(()) };
                self.after(delay, Event::Execute { m, session, number, statement });
            }
            Output::LookUp { look_up, ids } => {
                self.trace.count(self.now, 11);
                let ids: Vec<i64> = ids.into_iter().map(|AttachmentId(id)| id).collect();
                let machine = &mut self.machines[m];
                for (index, id) in ids.iter().enumerate() {
                    let is_in_flight = machine.look_ups.values().flatten().any(|other| other == id)
                        || ids[..index].contains(id);
                    let may_be = machine.may_have_given_up(*id, self.now) || machine.is_tight();
                    ensure!(
                        !is_in_flight || may_be,
                        "rows-looked-up-once",
                        "row {id} is asked for twice at the same time"
                    );
                    if machine.read_now.contains(id) {
                        let count = machine.read_in_vain.entry(*id).or_default();
                        *count += 1;
                        ensure!(*count < 4, "rows-looked-up-once", "row {id} is asked for again and again");
                    }
                }
                machine.look_ups.insert(look_up, ids.clone());
                machine.asked.extend(ids.iter().map(|id| (*id, look_up)));
                let delay = self.delay() + if self.is_slow(20) { self.rng.u64(0..3 * SECOND) } else { 0 };
                let delay = delay.max(self.postgres.locked_until.saturating_sub(self.now));
                let fate = self.fate(self.faults.rows);
                self.after(delay, Event::LookUp { m, life, look_up, ids, fate });
            }
            Output::List { channels, max_age } => {
                self.trace.count(self.now, 17);
                let machine = &mut self.machines[m];
                ensure!(!machine.is_listing, "bounded", "two listings are under way");
                ensure!(machine.link != Link::Down, "durable-in-order", "a listing with no connection");
                machine.is_listing = true;
                machine.listing.0 = self.now;
                let channels: Vec<_> =
                    channels.iter().map(|c| crate::postgres::channel_number(c.as_str())).collect();
                let slow = if self.is_slow(20) { self.rng.u64(0..3 * SECOND) } else { 0 };
                let delay = self.delay() + slow;
                let fate = self.fate(self.faults.rows);
                let max_age = max_age.as_micros() as u64;
                self.after(delay, Event::List { m, life, channels, max_age, fate });
            }
            Output::ReadListening => {
                self.trace.count(self.now, 18);
                let machine = &mut self.machines[m];
                ensure!(!machine.reads_listening, "bounded", "two readings are under way");
                machine.reads_listening = true;
                let slow = if self.is_slow(20) { self.rng.u64(0..2 * SECOND) } else { 0 };
                let delay = self.delay() + slow;
                let is_read = self.now >= self.postgres.down_until && !self.chance(8);
                self.after(delay, Event::Listening { m, life, is_read });
            }
            Output::Publish { request, messages } => {
                self.trace.count(self.now, 12);
                self.note_sent(m, request.as_str(), messages.len() > 1)?;
                let slow = if self.is_slow(10) { self.rng.u64(0..3 * SECOND) } else { 0 };
                let delay = self.delay() + slow;
                let fate = self.fate(self.faults.losses);
                let request = request.as_str().to_owned();
                self.after(delay, Event::Publish { m, life, request, messages, fate });
            }
            Output::Announce(messages) => self.announce(m, messages)?,
            Output::Subscribed { id, outcome } => {
                let is_made = outcome.is_ok();
                self.subscribed(m, id.0, outcome)?;
                self.hosts_subscribed(m, id.0, is_made)?;
            }
            Output::Deliver { subscription, event, .. } => self.delivered(m, subscription.0, event)?,
            Output::Answer { request, node, .. } => {
                self.trace.count(self.now, 13);
                let machine = &mut self.machines[m];
                machine.check_answer(request.as_str(), node.as_str(), &self.peers)?;
            }
            Output::Unread { request, .. } => {
                ensure!(
                    self.machines[m].requests.contains_key(request.as_str()),
                    "request-ends-by-deadline",
                    "an unreadable answer to {request}, which has ended"
                );
            }
            Output::Finished { request, outcome } => {
                self.trace.count(self.now, 14);
                let id = request.as_str();
                let machine = &mut self.machines[m];
                let Some(req) = machine.requests.get(id) else {
                    return violated(
                        "request-ends-by-deadline",
                        format!("{id} ends a second time, or was cancelled"),
                    );
                };
                let is_receiving_nothing = machine.session.is_none_or(|session| {
                    let session = &self.postgres.sessions[session];
                    session.is_paused || !session.is_alive
                }) || req.sent.is_some_and(|sent| machine.deaf_at >= sent);
                ensure!(self.now <= req.deadline, "request-ends-by-deadline", "{id} ends after its deadline");
                match outcome {
                    Ok(summary) => machine.check_summary(
                        self.now,
                        id,
                        &summary,
                        Ending { was_timeout: self.was_timeout, is_receiving_nothing },
                        &self.peers,
                        &self.postgres.commits,
                    )?,
                    Err(error) => {
                        let was_refused = machine.refused_now == Some(req.channel);
                        let is_due = self.now >= req.deadline && !req.published;
                        ensure!(
                            was_refused || is_due || req.may_fail,
                            "request-ends-by-deadline",
                            "{id} fails for no reason: {error}"
                        );
                    }
                }
                machine.requests.remove(id);
                machine.ended.insert(id.to_owned());
                machine.forget_unwanted();
            }
        }
        Ok(())
    }

    pub fn is_slow(&mut self, percent: u8) -> bool {
        self.faults.slow && !self.is_at_rest && self.chance(percent)
    }

    pub fn fate(&mut self, is_faulty: bool) -> Fate {
        if !is_faulty || self.is_at_rest {
            return Fate::Well;
        }
        match self.rng.u8(0..100) {
            0..3 => Fate::Refused,
            3..6 => Fate::Lost,
            6..9 => Fate::LostAfterwards,
            _ => Fate::Well,
        }
    }

    /// A request is published: computes the peers that have to answer it.
    fn note_sent(&mut self, m: usize, id: &str, discovers: bool) -> Checked {
        let now = self.now;
        let machine = &mut self.machines[m];
        let Some(request) = machine.requests.get_mut(id) else {
            return violated("request-ends-by-deadline", format!("{id} is published after its end"));
        };
        ensure!(request.sent.is_none(), "delivered-once", "{id} is published twice");
        request.sent = Some(now);
        request.discovers = discovers;
        let channel = request.channel;
        let heard = &machine.heard[channel];
        request.heard = heard
            .iter()
            .filter(|(_, at)| now - **at <= crate::machine::HEARTBEAT_TIMEOUT)
            .map(|(peer, _)| *peer)
            .collect();
        let healthy = |(index, peer): (usize, &Peer)| {
            let since = peer.healthy_since?;
            (peer.channel == channel && peer.life == Life::Live && since + WELL <= now)
                .then_some((index, since))
        };
        request.healthy = self.peers.iter().enumerate().filter_map(healthy).collect();
        Ok(())
    }

    fn subscribed(&mut self, m: usize, id: u64, outcome: Result<(), Error>) -> Checked {
        self.trace.count(self.now, 15);
        let machine = &mut self.machines[m];
        let snapshot = machine.snapshot_now.clone();
        let refused = machine.refused_now;
        let Some(sub) = machine.subs.get_mut(&id) else {
            return violated("waiters-are-answered", format!("{id} has ended, and is answered"));
        };
        ensure!(!sub.is_confirmed, "waiters-are-answered", "{id} is answered twice");
        if let Err(error) = outcome {
            ensure!(
                refused.is_some_and(|channel| sub.channels.contains(&channel)),
                "waiters-are-answered",
                "{id} is refused, and the server refused none of its channels: {error}"
            );
            machine.subs.remove(&id);
            machine.forget_unwanted();
            return Ok(());
        }
        sub.is_confirmed = true;
        sub.made = Some(self.now);
        sub.snapshot = snapshot;
        if let Some(session) = machine.session
            && machine.link != Link::Down
        {
            for channel in &sub.channels {
                ensure!(
                    self.postgres.listens(session, *channel) || !self.postgres.sessions[session].is_alive,
                    "nothing-lost-while-connected",
                    "{id} is told that it is made, and the server does not listen to {channel}"
                );
            }
        } else {
            ensure!(
                sub.channels.is_empty(),
                "nothing-lost-while-connected",
                "{id} is made with no connection"
            );
        }
        Ok(())
    }

    fn delivered(&mut self, m: usize, id: u64, event: Delivered) -> Checked {
        let machine = &mut self.machines[m];
        match event {
            Delivered::Message(received) => {
                machine.read_in_vain.clear();
                let is_message = matches!(received.content, Content::Message(_));
                let seq = match (received.is_replayed, received.attachment) {
                    (true, Some(attached)) => {
                        let seq = self.postgres.durable.get(&attached.id.0).copied();
                        let Some(seq) = seq else {
                            return violated(
                                "durable-once",
                                format!("{received:?} is replayed, and is not durable"),
                            );
                        };
                        seq
                    }
                    _ => seq_of(received.time),
                };
                self.trace.count(self.now, 16 + ((seq as u64) << 8));
                let commit = &self.postgres.commits[seq];
                if commit.durable_since.is_some() && is_message {
                    machine.check_durable(id, seq)?;
                }
                if received.is_replayed {
                    ensure!(is_message, "durable-not-lost", "#{seq} is replayed as {:?}", received.content);
                    let is_calm = !self.faults.rows && !self.faults.missed;
                    let server = self.postgres.restarted_at;
                    return machine.check_replayed(id, seq, commit, server, is_calm);
                }
                machine.check_delivery(id, seq, commit, &received.text)?;
                if commit.row.is_some_and(|row| machine.listed.contains(&row)) {
                    return Ok(());
                }
                let should_be = match commit.row {
                    Some(_) => machine.found.get(&seq).copied(),
                    None => Some(commit.says.kind().is_some()),
                };
                ensure!(
                    should_be == Some(is_message) || machine.is_tight(),
                    "nothing-lost-while-connected",
                    "#{seq} came as {:?}",
                    received.content
                );
            }
            event => {
                let Some(sub) = machine.subs.get_mut(&id) else {
                    return violated("losses-are-told", format!("{id} has ended, and is told {event:?}"));
                };
                match event {
                    Delivered::Lost(_) => {
                        sub.told_lost += 1;
                        sub.is_stalled = false;
                    }
                    Delivered::Stalled | Delivered::Resumed(_) => {
                        let begins = matches!(event, Delivered::Stalled);
                        ensure!(
                            sub.is_stalled != begins,
                            "losses-are-told",
                            "{id} is told twice of {event:?}"
                        );
                        sub.is_stalled = begins;
                    }
                    // Those of a full reader are told at once; those at the bound at their place.
                    Delivered::Missed(count) if sub.told_missed.first() == Some(&u64::MAX) => {
                        sub.told_missed.push(count);
                    }
                    Delivered::Missed(count) => {
                        sub.budget += count;
                        machine.disturbed_at = self.now;
                    }
                    _ => {
                        ensure!(sub.is_lost, "losses-are-told", "{id} is restored, and was not lost");
                        sub.is_lost = false;
                        let session = machine.session.filter(|_| machine.link != Link::Down);
                        let postgres = &self.postgres;
                        ensure!(
                            session.is_some_and(|session| sub.channels.iter().all(|channel| {
                                postgres.listens(session, *channel) || !postgres.sessions[session].is_alive
                            })),
                            "losses-are-told",
                            "{id} is restored before its channels are listened to"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    // The driver of a machine.

    pub fn reconnect(&mut self, m: usize, delay: u64) {
        self.machines[m].connects += 1;
        let number = self.machines[m].connects;
        self.after(delay, Event::Connect { m, number });
    }

    pub fn disconnect(&mut self, m: usize) -> Checked {
        let now = self.now;
        let machine = &mut self.machines[m];
        if let Some(session) = machine.session.take() {
            self.postgres.sessions[session].is_alive = false;
        }
        machine.link = Link::Down;
        machine.executing = None;
        machine.disturbed_at = now;
        machine.beat = machine.beat.wrapping_add(1);
        machine.listening_since = [None; 4];
        machine.refused_at = [None; 4];
        machine.lose();
        let told: Vec<u64> = machine
            .subs
            .iter()
            .filter(|(_, sub)| sub.is_confirmed && !sub.is_lost && !sub.channels.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in &told {
            if let Some(sub) = machine.subs.get_mut(id) {
                sub.is_lost = true;
            }
        }
        let instant = self.instant(now);
        let machine = &mut self.machines[m];
        self.trace.add(now, &format!("machine {m} <"), format_args!("Disconnected"));
        machine.state.handle(instant, Input::Disconnected(Error::ConnectionLost("gone".into())));
        while let Some(output) = self.machines[m].state.poll_output(instant) {
            if self.trace.is_on() {
                self.trace.add(now, &format!("machine {m} >"), format_args!("{}", brief(&output)));
            }
            self.carry_out(m, output)?;
        }
        for (id, sub) in &mut self.machines[m].subs {
            let is_told = std::mem::take(&mut sub.told_lost);
            ensure!(
                is_told == u32::from(told.contains(id)),
                "losses-are-told",
                "subscription {id} was told {is_told} times of the loss"
            );
        }
        self.check(m)?;
        let longest = if self.chance(20) && !self.is_at_rest { 15 * SECOND } else { SECOND };
        let delay = self.rng.u64(MILLI..longest);
        self.reconnect(m, delay);
        Ok(())
    }

    pub fn accept(&mut self, m: usize, number: u32) {
        if self.machines[m].connects != number {
            return;
        }
        if self.now < self.postgres.down_until {
            let delay = self.postgres.down_until - self.now + self.rng.u64(MILLI..SECOND);
            return self.reconnect(m, delay);
        }
        let session = self.postgres.open(Owner::Machine(m));
        let (mut listening, mut snapshot) = (Vec::new(), None);
        if self.chance(50) {
            let (listen, _) = self.machines[m].state.channel_sets();
            let statement = Statement { listen, unlisten: Vec::new() };
            if self.postgres.execute(self.now, session, &statement).is_ok() {
                let number = |c: &pgio::protocol::Channel| crate::postgres::channel_number(c.as_str());
                listening = statement.listen.iter().map(number).collect();
                snapshot = Some(self.postgres.snapshot(self.now));
            }
        }
        let delay = self.delay();
        self.postgres.sessions[session].last_arrival = self.now + delay;
        self.after(delay, Event::Connected { m, number, session, listening, snapshot });
    }

    pub fn connected(
        &mut self,
        m: usize,
        number: u32,
        session: usize,
        listening: &[usize],
        snapshot: Option<Snapshot>,
    ) -> Checked {
        if self.machines[m].connects != number {
            self.postgres.sessions[session].is_alive = false;
            return Ok(());
        }
        if !self.postgres.sessions[session].is_alive {
            self.reconnect(m, 100 * MILLI);
            return Ok(());
        }
        let machine = &mut self.machines[m];
        machine.session = Some(session);
        machine.link = Link::Up;
        machine.executing = None;
        machine.refreshed_at = self.now;
        machine.restart_rows(self.now);
        for channel in listening {
            machine.listening_since[*channel] = Some(self.now);
        }
        machine.forget_unwanted();
        let listening = listening.iter().map(|number| channel(*number)).collect();
        self.after(50 * MILLI, Event::LockSnapshot { m, session });
        self.give_confirmation(m, snapshot, |snapshot| Input::Connected { listening, snapshot })
    }

    /// The server has executed a statement of a machine.
    pub fn execute(&mut self, m: usize, session: usize, number: u64, statement: &Statement) {
        if !self.postgres.sessions[session].is_alive {
            return;
        }
        let outcome = self.postgres.execute(self.now, session, statement);
        let snapshot = (!statement.listen.is_empty()).then(|| self.postgres.snapshot(self.now));
        let listen = statement.listen.iter().map(|c| crate::postgres::channel_number(c.as_str())).collect();
        self.trace.add(self.now, "postgres", format_args!("{statement:?} for machine {m}: {outcome:?}"));
        let jitter = self.rng.u64(0..3 * MILLI);
        let at = self.postgres.sessions[session].last_arrival.max(self.now + self.rng.u64(200..20 * MILLI));
        self.after(
            at + jitter - self.now,
            Event::Arrive { session, item: Item::Done { number, listen, outcome, snapshot } },
        );
    }

    /// Something arrives at a client.
    pub fn arrive(&mut self, session: usize, item: Item) -> Checked {
        let Session { owner, is_paused, held, .. } = &mut self.postgres.sessions[session];
        if *is_paused {
            held.push(item);
            return Ok(());
        }
        match *owner {
            Owner::Peer(p) => {
                if let Item::Commit(seq) = item {
                    self.peer_hears(p, session, seq);
                }
                Ok(())
            }
            Owner::Machine(m) => {
                if self.machines[m].session != Some(session) {
                    return Ok(());
                }
                if self.machines[m].link == Link::Stalled {
                    let machine = &mut self.machines[m];
                    machine.link = Link::Up;
                    machine.disturbed_at = self.now;
                    machine.refreshed_at = self.now;
                    machine.restart_rows(self.now);
                    self.give(m, Input::Resumed)?;
                }
                match item {
                    Item::Done { number, listen, outcome, snapshot } => {
                        self.statement_done(m, number, &listen, outcome, snapshot)
                    }
                    Item::Locks(look) => self.give(m, Input::Locks(look)),
                    Item::Commit(seq) => {
                        self.notify(m, seq)?;
                        let host = self.machines[m].hosts.get(&self.postgres.commits[seq].channel);
                        if let Some(p) =
                            host.and_then(|host| host.peer).filter(|p| self.peers[*p].life == Life::Live)
                        {
                            self.peer_reacts(p, seq);
                        }
                        Ok(())
                    }
                }
            }
        }
    }

    fn statement_done(
        &mut self,
        m: usize,
        number: u64,
        listen: &[usize],
        outcome: Result<(), Error>,
        snapshot: Option<Snapshot>,
    ) -> Checked {
        let machine = &mut self.machines[m];
        if machine.executing != Some(number) {
            return Ok(());
        }
        machine.executing = None;
        match (&outcome, listen) {
            (Ok(()), _) => {
                for channel in listen {
                    machine.refused_at[*channel] = None;
                    machine.listening_since[*channel].get_or_insert(self.now);
                    machine.refreshed_at = self.now;
                }
                machine.forget_unwanted();
            }
            (Err(_), [channel]) => {
                machine.refused_at[*channel] = Some(self.now);
                machine.refused_now = Some(*channel);
            }
            _ => {}
        }
        self.give_confirmation(m, snapshot, |snapshot| Input::StatementDone(outcome.map(|()| snapshot)))
    }

    /// Gives a machine a confirmation with the snapshot of its LISTEN.
    fn give_confirmation(
        &mut self,
        m: usize,
        snapshot: Option<Snapshot>,
        input: impl FnOnce(Option<Arc<ListenSnapshot>>) -> Input,
    ) -> Checked {
        let of_server = snapshot.as_ref().map(|snapshot| snapshot.of_server.clone());
        self.machines[m].snapshot_now = snapshot;
        let checked = self.give(m, input(of_server));
        self.machines[m].snapshot_now = None;
        checked
    }

    fn notify(&mut self, m: usize, seq: usize) -> Checked {
        if self.faults.missed && !self.is_at_rest && self.rng.u16(0..1000) < 4 {
            return self.miss(m, 1);
        }
        let commit = &self.postgres.commits[seq];
        self.machines[m].note_given(self.now, seq, commit);
        let input = Input::Notification {
            channel: self.names[commit.channel].clone(),
            text: commit.text.clone(),
            arrival: Arrival { time: time_of(seq), backend: None },
        };
        self.give(m, input)
    }

    /// The reader of the connection was too slow.
    fn miss(&mut self, m: usize, count: u64) -> Checked {
        let (now, instant) = (self.now, self.instant(self.now));
        let machine = &mut self.machines[m];
        machine.disturbed_at = now;
        machine.refreshed_at = now;
        machine.lose();
        let missing: Vec<usize> = machine.hosts.values().filter_map(|host| host.peer).collect();
        missing.into_iter().for_each(|p| self.peers[p].healthy_since = None);
        let machine = &mut self.machines[m];
        machine.subs.values_mut().for_each(|sub| sub.told_missed.push(u64::MAX));
        self.trace.add(now, &format!("machine {m} <"), format_args!("Missed {count}"));
        machine.state.handle(instant, Input::Missed(count));
        while let Some(output) = self.machines[m].state.poll_output(instant) {
            self.carry_out(m, output)?;
        }
        for (id, sub) in &mut self.machines[m].subs {
            let told = std::mem::take(&mut sub.told_missed);
            ensure!(
                told == [u64::MAX, count],
                "losses-are-told",
                "{id} was told {told:?} of missed messages"
            );
        }
        self.check(m)
    }

    pub fn look_up(&mut self, m: usize, life: u32, look_up: LookUpId, ids: Vec<i64>, fate: Fate) {
        if self.now < self.postgres.locked_until {
            let delay = self.postgres.locked_until - self.now;
            return self.after(delay, Event::LookUp { m, life, look_up, ids, fate });
        }
        let is_down = self.now < self.postgres.down_until;
        let rows = match fate {
            Fate::Refused => Err(Error::TablePrivilege {
                table: "rows".into(),
                reason: "canceling statement due to statement timeout".into(),
            }),
            Fate::Lost | Fate::LostAfterwards => Err(Error::ConnectionLost("broken pipe".into())),
            Fate::Well if is_down => Err(Error::ConnectionLost("refused".into())),
            Fate::Well => {
                let row = |id: &i64| {
                    let (_, document) = self.postgres.rows.get(id)?;
                    Some((AttachmentId(*id), Row::Document(document.clone().into())))
                };
                Ok(ids.iter().filter_map(row).collect())
            }
        };
        let delay = self.delay();
        self.after(delay, Event::Rows { m, life, look_up, ids, rows });
    }

    pub fn rows(
        &mut self,
        m: usize,
        life: u32,
        look_up: LookUpId,
        ids: &[i64],
        rows: Result<HashMap<AttachmentId, Row>, Error>,
    ) -> Checked {
        let machine = &mut self.machines[m];
        if machine.life != life {
            return Ok(());
        }
        machine.look_ups.remove(&look_up);
        if rows.is_ok() {
            machine.answered_at = Some(self.now);
        }
        let is_lost = matches!(rows, Err(Error::ConnectionLost(_) | Error::Connect { .. }));
        if is_lost {
            machine.extend_rows(self.now);
        } else {
            for id in ids {
                machine.listed_since.remove(id);
                if machine.asked.get(id) == Some(&look_up) {
                    machine
                        .resolve(*id, rows.as_ref().is_ok_and(|rows| rows.contains_key(&AttachmentId(*id))));
                }
            }
        }
        if let Ok(rows) = &rows {
            machine.read_now = rows.keys().map(|id| id.0).collect();
        }
        self.give(m, Input::Rows { look_up, rows })?;
        self.machines[m].read_now.clear();
        Ok(())
    }

    pub fn publish(&mut self, m: usize, life: u32, request: String, messages: Vec<Message>, fate: Fate) {
        let is_down = self.now < self.postgres.down_until;
        let outcome = match fate {
            _ if is_down => Err(Error::ConnectionLost("the server is away".into())),
            Fate::Refused => {
                Err(Error::TablePrivilege { table: "rows".into(), reason: "no space left".into() })
            }
            Fate::Lost => Err(Error::ConnectionLost("broken pipe".into())),
            Fate::LostAfterwards | Fate::Well => {
                for message in messages {
                    self.commit_message(m, message);
                }
                match fate {
                    Fate::Well => Ok(()),
                    _ => Err(Error::ConnectionLost("broken pipe".into())),
                }
            }
        };
        let slow = if self.is_slow(5) { self.rng.u64(0..2 * SECOND) } else { 0 };
        let delay = self.delay() + slow;
        self.after(delay, Event::Published { m, life, request, outcome });
    }

    /// Lists the rows of durable events.
    pub fn list(&mut self, m: usize, life: u32, channels: &[usize], max_age: u64, fate: Fate) {
        let is_locked = self.now < self.postgres.locked_until;
        let waits = (self.postgres.locked_until.saturating_sub(self.now)).min(4 * SECOND);
        let is_down = self.now < self.postgres.down_until;
        let rows = match fate {
            Fate::Lost | Fate::LostAfterwards => Err(Error::ConnectionLost("broken pipe".into())),
            _ if is_down => Err(Error::ConnectionLost("refused".into())),
            _ if is_locked => Err(Error::TableLocked { table: "rows".into(), pid: None }),
            Fate::Refused => Err(Error::TablePrivilege { table: "rows".into(), reason: "no SELECT".into() }),
            Fate::Well => {
                let row = |(id, age)| DurableRow {
                    id: AttachmentId(id),
                    age: Duration::from_micros(age),
                    origin: self.postgres.origin(id),
                };
                let of = |number: &usize| {
                    let rows = self.postgres.list(self.now, *number, max_age);
                    (channel(*number), rows.into_iter().map(row).collect::<Vec<_>>())
                };
                Ok(channels.iter().map(of).filter(|(_, rows)| !rows.is_empty()).collect())
            }
        };
        // The scan of a large table takes so long that the channel is released before.
        let is_long = self.faults.rows && self.is_slow(5);
        let scan = if is_long { self.rng.u64(8 * SECOND..14 * SECOND) } else { 0 };
        let delay = self.delay() + waits + scan;
        self.after(delay, Event::Listed { m, life, rows });
    }

    pub fn listed(&mut self, m: usize, life: u32, rows: Result<DurableRows, Error>) -> Checked {
        let machine = &mut self.machines[m];
        if machine.life != life {
            return Ok(());
        }
        machine.is_listing = false;
        machine.listing.1 = machine.listing.1.max(self.now - machine.listing.0);
        match &rows {
            Ok(rows) => {
                machine.listings += 1;
                for id in rows.values().flatten().map(|row| row.id.0) {
                    machine.listed.insert(id);
                    machine.listed_since.entry(id).or_insert(self.now);
                }
            }
            Err(Error::TablePrivilege { .. }) => machine.unlisted_at = Some(self.now),
            Err(_) => {}
        }
        self.give(m, Input::Listed { rows, time: UNIX_EPOCH })
    }

    /// Postgres shows the sessions of the servers, at times also one that belongs to no server.
    pub fn listening(&mut self, m: usize, life: u32, is_read: bool) -> Checked {
        if self.machines[m].life != life {
            return Ok(());
        }
        self.machines[m].reads_listening = false;
        let mut sessions = ListeningSessions::default();
        for (index, peer) in self.peers.iter().enumerate().filter(|(_, peer)| peer.channel == 0) {
            let session = ListeningSession::new(index as i32, None);
            let instance = Uid::from(peer.uid.as_str()).instance();
            match (peer.life, peer.version, instance) {
                (Life::Live, Version::Pgio, Some(instance)) => {
                    sessions.instances.insert(instance);
                    sessions.pgio.insert(instance, session);
                }
                (Life::Live, _, _) => sessions.node.push(session),
                _ => {}
            }
        }
        if self.chance(8) {
            sessions.node.push(ListeningSession::new(-1, None));
        }
        self.give(m, Input::Listening(is_read.then_some(sessions)))
    }

    /// A transaction with a durable event begins, and commits some time later.
    pub fn emit_durable(&mut self) {
        if self.now < self.postgres.down_until {
            return;
        }
        let (row, channel, number) =
            (self.postgres.next_row(), self.rng.usize(0..self.channels), self.number());
        let delay = match self.rng.u8(0..10) {
            0 => self.rng.u64(0..4 * SECOND),
            1..4 => self.rng.u64(0..100 * MILLI),
            _ => 0,
        };
        self.postgres.begin(self.now, row);
        self.after(delay, Event::CommitDurable { row, began: self.now, channel, number });
    }

    pub fn commit_durable(&mut self, row: i64, began: u64, channel: usize, number: u64) {
        // A transaction does not survive a restart.
        if self.now < self.postgres.down_until || self.postgres.restarted_at > began {
            return;
        }
        self.postgres.end_transaction(row);
        let payload = Value::from("x".repeat((number as usize % 4) * 1000));
        let event = EventArgs::new("e", [Value::from(number), payload]);
        let body = Body::Broadcast { opts: Default::default(), event, request_id: None };
        let message = Message::new(pgio::protocol::Uid::emitter(), NAMESPACES[channel], body);
        let encoded = message.encode_durable(&crate::postgres::channel(channel));
        let Ok(pgio::protocol::Encoded::Attachment { document, .. }) = encoded else { panic!("{encoded:?}") };
        let seq = self.postgres.commits.len();
        self.postgres.rows.insert(row, (began, document));
        self.postgres.durable.insert(row, seq);
        let (now, says) = (self.now, Says::Broadcast { number, request: None });
        let server = self.postgres.restarted_at as i64;
        for sub in self.machines.iter_mut().flat_map(|machine| machine.subs.values_mut()) {
            // A snapshot also shows that a transaction that began before was still running.
            let is_after =
                |made| made <= began || sub.snapshot.as_ref().is_some_and(|of| of.of_server.server == server);
            let was_there = sub.made.is_some_and(|made| made < now && is_after(made));
            if was_there && sub.channels.contains(&channel) && sub.taste.wants(says.kind()) {
                sub.due.insert(seq);
            }
        }
        let text = header("emitter", pgio::protocol::MessageKind::Broadcast, row);
        let (sender, uid) = (Sender::Emitter, "emitter".to_owned());
        let durable_since = Some(began);
        self.commit(Commit {
            channel,
            sender,
            uid,
            says_nsp: false,
            says,
            row: Some(row),
            durable_since,
            text,
        });
    }

    pub fn commit_message(&mut self, m: usize, message: Message) {
        let number = self.number();
        let says = match &message.body {
            Body::FetchSockets { request_id, .. } => {
                Says::FetchSockets { request: request_id.as_str().into() }
            }
            Body::ServerSideEmit { request_id, .. } => {
                Says::ServerSideEmit { number, request: request_id.as_ref().map(|id| id.as_str().into()) }
            }
            Body::Broadcast { request_id, .. } => {
                Says::Broadcast { number, request: request_id.as_ref().map(|id| id.as_str().into()) }
            }
            Body::Heartbeat => Says::Heartbeat,
            Body::AdapterClose => Says::Goodbye,
            _ => Says::InitialHeartbeat,
        };
        let number =
            NAMESPACES.iter().position(|nsp| *nsp == message.nsp.as_str()).expect("a namespace here");
        let is_large = says.asks().is_some() && self.chance(5);
        let (row, text) = match message.encode(if is_large { 0 } else { 8000 }) {
            Ok(pgio::protocol::Encoded::Inline(text)) => (None, text),
            Ok(pgio::protocol::Encoded::Attachment { document, .. }) => {
                let row = self.postgres.insert_row(self.now, document);
                (Some(row), header(message.uid.as_str(), message.kind(), row))
            }
            Err(error) => panic!("a short message: {error}"),
        };
        let asked = says.asks().map(str::to_owned);
        let own = self.peers.iter().position(|peer| peer.uid == message.uid.as_str());
        if let Some(p) = own {
            let (now, next) = (self.now, self.postgres.commits.len());
            let peer = &mut self.peers[p];
            peer.last_commit = now;
            if peer.member.is_some() {
                peer.started.get_or_insert(next);
            }
            peer.life = match peer.life {
                _ if says == Says::Goodbye => Life::Closed,
                // A node of a machine: its hello.
                Life::Starting => Life::Live,
                life => life,
            };
        }
        let sender = own.map_or(Sender::Machine(m), Sender::Peer);
        let uid = message.uid.as_str().to_owned();
        let seq = self.commit(Commit {
            channel: number,
            sender,
            uid,
            says_nsp: true,
            says,
            row,
            durable_since: None,
            text,
        });
        if let Some(request) = asked.and_then(|id| self.machines[m].requests.get_mut(&id)) {
            request.question = seq;
        }
    }

    /// Commits a notification: every session that listens is sent it.
    pub fn commit(&mut self, commit: Commit) -> Option<usize> {
        let seq = self.postgres.commits.len();
        let number = commit.channel;
        if self.trace.is_on() {
            self.trace.add(
                self.now,
                "postgres",
                format_args!("#{seq} on {}: {}", CHANNELS[number], commit.text),
            );
        }
        for (m, machine) in self.machines.iter().enumerate() {
            let Some(session) = machine.session.filter(|s| self.postgres.sessions[*s].is_alive) else {
                continue;
            };
            let must_listen = |sub: &&Sub| sub.is_confirmed && !sub.is_lost && sub.channels.contains(&number);
            if machine.link != Link::Down
                && !self.postgres.listens(session, number)
                && let Some(sub) = machine.subs.values().find(must_listen)
            {
                self.violation = Some(Violation {
                    invariant: "nothing-lost-while-connected",
                    why: format!("machine {m} does not listen to {number}, which {:?} reads", sub.channels),
                });
            }
        }
        if commit.says == Says::InitialHeartbeat {
            self.asked_at[number] = Some(self.now);
        }
        self.postgres.commits.push(commit);
        for session in 0..self.postgres.sessions.len() {
            if !self.postgres.sessions[session].is_alive || !self.postgres.listens(session, number) {
                continue;
            }
            let at =
                (self.now + self.rng.u64(200..60 * MILLI)).max(self.postgres.sessions[session].last_arrival);
            self.postgres.sessions[session].last_arrival = at;
            self.after(at - self.now, Event::Arrive { session, item: Item::Commit(seq) });
        }
        Some(seq)
    }
}

/// A readable summary of it.
trait Brief: std::fmt::Debug {
    fn brief(&self) -> Option<String>;
}

fn brief(what: &dyn Brief) -> String {
    let text = what.brief().unwrap_or_else(|| format!("{what:?}"));
    let shorter =
        text.replace("Channel(\"socket.io#", "(\"").replace("SubscriptionId", "").replace("AttachmentId", "");
    shorter.replace("Statement { ", "{ ")
}

/// A time that holds the number of a commit. The clock of every platform has microseconds.
fn time_of(seq: usize) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(seq as u64)
}

/// The number that [`time_of`] has put there.
fn seq_of(time: SystemTime) -> usize {
    time.duration_since(UNIX_EPOCH).expect("a time of `time_of`").as_micros() as usize
}

impl Brief for Input {
    fn brief(&self) -> Option<String> {
        match self {
            Self::Notification { arrival, .. } => Some(format!("Notification #{}", seq_of(arrival.time))),
            _ => None,
        }
    }
}

impl Brief for Output {
    fn brief(&self) -> Option<String> {
        match self {
            Self::Deliver { subscription, event: Delivered::Message(received), .. } => {
                let seq = seq_of(received.time);
                let failure = match &received.content {
                    Content::Message(_) => "",
                    Content::Missing(_) => ", without its row",
                    _ => ", unreadable",
                };
                Some(format!("Deliver #{seq} to {}{failure}", subscription.0))
            }
            Self::Publish { request, messages } => {
                let kinds: Vec<_> = messages.iter().map(|message| message.kind().name()).collect();
                Some(format!("Publish {request}: {}", kinds.join(", ")))
            }
            _ => None,
        }
    }
}
