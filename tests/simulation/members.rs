//! The nodes of the machines under test: how the world hosts them, and which nodes have to count each other.

use pgio::Error;
use pgio::cluster::state::{Input, SubscriptionId};
use pgio::protocol::{LivenessLock, LockSnapshot, Message, MessageKind, Uid};

use crate::machine::{Checked, HEARTBEAT_TIMEOUT, Host, Link, Machine, Taste, ensure, violated};
use crate::peer::{Life, Peer};
use crate::postgres::{Item, NAMESPACES, channel};
use crate::trace::SECOND;
use crate::wire::{Says, Version};
use crate::world::{Event, Fate, MILLI, World};

/// The interval between two lock snapshots of a machine.
const LOOK_INTERVAL: u64 = 2 * SECOND;

/// How long both have to be well before one must count the other: a heartbeat interval, and what a failed message and a
/// failed look cost.
const SETTLED: u64 = 16 * SECOND;

/// How soon a server that has just started counts those that were there.
const PROMPT: u64 = SECOND + 700 * MILLI;

/// How long after a disturbance heartbeats may still be due.
const UNQUIET: u64 = HEARTBEAT_TIMEOUT + 6 * SECOND;

impl World {
    /// A machine hosts a node in a channel: it subscribes first.
    pub fn host(&mut self, m: usize) -> Checked {
        let number = self.rng.usize(0..self.channels);
        if self.machines[m].hosts.contains_key(&number) {
            return Ok(());
        }
        let sub = self.machines[m].last_sub + 1;
        self.machines[m].hosts.insert(number, Host { sub, peer: None });
        self.subscribe_to(m, vec![number], Taste::Broadcasts)
    }

    /// A subscription was confirmed or refused: that of a host joins, or never was.
    pub fn hosts_subscribed(&mut self, m: usize, sub: u64, is_made: bool) -> Checked {
        let host = self.machines[m].hosts.iter().find(|(_, host)| host.sub == sub);
        let Some(number) = host.map(|(number, _)| *number) else { return Ok(()) };
        if !is_made {
            self.machines[m].hosts.remove(&number);
            return Ok(());
        }
        let Machine { instance, life, .. } = self.machines[m];
        let node = self.number();
        let uid = instance.uid(u32::try_from(node).expect("few numbers"));
        let p = self.peers.len();
        let mut peer = Peer::new(uid.to_string(), Version::Pgio, number);
        peer.clients = self.rng.u64(0..3);
        peer.answering = peer.clients;
        peer.handles_server_events = true;
        peer.member = Some((m, life));
        self.peers.push(peer);
        self.machines[m].hosts.insert(number, Host { sub, peer: Some(p) });
        let (subscription, hello_pending) = (SubscriptionId(sub), true);
        self.pending_inputs
            .push((m, Input::Join { subscription, channel: channel(number), uid, hello_pending }));
        Ok(())
    }

    /// A host ends: in order, with a goodbye that fails at times, or by dropping its subscription.
    pub fn unhost(&mut self, m: usize, number: usize) -> Checked {
        let Some(Host { sub, peer: Some(p) }) = self.machines[m].hosts.get(&number).copied() else {
            return Ok(());
        };
        self.machines[m].hosts.remove(&number);
        if self.chance(50) {
            let uid = Uid::from(self.peers[p].uid.as_str());
            self.give(m, Input::Leave { channel: channel(number), uid: uid.clone() })?;
            // Messages in flight are published before the goodbye.
            let is_free = !self.machines[m].is_announcing && self.peers[p].life == Life::Live;
            let is_said =
                is_free && self.now >= self.postgres.down_until && (self.is_at_rest || self.chance(80));
            match is_said {
                true => self.peer_says(p, Says::Goodbye, false),
                false => self.give(m, Input::QueueGoodbye { channel: channel(number), uid })?,
            }
        }
        self.end_member(p, Life::Stopped);
        self.unsubscribe(m, sub)
    }

