//! Pending requests: their peers, how many answers each has promised, and how many have arrived.
//!
//! Owns every pending request, found by its id. Answers, departures and the passing of time come in; whether the request
//! has ended comes out. Invariant: each request ends once, at its deadline at the latest, and is complete only if every
//! peer of the request has answered in full.

mod pending;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::listening::AwaitedServers;
use super::peers::{Change, Peers};
use super::{ListeningSessions, NewRequest, Reply, Summary};
use crate::Error;
use crate::protocol::{Body, Channel, Message, MessageKind, RequestId, Uid};
use pending::{Pending, Progress, Stage};

/// How long a request waits for unknown peers to answer an initial heartbeat, which they do at once. If one peer needs more
/// than half of this time, as on an overloaded machine, the others get twice the time that it needed. The same holds for
/// an answer to the request that takes longer: a Node server that collects ten thousand sockets sends its heartbeat after
/// that, and a fast server among slow ones must not end the wait.
pub const DISCOVERY: Duration = Duration::from_millis(500);

/// The next step of a request.
pub(super) enum RequestStep {
    /// It waits for more answers.
    Wait,
    /// It has ended.
    Finish(Result<Summary, Error>),
}

/// How a peer departed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    /// It said goodbye.
    Goodbye,
    /// It sent no message within the heartbeat timeout. It may still be alive.
    TimedOut,
}

#[derive(Default)]
pub(super) struct Requests {
    pending: HashMap<RequestId, Pending>,
    timers: BTreeMap<(Instant, u64), RequestId>,
    last_timer: u64,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn insert(&mut self, request: NewRequest) {
        let NewRequest { id, channel, namespace, sender, body, deadline, awaits_listening } = request;
        let wants = match body.kind() {
            MessageKind::FetchSockets => MessageKind::FetchSocketsResponse,
            MessageKind::ServerSideEmit => MessageKind::ServerSideEmitResponse,
            _ => MessageKind::BroadcastAck,
        };
        let deadline = self.timer(deadline, &id);
        let pending = Pending {
            channel,
            stage: Stage::Subscribing,
            unsent: Some(Message { uid: sender.clone(), nsp: namespace, body }),
            sender,
            wants,
            deadline,
            loopback_received: false,
            loopback_delivered: false,
            discovery_until: None,
            discovery_started_at: None,
            knew_peers: false,
            knew_peers_before: false,
            was_interrupted: false,
            peers: HashMap::new(),
            awaited: 0,
            servers: awaits_listening.then(AwaitedServers::default),
        };
        self.pending.insert(id, pending);
    }

    fn timer(&mut self, at: Instant, id: &RequestId) -> (Instant, u64) {
        self.last_timer += 1;
        self.timers.insert((at, self.last_timer), id.clone());
        (at, self.last_timer)
    }

    /// Removes a request, and returns its channel.
    pub(super) fn remove(&mut self, id: &RequestId) -> Option<Channel> {
        let pending = self.pending.remove(id)?;
        self.timers.remove(&pending.deadline);
        if let Some(timer) = pending.discovery_until {
            self.timers.remove(&timer);
        }
        Some(pending.channel)
    }

    /// Whether the request still waits for the LISTEN of its channel.
    pub(super) fn is_unsent(&self, id: &RequestId) -> bool {
        self.pending.get(id).is_some_and(|pending| pending.stage == Stage::Subscribing)
    }

