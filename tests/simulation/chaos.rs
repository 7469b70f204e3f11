//! What happens in a world: the life of the peers, the commands of the users, and the faults.

use std::collections::BTreeSet;

use pgio::cluster::state::{Input, NewRequest, SubscriptionId};
use pgio::protocol::{Body, BroadcastOptions, EventArgs, RequestId, Uid, Value};

use crate::machine::{Checked, Link, Machine, Req, Sub, Taste, ensure};
use crate::peer::{HEARTBEAT_INTERVAL, Life, Peer};
use crate::postgres::{Commit, NAMESPACES, Owner, Sender, channel};
use crate::trace::SECOND;
use crate::wire::{Says, Version, header, inline, row};
use crate::world::{Event, MILLI, NOTICED_AFTER, World};

/// How long a world has to settle before its handles go, and afterwards before nothing may be left.
const SETTLE: u64 = 25 * SECOND;

impl World {
    pub fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Arrive { session, item } => self.arrive(session, item)?,
            Event::Execute { m, session, number, statement } => self.execute(m, session, number, &statement),
            Event::LookUp { m, life, look_up, ids, fate } => self.look_up(m, life, look_up, ids, fate),
            Event::Rows { m, life, look_up, ids, rows } => self.rows(m, life, look_up, &ids, rows)?,
            Event::List { m, life, channels, max_age, fate } => self.list(m, life, &channels, max_age, fate),
            Event::Listed { m, life, rows } => self.listed(m, life, rows)?,
            Event::Listening { m, life, is_read } => self.listening(m, life, is_read)?,
            Event::CommitDurable { row, began, channel, number } => {
                self.commit_durable(row, began, channel, number);
            }
            Event::Publish { m, life, request, messages, fate } => {
                self.publish(m, life, request, messages, fate);
            }
            Event::Published { m, life, request, outcome } => {
                if self.machines[m].life == life {
                    if let Some(req) = self.machines[m].requests.get_mut(&request) {
                        req.published = outcome.is_ok();
                        req.may_fail = outcome.is_err();
                    }
                    self.give(m, Input::Published { request: request.as_str().into(), outcome })?;
                }
            }
            Event::Announce { m, life, messages, fate } => self.announced(m, life, messages, fate)?,
            Event::LockSnapshot { m, session } => self.look(m, session),
            Event::DropSession { session } => self.drop_session(session),
            Event::Connect { m, number } => self.accept(m, number),
            Event::Connected { m, number, session, listening, snapshot } => {
                self.connected(m, number, session, &listening, snapshot)?;
            }
            Event::Lost { m, session } => {
                if self.machines[m].session == Some(session) {
                    self.disconnect(m)?;
                }
            }
            Event::Notice { m, session } => {
                let is_silent = self.postgres.sessions[session].is_paused;
                let machine = &mut self.machines[m];
                if is_silent && machine.session == Some(session) && machine.link == Link::Up {
                    machine.link = Link::Stalled;
                    machine.disturbed_at = self.now;
                    self.give(m, Input::Stalled)?;
                }
            }
            Event::Heal { session } => {
                self.postgres.sessions[session].is_paused = false;
                if let Owner::Machine(m) = self.postgres.sessions[session].owner {
                    self.machines[m].deaf_at = self.now;
                }
                self.trace.add(self.now, "network", format_args!("session {session} is heard again"));
                for item in std::mem::take(&mut self.postgres.sessions[session].held) {
                    self.arrive(session, item)?;
                }
            }
            Event::PeerStarts { p } => self.peer_starts(p),
            Event::PeerListens { p } => self.peer_listens(p),
            Event::PeerSays { p, says, in_row } => self.peer_says(p, says, in_row),
            Event::PeerNamesRow { p, says, row } => self.peer_names_row(p, says, row),
            Event::Heartbeat { p } => self.heartbeat(p),
            Event::Thaw { p } => self.thaw(p),
            Event::Act => {
                if !self.is_at_rest {
                    self.act()?;
                    self.check_counts()?;
                    let pause = self.rng.u64(MILLI..300 * MILLI);
                    self.after(pause, Event::Act);
                }
            }
            Event::Restart { m } => self.restart(m),
            Event::Rest => self.rest()?,
        }
        Ok(())
    }

    /// First the faults end and requests run out; then all handles go.
    fn rest(&mut self) -> Checked {
        if !self.is_at_rest {
            self.is_at_rest = true;
            self.postgres.refusing_until = [0; 4];
            self.postgres.locked_until = self.postgres.locked_until.min(self.now + SECOND);
            self.after(SETTLE, Event::Rest);
            return Ok(());
        }
        self.check_counts()?;
        for m in 0..self.machines.len() {
            let numbers: Vec<usize> = self.machines[m].hosts.keys().copied().collect();
            for number in numbers {
                self.unhost(m, number)?;
            }
            for (id, sub) in &self.machines[m].subs {
                ensure!(sub.is_confirmed, "waiters-are-answered", "subscription {id} still waits");
                ensure!(!sub.is_lost, "losses-are-told", "subscription {id} was never restored");
                // A row that is there was there all the time.
                let is_there = |seq: &&usize| {
                    let row = self.postgres.commits[**seq].row;
                    row.is_some_and(|row| self.postgres.rows.contains_key(&row))
                };
                let lost = sub.due.iter().find(is_there).filter(|_| self.machines[m].unlisted_at.is_none());
                ensure!(lost.is_none(), "durable-not-lost", "subscription {id} has never got {lost:?}");
            }
            let id = self.machines[m].requests.keys().next();
            ensure!(id.is_none(), "request-ends-by-deadline", "{id:?} never ended");
            let subs: Vec<u64> = self.machines[m].subs.keys().copied().collect();
            for id in subs {
                self.unsubscribe(m, id)?;
            }
        }
        for peer in &mut self.peers {
            if peer.life != Life::Closed {
                peer.life = Life::Stopped;
            }
        }
        Ok(())
    }

    // The peers.

    pub fn new_peer(&mut self, delay: u64) {
        let p = self.peers.len();
        let version = Version::NODES[self.rng.usize(0..4)];
        let clients = self.rng.u64(0..3);
        let (is_answering, handles_server_events) = (self.chance(75), self.chance(80));
        let mut peer =
            Peer::new(format!("{:016x}", self.rng.u64(..)), version, self.rng.usize(0..self.channels));
        peer.clients = clients;
        peer.answering = if is_answering { clients } else { 0 };
        peer.handles_server_events = handles_server_events;
        self.peers.push(peer);
        let (listens, starts) = (self.rng.u64(0..100 * MILLI), self.rng.u64(0..100 * MILLI));
        self.after(delay + listens, Event::PeerListens { p });
        self.after(delay + starts, Event::PeerStarts { p });
    }

    fn peer_starts(&mut self, p: usize) {
        if self.peers[p].life == Life::Starting {
            self.peers[p].life = Life::Live;
            self.peers[p].hello_at = Some(self.now).filter(|_| self.now >= self.postgres.down_until);
            let next = self.postgres.commits.len();
            self.peer_says(p, Says::InitialHeartbeat, false);
            self.peers[p].started = (self.postgres.commits.len() > next).then_some(next);
            self.after(HEARTBEAT_INTERVAL, Event::Heartbeat { p });
            self.renew_health(p);
        }
    }

    fn peer_listens(&mut self, p: usize) {
        let peer = &self.peers[p];
        if matches!(peer.life, Life::Stopped | Life::Closed) || peer.session.is_some() {
            return;
        }
        if self.now < self.postgres.down_until {
            let delay = self.postgres.down_until - self.now + self.rng.u64(MILLI..SECOND);
            return self.after(delay, Event::PeerListens { p });
        }
        let session = self.postgres.open(Owner::Peer(p));
        self.postgres.sessions[session].channels = 1 << self.peers[p].channel;
        self.peers[p].session = Some(session);
        self.renew_health(p);
    }

    fn renew_health(&mut self, p: usize) {
        let peer = &mut self.peers[p];
        let is_well = peer.life == Life::Live && peer.session.is_some();
        peer.healthy_since = is_well.then_some(self.now);
    }

    pub fn peer_hears(&mut self, p: usize, session: usize, seq: usize) {
        if self.peers[p].session != Some(session) {
            return;
        }
        match self.peers[p].life {
            Life::Frozen => self.peers[p].backlog.push(seq),
            Life::Live => self.peer_reacts(p, seq),
            // Adapters answer from their first moment on.
            Life::Starting | Life::Stopped | Life::Closed => {}
        }
    }

    pub fn peer_reacts(&mut self, p: usize, seq: usize) {
        self.count(p, seq);
        let Commit { uid, says, says_nsp, .. } = &self.postgres.commits[seq];
        for (says, longest) in self.peers[p].reactions(says, uid, *says_nsp) {
            let delay = self.rng.u64(100..longest);
            let in_row = self.chance(15) && matches!(says, Says::Ack { .. } | Says::Answer { .. });
            self.after(delay, Event::PeerSays { p, says, in_row });
        }
    }

    pub fn peer_says(&mut self, p: usize, says: Says, in_row: bool) {
        let Peer { version, channel, life, .. } = self.peers[p];
        match life {
            Life::Live => {}
            Life::Frozen => return self.peers[p].unsaid.push((says, in_row)),
            Life::Starting | Life::Stopped | Life::Closed => return,
        }
        if self.now < self.postgres.down_until {
            // A message that cannot be published is lost: Node reports it and continues.
            return;
        }
        let (uid, nsp) = (self.peers[p].uid.clone(), NAMESPACES[channel]);
        let kind = says.kind();
        let (row, text) = match kind {
            Some(kind) if in_row => {
                let document = row(version, &uid, nsp, &says);
                let row = self.postgres.insert_row(self.now, document);
                (Some(row), header(&uid, kind, row))
            }
            _ => (None, inline(version, &uid, nsp, &says)),
        };
        let says_nsp = version.says_nsp() && row.is_none();
        let sender = Sender::Peer(p);
        let is_goodbye = says == Says::Goodbye;
        let now = self.now;
        self.commit(Commit { channel, sender, uid, says_nsp, says, row, durable_since: None, text });
        let peer = &mut self.peers[p];
        if kind.is_some() {
            if now - peer.last_commit > 9 * SECOND && peer.last_commit > 0 {
                peer.gap_end = now;
            }
            peer.last_commit = now;
            if peer.restarts_timer(kind) {
                peer.heartbeat_at = now + HEARTBEAT_INTERVAL;
            }
        }
        if is_goodbye {
            self.end_peer(p, Life::Closed);
        }
    }

    fn heartbeat(&mut self, p: usize) {
        let Peer { life, heartbeat_at, .. } = self.peers[p];
        if self.is_over() || matches!(life, Life::Stopped | Life::Closed) {
            return;
        }
        if self.now >= heartbeat_at {
            self.peer_says(p, Says::Heartbeat, false);
            let peer = &mut self.peers[p];
            peer.heartbeat_at = peer.heartbeat_at.max(self.now + HEARTBEAT_INTERVAL);
        }
        let pause = self.peers[p].heartbeat_at - self.now;
        self.after(pause, Event::Heartbeat { p });
    }

    pub fn is_over(&self) -> bool {
        self.now >= self.until + SETTLE
    }

    fn end_peer(&mut self, p: usize, life: Life) {
        let peer = &mut self.peers[p];
        peer.life = life;
        peer.healthy_since = None;
        peer.stopped_at = Some(self.now);
        if let Some(session) = peer.session.take() {
            self.postgres.sessions[session].is_alive = false;
        }
    }

    fn thaw(&mut self, p: usize) {
        if self.peers[p].life != Life::Frozen {
            return;
        }
        self.trace.add(self.now, "peer", format_args!("{} goes on", self.peers[p].uid));
        self.peers[p].life = Life::Live;
        self.renew_health(p);
        for (says, in_row) in std::mem::take(&mut self.peers[p].unsaid) {
            self.peer_says(p, says, in_row);
        }
        for seq in std::mem::take(&mut self.peers[p].backlog) {
            self.peer_reacts(p, seq);
        }
    }

    /// A peer that is live, if the dice find one.
    fn some_peer(&mut self) -> Option<usize> {
        if self.peers.is_empty() {
            return None;
        }
        let p = self.rng.usize(0..self.peers.len());
        (self.peers[p].life == Life::Live).then_some(p)
    }

    /// The same, of those that are no nodes of a machine under test.
    fn some_model(&mut self) -> Option<usize> {
        self.some_peer().filter(|p| self.peers[*p].member.is_none())
    }

    // The users.

    fn some_machine(&mut self) -> usize {
        self.rng.usize(0..self.machines.len())
    }

    fn subscribe(&mut self, m: usize) -> Checked {
        let count = if self.chance(80) { 1 } else { self.rng.usize(0..4) };
        let channels: Vec<usize> = (0..count).map(|_| self.rng.usize(0..self.channels)).collect();
        let taste = Taste::ALL[self.rng.usize(0..Taste::ALL.len())];
        self.subscribe_to(m, channels, taste)
    }

    pub fn subscribe_to(&mut self, m: usize, channels: Vec<usize>, taste: Taste) -> Checked {
        let machine = &mut self.machines[m];
        machine.last_sub += 1;
        let id = machine.last_sub;
        // Where the server listens already, and nothing is under way, the answer comes at once and costs no statement.
        let session =
            machine.session.filter(|s| machine.link != Link::Down && self.postgres.sessions[*s].is_alive);
        let is_there = machine.executing.is_none()
            && session.is_some_and(|session| channels.iter().all(|c| self.postgres.listens(session, *c)));
        let wants_text = !id.is_multiple_of(3);
        let sub = Sub {
            channels: channels.clone(),
            taste,
            wants_text,
            is_confirmed: false,
            is_lost: false,
            is_stalled: false,
            given: Default::default(),
            last: [None; 4],
            budget: 0,
            told_lost: 0,
            told_missed: Vec::new(),
            made: None,
            snapshot: None,
            due: BTreeSet::new(),
            got: BTreeSet::new(),
            replayed: [None; 4],
            is_live: [false; 4],
        };
        machine.subs.insert(id, sub);
        let channels = channels.into_iter().map(channel).collect();
        let interest = Box::new(move |header: Option<&_>| taste.wants_header(header));
        self.give(m, Input::Subscribe { id: SubscriptionId(id), channels, interest, wants_text })?;
        let machine = &self.machines[m];
        ensure!(
            !is_there || (machine.subs[&id].is_confirmed && machine.executing.is_none()),
            "waiters-are-answered",
            "subscription {id} waits, and all its channels are listened to"
        );
        Ok(())
    }

    pub fn unsubscribe(&mut self, m: usize, id: u64) -> Checked {
        self.machines[m].subs.remove(&id);
        self.machines[m].forget_unwanted();
        self.give(m, Input::Unsubscribe { id: SubscriptionId(id) })
    }

    fn ask(&mut self, m: usize) -> Checked {
        let number = self.rng.usize(0..self.channels);
        let machine = &mut self.machines[m];
        machine.last_request += 1;
        let id = format!("m{m}-{}-{}", machine.life, machine.last_request);
        let request = RequestId::from(id.as_str());
        let body = match self.rng.u8(0..3) {
            0 => Body::FetchSockets { opts: BroadcastOptions::default(), request_id: request.clone() },
            1 => Body::ServerSideEmit {
                event: EventArgs::new("s", [Value::from(1)]),
                request_id: Some(request.clone()),
            },
            _ => Body::Broadcast {
                opts: BroadcastOptions::default(),
                event: EventArgs::new("e", [Value::from(1)]),
                request_id: Some(request.clone()),
            },
        };
        let own = self.peers.iter().find(|peer| match peer.member {
            Some((of, life)) => {
                of == m && life == self.machines[m].life && peer.channel == number && peer.life == Life::Live
            }
            None => {
                m == 0 && peer.version == Version::Pgio && peer.channel == number && peer.life == Life::Live
            }
        });
        let sender = own.map_or_else(Uid::emitter, |peer| Uid::from(peer.uid.as_str()));
        let wait =
            if self.chance(5) { self.rng.u64(0..50 * MILLI) } else { self.rng.u64(300 * MILLI..8 * SECOND) };
        let deadline = self.now + wait;
        let req = Req {
            channel: number,
            kind: body.kind(),
            sender: sender.as_str().to_owned(),
            deadline,
            sent: None,
            discovers: false,
            published: false,
            may_fail: false,
            question: None,
            heard_itself: None,
            gave_up_question: false,
            healthy: Vec::new(),
            heard: Vec::new(),
            answers: Default::default(),
            was_lossy: false,
        };
        self.machines[m].requests.insert(id, req);
        let question = NewRequest {
            id: request,
            channel: channel(number),
            namespace: NAMESPACES[number].into(),
            sender,
            body,
            deadline: self.instant(deadline),
            // Only of the first channel the servers that listen are known.
            awaits_listening: number == 0 && self.chance(2),
        };
        self.give(m, Input::Request(question))
    }

    fn cancel(&mut self, m: usize) -> Checked {
        let ids: Vec<&String> = self.machines[m].requests.keys().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.rng.usize(0..ids.len())].clone();
        self.machines[m].requests.remove(&id);
        self.machines[m].forget_unwanted();
        self.give(m, Input::Cancel { request: id.as_str().into() })
    }

    // What happens next.

    fn act(&mut self) -> Checked {
        let m = self.some_machine();
        match self.rng.u8(0..100) {
            0..18 if self.machines[m].subs.len() < 8 => self.subscribe(m)?,
            18..30 => {
                let machine = &self.machines[m];
                let is_host = |id: &u64| machine.hosts.values().any(|host| host.sub == *id);
                let ids: Vec<u64> = machine.subs.keys().copied().filter(|id| !is_host(id)).collect();
                if !ids.is_empty() {
                    let id = ids[self.rng.usize(0..ids.len())];
                    self.unsubscribe(m, id)?;
                }
            }
            30..48 if self.machines[m].requests.len() < 6 => self.ask(m)?,
            48..51 => self.cancel(m)?,
            51..69 => self.speak(),
            69..75 => self.emit_durable(),
            75..79 => self.emit(),
            79..83 if self.peers.len() < 12 && !self.faults.only_members => self.new_peer(0),
            83..86 => self.host(m)?,
            86 => {
                let numbers: Vec<usize> = self.machines[m].hosts.keys().copied().collect();
                if !numbers.is_empty() {
                    let number = numbers[self.rng.usize(0..numbers.len())];
                    self.unhost(m, number)?;
                }
            }
            _ => self.fault(m)?,
        }
        Ok(())
    }

    /// A peer publishes a message on its own, sometimes several times in a row.
    fn speak(&mut self) {
        let Some(p) = self.some_peer() else { return };
        for _ in 0..self.rng.u8(1..4) {
            let number = self.number();
            let says = match self.rng.u8(0..10) {
                0 => Says::ServerSideEmit { number, request: None },
                1 => Says::Nonsense { number },
                2 => Says::FetchSockets { request: format!("peer-{number}") },
                _ => Says::Broadcast { number, request: None },
            };
            let in_row = self.chance(25) && matches!(says, Says::Broadcast { .. });
            let next = self.postgres.commits.len();
            self.peer_says(p, says.clone(), in_row);
            let row = self.postgres.commits[next..].last().and_then(|commit| commit.row);
            if let Some(row) = row.filter(|_| in_row)
                && self.chance(30)
            {
                let delay = if self.chance(50) { 0 } else { self.rng.u64(0..12 * SECOND) };
                self.after(delay, Event::PeerNamesRow { p, says, row });
            }
        }
    }

    /// Another notification for a row that was named before.
    fn peer_names_row(&mut self, p: usize, says: Says, row: i64) {
        let Some(kind) = says.kind().filter(|_| self.peers[p].life == Life::Live) else { return };
        if self.now < self.postgres.down_until {
            return;
        }
        let (uid, channel) = (self.peers[p].uid.clone(), self.peers[p].channel);
        let text = header(&uid, kind, row);
        let sender = Sender::Peer(p);
        self.commit(Commit {
            channel,
            sender,
            uid,
            says_nsp: false,
            says,
            row: Some(row),
            durable_since: None,
            text,
        });
        self.peers[p].last_commit = self.now;
    }

    fn emit(&mut self) {
        if self.now < self.postgres.down_until {
            return;
        }
        let (number, channel) = (self.number(), self.rng.usize(0..self.channels));
        let says = Says::Broadcast { number, request: None };
        let text = inline(Version::Emitter, "emitter", NAMESPACES[channel], &says);
        let (sender, uid) = (Sender::Emitter, "emitter".to_owned());
        self.commit(Commit {
            channel,
            sender,
            uid,
            says_nsp: false,
            says,
            row: None,
            durable_since: None,
            text,
        });
    }

    fn fault(&mut self, m: usize) -> Checked {
        let faults = self.faults;
        match self.rng.u8(0..14) {
            0 if faults.losses => {
                if let Some(session) = self.machines[m].session {
                    self.postgres.sessions[session].is_alive = false;
                    self.renew_members(m);
                    let delay = if self.chance(50) { 0 } else { self.rng.u64(0..NOTICED_AFTER) };
                    self.after(delay, Event::Lost { m, session });
                }
            }
            1 | 2 if faults.silences => self.fall_silent(m),
            3 if faults.restarts && self.chance(30) => {
                self.trace.add(self.now, "postgres", format_args!("restarts"));
                self.postgres.restart(self.now);
                // A snapshot of the former server no longer decides.
                let commits = &self.postgres.commits;
                for sub in self.machines.iter_mut().flat_map(|machine| machine.subs.values_mut()) {
                    sub.due.retain(|seq| sub.made <= commits[*seq].durable_since);
                }
                self.postgres.down_until = self.now + self.rng.u64(100 * MILLI..4 * SECOND);
                for m in 0..self.machines.len() {
                    if self.machines[m].session.is_some() {
                        self.disconnect(m)?;
                    }
                }
                for p in 0..self.peers.len() {
                    self.peer_loses_connection(p);
                }
            }
            4 if faults.restarts => self.restart(m),
            5 | 6 if faults.peers_stop => {
                if let Some(p) = self.some_model() {
                    let has_goodbye = self.peers[p].version.says_goodbye() && self.chance(60);
                    self.trace.add(self.now, "peer", format_args!("{} stops", self.peers[p].uid));
                    if has_goodbye {
                        self.peer_says(p, Says::Goodbye, false);
                    }
                    if self.peers[p].life == Life::Live {
                        self.end_peer(p, Life::Stopped);
                    }
                }
            }
            7 | 8 if faults.peers_freeze => {
                if let Some(p) = self.some_model() {
                    self.trace.add(self.now, "peer", format_args!("{} freezes", self.peers[p].uid));
                    self.peers[p].life = Life::Frozen;
                    self.peers[p].healthy_since = None;
                    let short = self.chance(60);
                    let pause = self.rng.u64(50 * MILLI..if short { 3 * SECOND } else { 20 * SECOND });
                    self.after(pause, Event::Thaw { p });
                }
            }
            9 if faults.peers_stop => {
                if let Some(p) = self.some_model() {
                    self.peer_loses_connection(p);
                }
            }
            10 if faults.rows => {
                let longest = if self.chance(70) { 2 } else { 14 };
                self.postgres.locked_until = self.now + self.rng.u64(0..longest * SECOND);
            }
            11 if faults.rows => {
                let age = if self.chance(50) { 0 } else { self.rng.u64(0..5 * SECOND) };
                let count = self.postgres.clean_up(self.now, age);
                self.trace.add(self.now, "postgres", format_args!("{count} rows are deleted"));
            }
            12 | 13 if faults.refusals => {
                let channel = self.rng.usize(0..self.channels);
                self.postgres.refusing_until[channel] = self.now + self.rng.u64(0..6 * SECOND);
                self.trace.add(self.now, "postgres", format_args!("refuses channel {channel} for a while"));
            }
            _ => {}
        }
        Ok(())
    }

    fn fall_silent(&mut self, m: usize) {
        let Some(session) = self.machines[m].session else { return };
        if std::mem::replace(&mut self.postgres.sessions[session].is_paused, true) {
            return;
        }
        self.trace.add(self.now, "network", format_args!("session {session} of machine {m} falls silent"));
        self.renew_members(m);
        let notice = self.rng.u64(100 * MILLI..NOTICED_AFTER);
        self.after(notice, Event::Notice { m, session });
        let lasts = if self.chance(50) {
            self.rng.u64(MILLI..NOTICED_AFTER)
        } else {
            self.rng.u64(MILLI..20 * SECOND)
        };
        match self.chance(60) {
            true => self.after(lasts, Event::Heal { session }),
            false => self.after(lasts.min(notice + lasts / 2), Event::Lost { m, session }),
        }
    }

    fn peer_loses_connection(&mut self, p: usize) {
        let Some(session) = self.peers[p].session.take() else { return };
        self.postgres.sessions[session].is_alive = false;
        self.peers[p].healthy_since = None;
        let delay = self.rng.u64(SECOND..2 * SECOND);
        self.after(delay, Event::PeerListens { p });
    }

    /// The process of a machine ends, and another begins.
    fn restart(&mut self, m: usize) {
        self.trace.add(self.now, &format!("machine {m}"), format_args!("restarts"));
        self.end_members(m, self.machines[m].session);
        let Machine { life, connects, .. } = self.machines[m];
        self.machines[m] = self.new_machine(life + 1);
        self.machines[m].connects = connects;
        let delay = self.rng.u64(MILLI..SECOND);
        self.reconnect(m, delay);
    }
}