    /// The process of a machine has ended. The server keeps its session for a while at times, as it does not know.
    pub fn end_members(&mut self, m: usize, session: Option<usize>) {
        let keeps = session.filter(|_| self.chance(40));
        if let Some(session) = keeps {
            let lasts = self.rng.u64(0..30 * SECOND);
            self.after(lasts, Event::DropSession { session });
        } else if let Some(session) = session {
            self.postgres.sessions[session].is_alive = false;
        }
        let machine = &self.machines[m];
        let looks_well =
            machine.can_see && machine.looked_badly_at.max(machine.troubled_at) + SETTLED < self.now;
        for host in machine.hosts.clone().into_values() {
            let Some(p) = host.peer else { continue };
            let peer = &mut self.peers[p];
            peer.was_quiet = looks_well && peer.healthy_since.is_some_and(|since| since + SETTLED < self.now);
            peer.kept_by = keeps;
            peer.dropped_at = keeps.is_none().then_some(self.now);
            self.end_member(p, Life::Stopped);
        }
    }

    pub fn drop_session(&mut self, session: usize) {
        self.postgres.sessions[session].is_alive = false;
        let now = self.now;
        for peer in self.peers.iter_mut().filter(|peer| peer.kept_by == Some(session)) {
            peer.dropped_at = Some(now);
        }
    }

    pub fn end_member(&mut self, p: usize, life: Life) {
        let now = self.now;
        let peer = &mut self.peers[p];
        if matches!(peer.life, Life::Starting | Life::Live) {
            peer.life = life;
        }
        peer.healthy_since = None;
        peer.stopped_at.get_or_insert(now);
    }

    /// Whether each node of a machine can hear and be heard.
    pub fn renew_members(&mut self, m: usize) {
        let machine = &self.machines[m];
        let is_up = machine.link == Link::Up
            && !machine.is_troubled
            && machine.session.is_some_and(|session| {
                let session = &self.postgres.sessions[session];
                session.is_alive && !session.is_paused
            });
        let (now, hosts) = (self.now, machine.hosts.clone());
        for (number, host) in hosts {
            let Some(p) = host.peer else { continue };
            let is_well = is_up && self.machines[m].listening_since[number].is_some();
            let peer = &mut self.peers[p];
            peer.healthy_since = match (is_well && peer.life == Life::Live, peer.healthy_since) {
                (true, None) => Some(now),
                (true, since) => since,
                (false, _) => None,
            };
        }
    }

    /// The driver's ping: it reads the locks, then takes one.
    pub fn look(&mut self, m: usize, session: usize) {
        let machine = &self.machines[m];
        if self.is_over() || machine.session != Some(session) || !self.postgres.sessions[session].is_alive {
            return;
        }
        self.after(LOOK_INTERVAL, Event::LockSnapshot { m, session });
        if self.postgres.sessions[session].is_paused {
            return;
        }
        let is_refused = self.faults.refusals && !self.is_at_rest && self.chance(2);
        let machine = &mut self.machines[m];
        let look = if is_refused || !machine.can_see {
            if is_refused {
                machine.looked_badly_at = self.now;
            }
            LockSnapshot { locks: None, holds_lock: false }
        } else {
            let alive = self.postgres.sessions.iter().filter(|session| session.is_alive);
            let mut locks: Vec<LivenessLock> = alive.filter_map(|session| session.lock).collect();
            locks.sort_unstable();
            machine.beat = machine.beat.wrapping_add(1);
            let lock = LivenessLock { instance: machine.instance, number: machine.beat };
            self.postgres.sessions[session].lock = Some(lock);
            LockSnapshot { locks: Some(locks), holds_lock: true }
        };
        let at = self.postgres.sessions[session].last_arrival.max(self.now + self.rng.u64(200..20 * MILLI));
        self.postgres.sessions[session].last_arrival = at;
        self.after(at - self.now, Event::Arrive { session, item: Item::Locks(look) });
    }