    /// The messages to publish after the LISTEN of the channel: the request, and before it an initial heartbeat if the
    /// peers are not known. The request waits for the peers that are live now.
    pub(super) fn send<'a>(
        &mut self,
        now: Instant,
        id: &RequestId,
        timeout: Duration,
        peers: impl FnOnce(&Channel) -> Option<&'a Peers>,
    ) -> Option<Vec<Message>> {
        let pending = self.pending.get_mut(id)?;
        let request = pending.unsent.take()?;
        pending.stage = Stage::Publishing;
        // Messages that were lost before the request was sent do not matter to it.
        pending.was_interrupted = false;
        let mut messages = Vec::with_capacity(2);
        if let Some(peers) = peers(&pending.channel) {
            pending.knew_peers = peers.is_known(now);
            pending.knew_peers_before = pending.knew_peers;
            for node in peers.live(now, timeout) {
                if node.uid != pending.sender {
                    if let Some(servers) = &mut pending.servers {
                        servers.heard.add(&node.uid);
                    }
                    pending.peers.insert(node.uid, Progress { is_awaited: true, ..Progress::default() });
                    pending.awaited += 1;
                }
            }
        }
        if !pending.knew_peers_before {
            // Every version answers the emitter's heartbeat, and no version counts the emitter.
            let nsp = request.nsp.clone();
            messages.push(Message { uid: Uid::emitter(), nsp, body: Body::InitialHeartbeat });
        }
        messages.push(request);
        Some(messages)
    }

    /// The requests that wait for the servers that listen, in a fixed order.
    pub(super) fn awaiting_listening(&self) -> Vec<RequestId> {
        let mut ids: Vec<_> = self.pending.iter().filter(|(_, pending)| pending.servers.is_some()).collect();
        ids.sort_unstable_by_key(|(_, pending)| pending.deadline);
        ids.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// Whether there are any.
    pub(super) fn is_listening_awaited(&self) -> bool {
        self.pending.values().any(|pending| pending.servers.is_some())
    }

    /// Postgres shows the servers that listen. After a failed reading a request keeps the one before, or waits for those that
    /// it has found.
    pub(super) fn on_listening(
        &mut self,
        id: &RequestId,
        reading: Option<Arc<ListeningSessions>>,
    ) -> RequestStep {
        if let Some(servers) = self.servers(id) {
            servers.on_reading(reading);
        }
        self.step(id)
    }

    /// A peer has started. It does not get the request, and does not count as unresponsive.
    pub(super) fn on_peer_started(&mut self, id: &RequestId, uid: &Uid) {
        if let Some(servers) = self.servers(id) {
            servers.heard.add(uid);
        }
    }

    /// The servers that the request waits for, if it waits for all that listen.
    fn servers(&mut self, id: &RequestId) -> Option<&mut AwaitedServers> {
        self.pending.get_mut(id)?.servers.as_mut()
    }

    pub(super) fn on_published(&mut self, id: &RequestId, outcome: Result<(), Error>) -> RequestStep {
        let Some(pending) = self.pending.get_mut(id) else { return RequestStep::Wait };
        if let Err(error) = outcome {
            return RequestStep::Finish(Err(error));
        }
        pending.stage = Stage::Waiting;
        self.step(id)
    }

    /// The request itself was received (loopback). Unknown peers have [`DISCOVERY`] from now on to show themselves.
    pub(super) fn on_loopback(
        &mut self,
        now: Instant,
        id: &RequestId,
        known_from: Option<Instant>,
    ) -> RequestStep {
        let Some(pending) = self.pending.get_mut(id) else { return RequestStep::Wait };
        if pending.stage == Stage::Subscribing || std::mem::replace(&mut pending.loopback_delivered, true) {
            return RequestStep::Wait;
        }
        pending.loopback_received = true;
        // Every delayed message that was sent before it has arrived.
        pending.was_interrupted = false;
        if known_from.is_some_and(|from| from <= now) {
            pending.knew_peers = true;
        }
        if !pending.knew_peers {
            let until = known_from.map_or(now + DISCOVERY, |from| from.min(now + DISCOVERY));
            let timer = self.timer(until, id);
            if let Some(pending) = self.pending.get_mut(id) {
                pending.discovery_until = Some(timer);
                pending.discovery_started_at = Some(now);
            }
        }
        self.step(id)
    }

    /// A peer has answered the discovery. Others may be as slow, so they get twice the time, within the deadline.
    fn extend_discovery(&mut self, now: Instant, id: &RequestId) {
        let Some(pending) = self.pending.get(id) else { return };
        let Some(since) = pending.discovery_started_at else { return };
        let left = pending.deadline.0.saturating_duration_since(now);
        let until = now + now.saturating_duration_since(since).min(left / 2);
        let before = pending.discovery_until;
        if until <= before.map_or(since + DISCOVERY, |(at, _)| at) {
            return;
        }
        if let Some(timer) = before {
            self.timers.remove(&timer);
        }
        let timer = self.timer(until, id);
        if let Some(pending) = self.pending.get_mut(id) {
            pending.discovery_until = Some(timer);
        }
    }

    /// As [`awaits_loopback`](Self::awaits_loopback), and records the arrival: the id proves that the message is the
    /// request.
    pub(super) fn loopback_arrived(&mut self, id: &RequestId, uid: &Uid, kind: MessageKind) -> bool {
        let is_loopback = self.awaits_loopback(id, uid, kind);
        if is_loopback && let Some(pending) = self.pending.get_mut(id) {
            pending.loopback_received = true;
        }
        is_loopback
    }

    /// The request itself was received and dropped, since the queue was full. Its peers are then not known.
    pub(super) fn on_loopback_dropped(&mut self, id: &RequestId) -> RequestStep {
        if let Some(pending) = self.pending.get_mut(id) {
            (pending.loopback_received, pending.loopback_delivered) = (true, true);
            pending.knew_peers = false;
        }
        self.step(id)
    }

    /// Whether the request waits for its loopback, and a message of that sender and kind may be it.
    pub(super) fn awaits_loopback(&self, id: &RequestId, uid: &Uid, kind: MessageKind) -> bool {
        self.pending.get(id).is_some_and(|pending| {
            !pending.loopback_delivered && pending.sender == *uid && request_kind(pending.wants) == kind
        })
    }

    /// A peer has appeared. The request waits for it if the peer was live before the request: a message that arrives before
    /// the request was committed before it. If the peers were unknown, live peers are also found after the request, by
    /// their answers to the initial heartbeat. The request waits again for a peer that counted as dead and sends a message
    /// again.
    pub(super) fn on_peer_found(&mut self, now: Instant, id: &RequestId, uid: &Uid, change: Change) {
        if change == Change::Found {
            self.extend_discovery(now, id);
        }
        let Some(pending) = self.pending.get_mut(id) else { return };
        if let Some(servers) = &mut pending.servers {
            servers.heard.add(uid);
        }
        // A peer that answers the initial heartbeat late still counts while the request waits for others.
        let is_in_scope = pending.stage != Stage::Subscribing
            && (!pending.loopback_received || (!pending.knew_peers_before && change == Change::Found))
            && *uid != pending.sender;
        if !is_in_scope && !pending.peers.contains_key(uid) {
            return;
        }
        let Some(progress) = pending.progress(uid) else { return };
        if !progress.is_awaited && !progress.has_said_goodbye && !progress.is_complete() {
            progress.is_awaited = true;
            pending.awaited += 1;
        }
    }

    /// A peer has left. After a goodbye the request never waits for it again.
    pub(super) fn on_peer_left(&mut self, id: &RequestId, uid: &Uid, departure: Departure) -> RequestStep {
        let Some(pending) = self.pending.get_mut(id) else { return RequestStep::Wait };
        if let Some(AwaitedServers { heard, .. }) = &mut pending.servers {
            match departure {
                Departure::Goodbye => heard.on_goodbye(uid),
                Departure::TimedOut => heard.on_timeout(uid),
            }
        }
        if pending.was_interrupted {
            // It may still be alive, and its answer may be lost.
            pending.knew_peers = false;
        }
        if departure == Departure::Goodbye
            && let Some(progress) = pending.progress(uid)
        {
            progress.has_said_goodbye = true;
        }
        if let Some(progress) = pending.peers.get_mut(uid)
            && std::mem::take(&mut progress.is_awaited)
        {
            pending.awaited -= 1;
        }
        self.step(id)
    }

    /// Handles an answer. Returns `None` if there is no such request, or if it waits for another kind of answer.
    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        channel: &Channel,
        id: &RequestId,
        uid: &Uid,
        body: Cow<'_, Body>,
    ) -> Option<(Option<Reply>, RequestStep)> {
        let pending = self.pending.get_mut(id).filter(|pending| pending.channel == *channel)?;
        if !pending.is_answered_by(body.kind()) {
            return None;
        }
        if let Some(servers) = &mut pending.servers {
            servers.heard.add_answer(uid);
        }
        let is_single = pending.wants != MessageKind::BroadcastAck;
        let progress = pending.progress(uid)?;
        let was_complete = progress.is_complete();
        if is_single && was_complete {
            return None;
        }
        let is_prompt =
            matches!(*body, Body::BroadcastClientCount { .. } | Body::FetchSocketsResponse { .. });
        let reply = match body.into_owned() {
            Body::BroadcastClientCount { client_count, .. } => {
                progress.promised = Some(client_count);
                None
            }
            Body::BroadcastAck { answer, .. } => {
                progress.received += 1;
                Some(Reply::Ack(answer.unwrap_or_default()))
            }
            Body::FetchSocketsResponse { sockets, .. } => {
                (progress.promised, progress.received) = (Some(1), 1);
                Some(Reply::Sockets(sockets))
            }
            Body::ServerSideEmitResponse { answer, .. } => {
                (progress.promised, progress.received) = (Some(1), 1);
                Some(Reply::Answer(answer))
            }
            _ => return None,
        };
        match (progress.is_complete(), progress.is_awaited) {
            (true, true) => {
                progress.is_awaited = false;
                pending.awaited -= 1;
            }
            // An unknown peer has promised answers.
            (false, false) if progress.promised.is_some() && !was_complete => {
                progress.is_awaited = true;
                pending.awaited += 1;
            }
            _ => {}
        }
        if is_prompt {
            self.extend_discovery(now, id);
        }
        Some((reply, self.step(id)))
    }

    /// Whether an answer of that kind may be for this request.
    pub(super) fn may_be_answered_by(&self, id: &RequestId, kind: MessageKind) -> bool {
        self.pending.get(id).is_some_and(|pending| pending.is_answered_by(kind))
    }

    /// Messages may have been lost, and the loss may be detected late. From now on a silent peer is not known to have left,
    /// and the answers to an initial heartbeat may be incomplete.
    pub(super) fn on_interruption(&mut self) {
        for pending in self.pending.values_mut() {
            pending.was_interrupted = true;
            pending.knew_peers &= pending.knew_peers_before;
        }
    }

    /// Messages were lost. Returns the requests whose loopback may be among them. They no longer wait for it.
    pub(super) fn on_messages_lost(&mut self) -> Vec<RequestId> {
        self.on_interruption();
        let mut lost = Vec::new();
        for (id, pending) in &mut self.pending {
            if pending.stage != Stage::Subscribing && !pending.loopback_delivered {
                (pending.loopback_received, pending.loopback_delivered) = (true, true);
                pending.knew_peers = false;
                lost.push((pending.deadline.1, id.clone()));
            }
        }
        lost.sort_by_key(|(order, _)| *order);
        lost.into_iter().map(|(_, id)| id).collect()
    }

    /// The next step of a request.
    pub(super) fn next_step(&self, id: &RequestId) -> RequestStep {
        self.step(id)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    /// Removes and returns the requests with a timer that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<RequestId> {
        let mut due = Vec::new();
        while let Some(timer) = self.timers.first_entry()
            && timer.key().0 <= now
        {
            due.push(timer.remove());
        }
        due
    }

    pub(super) fn on_timeout(&mut self, now: Instant, id: &RequestId) -> RequestStep {
        let Some(pending) = self.pending.get_mut(id) else { return RequestStep::Wait };
        if let Some((at, _)) = pending.discovery_until
            && at <= now
        {
            pending.discovery_until = None;
            pending.knew_peers = !pending.was_interrupted;
        }
        if pending.deadline.0 > now {
            return self.step(id);
        }
        match pending.stage {
            Stage::Subscribing => RequestStep::Finish(Err(Error::ConnectionLost(
                "no connection in time for the request".into(),
            ))),
            Stage::Publishing => RequestStep::Finish(Err(Error::ConnectionLost(
                "the request was not confirmed in time".into(),
            ))),
            Stage::Waiting => RequestStep::Finish(Ok(pending.summary())),
        }
    }

    fn step(&self, id: &RequestId) -> RequestStep {
        match self.pending.get(id) {
            Some(pending) if pending.is_over() => RequestStep::Finish(Ok(pending.summary())),
            _ => RequestStep::Wait,
        }
    }
}

/// The kind of the request that has answers of this kind.
fn request_kind(answer: MessageKind) -> MessageKind {
    match answer {
        MessageKind::FetchSocketsResponse => MessageKind::FetchSockets,
        MessageKind::ServerSideEmitResponse => MessageKind::ServerSideEmit,
        _ => MessageKind::Broadcast,
    }
}

#[cfg(test)]
mod tests;