    /// A machine publishes signs of life.
    pub fn announce(&mut self, m: usize, messages: Vec<Message>) -> Checked {
        let machine = &mut self.machines[m];
        ensure!(!machine.is_announcing, "one-announcement-at-a-time", "a second group of signs of life");
        ensure!(!messages.is_empty(), "one-announcement-at-a-time", "an empty group of signs of life");
        machine.is_announcing = true;
        for message in &messages {
            self.check_need(m, message)?;
        }
        let life = self.machines[m].life;
        let slow = if self.is_slow(10) { self.rng.u64(0..3 * SECOND) } else { 0 };
        let delay = self.delay() + slow;
        let fate = self.fate(self.faults.losses);
        if fate != Fate::Well || slow > 0 {
            self.machines[m].is_troubled = true;
            self.machines[m].troubled_at = self.now;
            self.renew_members(m);
        }
        self.after(delay, Event::Announce { m, life, messages, fate });
        Ok(())
    }

    pub fn announced(&mut self, m: usize, life: u32, messages: Vec<Message>, fate: Fate) -> Checked {
        let is_down = self.now < self.postgres.down_until;
        let outcome = match fate {
            _ if is_down => Err(Error::ConnectionLost("the server is away".into())),
            Fate::Refused | Fate::Lost => Err(Error::ConnectionLost("broken pipe".into())),
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
        if self.machines[m].life != life {
            return Ok(());
        }
        let machine = &mut self.machines[m];
        machine.is_announcing = false;
        machine.is_troubled = outcome.is_err();
        if outcome.is_err() {
            machine.troubled_at = self.now;
        }
        self.give(m, Input::Announced(outcome))
    }

    /// Heartbeats are sent only while a peer needs them.
    fn check_need(&self, m: usize, message: &Message) -> Checked {
        let Some(number) = NAMESPACES.iter().position(|nsp| *nsp == message.nsp.as_str()) else {
            return violated("quiet-unless-needed", format!("{message:?} is for no channel of this world"));
        };
        let machine = &self.machines[m];
        let lately = |at: u64| self.now < at + UNQUIET;
        let own = machine.hosts.get(&number).and_then(|host| host.peer);
        if message.kind() != MessageKind::Heartbeat {
            return Ok(());
        }
        let Some(own) = own.filter(|own| self.peers[*own].uid == message.uid.as_str()) else {
            return violated("no-ghost-peers", format!("{} sends heartbeats and has ended", message.uid));
        };
        let is_unsettled = !machine.can_see
            || lately(machine.looked_badly_at)
            || lately(machine.troubled_at)
            || lately(machine.disturbed_at)
            || self.peers[own].healthy_since.is_none_or(lately);
        let was_asked = self.asked_at[number].is_some_and(|at| self.now < at + 6 * SECOND);
        let needs = |(p, peer): (usize, &Peer)| {
            let is_settled = peer.member.is_some_and(|(other, life)| {
                let machine = &self.machines[other];
                // The server may have dropped its session, and with it the lock, before the machine knows.
                let holds_lock = machine.session.is_some_and(|session| {
                    let session = &self.postgres.sessions[session];
                    session.is_alive && session.lock.is_some()
                });
                machine.can_see
                    && holds_lock
                    && machine.life == life
                    && !lately(machine.looked_badly_at)
                    && !lately(machine.disturbed_at)
            });
            p != own && peer.channel == number && lately(peer.last_commit) && !is_settled
        };
        let is_needed = is_unsettled || was_asked || self.peers.iter().enumerate().any(needs);
        ensure!(
            is_needed,
            "quiet-unless-needed",
            "machine {m} sends a heartbeat on {number}, and all others there see its lock"
        );
        Ok(())
    }

    /// A model of a Node server counts whoever speaks.
    pub fn count(&mut self, p: usize, seq: usize) {
        let commit = &self.postgres.commits[seq];
        let crate::postgres::Sender::Peer(sender) = commit.sender else { return };
        let peer = &mut self.peers[p];
        if sender == p || (peer.version == Version::V05 && !commit.says_nsp) || commit.says.kind().is_none() {
            return;
        }
        match commit.says {
            Says::Goodbye if peer.version != Version::V03 => drop(peer.counts.remove(&sender)),
            _ => drop(peer.counts.insert(sender, self.now)),
        }
    }

    /// Nodes that have been healthy for a while count each other.
    pub fn check_counts(&self) -> Checked {
        let is_settled = |peer: &Peer| {
            peer.life == Life::Live && peer.healthy_since.is_some_and(|since| since + SETTLED <= self.now)
        };
        for (p, peer) in self.peers.iter().enumerate() {
            let others = self
                .peers
                .iter()
                .enumerate()
                .filter(|(q, other)| *q != p && other.channel == peer.channel && is_settled(other));
            match peer.member {
                None => {
                    // Whether Node servers count each other is not ours to judge.
                    let members: Vec<_> = others.filter(|(_, other)| other.member.is_some()).collect();
                    let counts =
                        |q: &usize| peer.counts.get(q).is_some_and(|at| self.now <= at + HEARTBEAT_TIMEOUT);
                    let is_new = peer.life == Life::Live
                        && peer.hello_at.zip(peer.healthy_since).is_some_and(|(hello, since)| {
                            since <= hello + SECOND / 2 && since.max(hello) + PROMPT <= self.now
                        });
                    for (q, other) in members {
                        let troubled_at = other.member.map_or(0, |(m, _)| self.machines[m].troubled_at);
                        let is_due = is_settled(peer) || (is_new && troubled_at + 5 * SECOND < self.now);
                        ensure!(
                            !is_due || counts(&q),
                            "counted-while-live",
                            "{} of {} does not count {}, which is live",
                            peer.uid,
                            peer.version.name(),
                            other.uid
                        );
                    }
                }
                Some((m, life)) if is_settled(peer) && self.machines[m].life == life => {
                    let instant = self.instant(self.now);
                    let (live, _) = self.machines[m].state.live_nodes(&channel(peer.channel), instant);
                    for (_, other) in others {
                        ensure!(
                            live.iter().any(|node| node.uid.as_str() == other.uid),
                            "counted-while-live",
                            "machine {m} with {} does not count {} of {}, which is live",
                            peer.uid,
                            other.uid,
                            other.version.name()
                        );
                    }
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// A node of a machine that has ended is not live for long: its process has no lock any more, or does not renew it.
    pub fn check_departed(&self, m: usize, number: usize) -> Checked {
        let machine = &self.machines[m];
        let (live, _) = machine.state.live_nodes(&channel(number), self.instant(self.now));
        let is_receiving_nothing = machine.session.is_none_or(|session| {
            self.postgres.sessions[session].is_paused || !self.postgres.sessions[session].is_alive
        });
        let host = machine.hosts.get(&number).and_then(|host| host.peer);
        // Whoever hosts nothing has asked nobody, and may have heard of a peer by the way.
        let Some(well_since) = host.and_then(|p| self.peers[p].healthy_since) else { return Ok(()) };
        if !machine.can_see || machine.link != Link::Up || is_receiving_nothing {
            return Ok(());
        }
        for peer in self.peers.iter().filter(|peer| peer.was_quiet && peer.channel == number) {
            let (Some(stopped), Some(dropped)) = (peer.stopped_at, peer.dropped_at) else { continue };
            let calm_since = machine.disturbed_at.max(machine.looked_badly_at);
            // Two looks, and the delays of both.
            let is_due = self.now > stopped.max(dropped) + 2 * LOOK_INTERVAL + SECOND;
            ensure!(
                !is_due
                    || calm_since.max(well_since) + SETTLED > stopped
                    || peer.last_commit > stopped
                    || live.iter().all(|node| node.uid.as_str() != peer.uid),
                "death-is-noticed",
                "{} is called live long after Postgres has dropped its session",
                peer.uid
            );
        }
        Ok(())
    }
}
