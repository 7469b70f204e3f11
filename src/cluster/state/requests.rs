//! Pending requests: which peers were asked, how many answers each has promised, and how many have arrived.
//!
//! Owns every pending request, found by its id. Answers, departures and the passing of time come in; whether the request
//! has ended comes out. Invariant: each request ends once, at its deadline at the latest, and is complete only if every
//! peer that was asked has answered in full.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::peers::{Change, Peers};
use super::{NewRequest, Reply, Summary};
use crate::Error;
use crate::protocol::{Body, Channel, Message, MessageKind, RequestId, Uid};

/// How long peers that have not been heard yet are given to answer an initial heartbeat, which they do at once. Where
/// one takes longer than half of that, as on a machine that is overloaded, the others are given twice as long as it
/// took. So they are where the first answer to the question takes longer: a Node server that collects ten thousand
/// sockets sends its heartbeat after that.
pub const DISCOVERY: Duration = Duration::from_millis(500);

/// The maximum number of peers of a request.
const MAX_PEERS: usize = 4 * super::peers::MAX_PEERS;

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
    /// It was not heard within the heartbeat timeout, and may be heard again.
    TimedOut,
}

/// The progress of one peer: its promised and received answers.
#[derive(Debug, Default)]
struct Progress {
    /// Whether the end of the request waits for it.
    is_awaited: bool,
    /// Whether it has said goodbye (adapter close). Its earlier messages may still arrive after that.
    has_closed: bool,
    promised: Option<u64>,
    came: u64,
}

impl Progress {
    fn is_complete(&self) -> bool {
        self.promised.is_some_and(|promised| self.came >= promised)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The channel is not listened to yet.
    Subscribing,
    /// The messages are being published.
    Publishing,
    /// Answers may come.
    Waiting,
}

struct Pending {
    channel: Channel,
    stage: Stage,
    /// The message to publish, until it is published.
    unsent: Option<Message>,
    asker: Uid,
    wants: MessageKind,
    deadline: (Instant, u64),
    /// Whether the request itself was received (loopback): every message committed before it was received as well.
    loopback_received: bool,
    /// Whether the messages before the request are delivered as well.
    loopback_delivered: bool,
    /// Until when peers that answer the discovery are asked as well.
    asking_until: Option<(Instant, u64)>,
    /// When the first peer answered the discovery.
    discovers_since: Option<Instant>,
    /// Whether a server has answered immediately, that is, without waiting for a client or a handler.
    was_answered: bool,
    knew_peers: bool,
    /// Whether its peers were known when it was sent, without its initial heartbeat.
    knew_before: bool,
    /// Whether messages may have been lost since it was sent.
    was_interrupted: bool,
    of: HashMap<Uid, Progress>,
    /// The number of peers that the request still waits for.
    awaited: usize,
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

    pub(super) fn insert(&mut self, question: NewRequest) {
        let NewRequest { id, channel, namespace, asker, body, deadline } = question;
        let wants = match body.kind() {
            MessageKind::FetchSockets => MessageKind::FetchSocketsResponse,
            MessageKind::ServerSideEmit => MessageKind::ServerSideEmitResponse,
            _ => MessageKind::BroadcastAck,
        };
        let deadline = self.timer(deadline, &id);
        let pending = Pending {
            channel,
            stage: Stage::Subscribing,
            unsent: Some(Message { uid: asker.clone(), nsp: namespace, body }),
            asker,
            wants,
            deadline,
            loopback_received: false,
            loopback_delivered: false,
            asking_until: None,
            discovers_since: None,
            was_answered: false,
            knew_peers: false,
            knew_before: false,
            was_interrupted: false,
            of: HashMap::new(),
            awaited: 0,
        };
        self.pending.insert(id, pending);
    }

    fn timer(&mut self, at: Instant, id: &RequestId) -> (Instant, u64) {
        self.last_timer += 1;
        self.timers.insert((at, self.last_timer), id.clone());
        (at, self.last_timer)
    }

    /// Forgets a request; returns its channel.
    pub(super) fn remove(&mut self, id: &RequestId) -> Option<Channel> {
        let pending = self.pending.remove(id)?;
        self.timers.remove(&pending.deadline);
        if let Some(timer) = pending.asking_until {
            self.timers.remove(&timer);
        }
        Some(pending.channel)
    }

    /// Whether it still waits for its channel.
    pub(super) fn is_unsent(&self, id: &RequestId) -> bool {
        self.pending.get(id).is_some_and(|pending| pending.stage == Stage::Subscribing)
    }

    /// The messages to publish, now that the channel is listened to: the request, and before it an initial heartbeat
    /// where the peers are not known. The peers that are live now are asked.
    pub(super) fn send<'a>(
        &mut self,
        now: Instant,
        id: &RequestId,
        timeout: Duration,
        peers: impl FnOnce(&Channel) -> Option<&'a Peers>,
    ) -> Option<Vec<Message>> {
        let pending = self.pending.get_mut(id)?;
        let question = pending.unsent.take()?;
        pending.stage = Stage::Publishing;
        // What was lost before it was sent does not concern it.
        pending.was_interrupted = false;
        let mut messages = Vec::with_capacity(2);
        if let Some(peers) = peers(&pending.channel) {
            pending.knew_peers = peers.is_known(now);
            pending.knew_before = pending.knew_peers;
            for node in peers.live(now, timeout) {
                if node.uid != pending.asker {
                    pending.of.insert(node.uid, Progress { is_awaited: true, ..Progress::default() });
                    pending.awaited += 1;
                }
            }
        }
        if !pending.knew_before {
            // Every version answers the emitter's heartbeat, and no version counts the emitter.
            let nsp = question.nsp.clone();
            messages.push(Message { uid: Uid::emitter(), nsp, body: Body::InitialHeartbeat });
        }
        messages.push(question);
        Some(messages)
    }

    pub(super) fn published(&mut self, id: &RequestId, outcome: Result<(), Error>) -> RequestStep {
        let Some(pending) = self.pending.get_mut(id) else { return RequestStep::Wait };
        if let Err(error) = outcome {
            return RequestStep::Finish(Err(error));
        }
        pending.stage = Stage::Waiting;
        self.step(id)
    }

    /// The request itself was received (loopback). Peers that are not known yet have the time of [`DISCOVERY`] from now
    /// on.
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
        // Whatever was delayed before it has come.
        pending.was_interrupted = false;
        if known_from.is_some_and(|from| from <= now) {
            pending.knew_peers = true;
        }
        if !pending.knew_peers {
            let until = known_from.map_or(now + DISCOVERY, |from| from.min(now + DISCOVERY));
            let timer = self.timer(until, id);
            if let Some(pending) = self.pending.get_mut(id) {
                pending.asking_until = Some(timer);
                pending.discovers_since = Some(now);
            }
        }
        self.step(id)
    }

    /// A peer has answered the discovery. Others may be as slow, and are given twice the time, as far as the deadline allows.
    fn extend_discovery(&mut self, now: Instant, id: &RequestId) {
        let Some(pending) = self.pending.get(id) else { return };
        let Some(since) = pending.discovers_since else { return };
        let left = pending.deadline.0.saturating_duration_since(now);
        let until = now + now.saturating_duration_since(since).min(left / 2);
        let before = pending.asking_until;
        if until <= before.map_or(since + DISCOVERY, |(at, _)| at) {
            return;
        }
        if let Some(timer) = before {
            self.timers.remove(&timer);
        }
        let timer = self.timer(until, id);
        if let Some(pending) = self.pending.get_mut(id) {
            pending.asking_until = Some(timer);
        }
    }

    /// As [`awaits_question`](Self::awaits_question), of a message that is surely the question.
    pub(super) fn question_came(&mut self, id: &RequestId, uid: &Uid, kind: MessageKind) -> bool {
        let is_question = self.awaits_question(id, uid, kind);
        if is_question && let Some(pending) = self.pending.get_mut(id) {
            pending.loopback_received = true;
        }
        is_question
    }

    /// The request itself was received and dropped, since the queue before it was full. Its peers are not known then.
    pub(super) fn request_dropped(&mut self, id: &RequestId) -> RequestStep {
        if let Some(pending) = self.pending.get_mut(id) {
            (pending.loopback_received, pending.loopback_delivered) = (true, true);
            pending.knew_peers = false;
        }
        self.step(id)
    }

    /// Whether that request waits for its own loopback, and such a message may be it.
    pub(super) fn awaits_question(&self, id: &RequestId, uid: &Uid, kind: MessageKind) -> bool {
        self.pending.get(id).is_some_and(|pending| {
            !pending.loopback_delivered && pending.asker == *uid && question_of(pending.wants) == kind
        })
    }

    /// A peer turns out to be there. It is asked where it was there before the question: what comes before the question was
    /// committed before it. Where peers were unknown, those that were there are still found after it, by their answers to
    /// the initial heartbeat. A peer that was asked, counted as gone and is heard again is waited for again.
    pub(super) fn peer_found(&mut self, now: Instant, id: &RequestId, uid: &Uid, change: Change) {
        if change == Change::Found {
            self.extend_discovery(now, id);
        }
        let Some(pending) = self.pending.get_mut(id) else { return };
        // One that is slow to answer the initial heartbeat is asked as long as others are waited for.
        let is_asking = pending.stage != Stage::Subscribing
            && (!pending.loopback_received || (!pending.knew_before && change == Change::Found))
            && *uid != pending.asker;
        if !is_asking && !pending.of.contains_key(uid) {
            return;
        }
        let Some(progress) = pending.progress(uid) else { return };
        if !progress.is_awaited && !progress.has_closed && !progress.is_complete() {
            progress.is_awaited = true;
            pending.awaited += 1;
        }
    }

    /// A peer has left. After a goodbye the request never waits for it again.
    pub(super) fn peer_left(&mut self, id: &RequestId, uid: &Uid, departure: Departure) -> RequestStep {
        let Some(pending) = self.pending.get_mut(id) else { return RequestStep::Wait };
        if pending.was_interrupted {
            // It may be live all the same, and its answer lost.
            pending.knew_peers = false;
        }
        if departure == Departure::Goodbye
            && let Some(progress) = pending.progress(uid)
        {
            progress.has_closed = true;
        }
        if let Some(progress) = pending.of.get_mut(uid)
            && std::mem::take(&mut progress.is_awaited)
        {
            pending.awaited -= 1;
        }
        self.step(id)
    }

    /// Takes an answer. Returns nothing where there is no such request, or where it wants another kind of answer.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        channel: &Channel,
        id: &RequestId,
        uid: &Uid,
        body: &Body,
    ) -> Option<(Option<Reply>, RequestStep)> {
        let pending = self.pending.get_mut(id).filter(|pending| pending.channel == *channel)?;
        let wants = pending.wants;
        let progress = pending.progress(uid)?;
        let was_complete = progress.is_complete();
        let reply = match (wants, body) {
            (MessageKind::BroadcastAck, Body::BroadcastClientCount { client_count, .. }) => {
                progress.promised = Some(*client_count);
                None
            }
            (MessageKind::BroadcastAck, Body::BroadcastAck { answer, .. }) => {
                progress.came += 1;
                Some(Reply::Ack(answer.clone()))
            }
            (MessageKind::FetchSocketsResponse, Body::FetchSocketsResponse { sockets, .. })
                if !was_complete =>
            {
                (progress.promised, progress.came) = (Some(1), 1);
                Some(Reply::Sockets(sockets.clone()))
            }
            (MessageKind::ServerSideEmitResponse, Body::ServerSideEmitResponse { answer, .. })
                if !was_complete =>
            {
                (progress.promised, progress.came) = (Some(1), 1);
                Some(Reply::Answer(answer.clone()))
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
        let is_prompt = matches!(body, Body::BroadcastClientCount { .. } | Body::FetchSocketsResponse { .. });
        if is_prompt && !std::mem::replace(&mut pending.was_answered, true) {
            self.extend_discovery(now, id);
        }
        Some((reply, self.step(id)))
    }

    /// Whether an answer of that kind may be for this request.
    pub(super) fn may_be_answered_by(&self, id: &RequestId, kind: MessageKind) -> bool {
        self.pending.get(id).is_some_and(|pending| {
            pending.wants == kind
                || (pending.wants == MessageKind::BroadcastAck && kind == MessageKind::BroadcastClientCount)
        })
    }

    /// Messages may have been lost, and the loss noticed late: from now on no peer that falls silent is known to have left,
    /// and what answered an initial heartbeat may not have been all.
    pub(super) fn interrupt(&mut self) {
        for pending in self.pending.values_mut() {
            pending.was_interrupted = true;
            pending.knew_peers &= pending.knew_before;
        }
    }

    /// Messages were lost. Returns the requests whose question may be among them, which wait for it no longer.
    pub(super) fn lose(&mut self) -> Vec<RequestId> {
        self.interrupt();
        let mut unheard = Vec::new();
        for (id, pending) in &mut self.pending {
            if pending.stage != Stage::Subscribing && !pending.loopback_delivered {
                (pending.loopback_received, pending.loopback_delivered) = (true, true);
                pending.knew_peers = false;
                unheard.push((pending.deadline.1, id.clone()));
            }
        }
        unheard.sort_by_key(|(order, _)| *order);
        unheard.into_iter().map(|(_, id)| id).collect()
    }

    /// What a request has come to.
    pub(super) fn look(&self, id: &RequestId) -> RequestStep {
        self.step(id)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    /// The requests for which a time has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<RequestId> {
        let mut due = Vec::new();
        while let Some(timer) = self.timers.first_entry()
            && timer.key().0 <= now
        {
            due.push(timer.remove());
        }
        due
    }

    pub(super) fn timed_out(&mut self, now: Instant, id: &RequestId) -> RequestStep {
        let Some(pending) = self.pending.get_mut(id) else { return RequestStep::Wait };
        if let Some((at, _)) = pending.asking_until
            && at <= now
        {
            pending.asking_until = None;
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

impl Pending {
    /// How far a peer has come. `None` if there are too many peers, as with forged uids.
    fn progress(&mut self, uid: &Uid) -> Option<&mut Progress> {
        if self.of.len() >= MAX_PEERS && !self.of.contains_key(uid) {
            self.knew_peers = false;
            return None;
        }
        Some(self.of.entry(uid.clone()).or_default())
    }

    fn is_over(&self) -> bool {
        self.stage == Stage::Waiting
            && self.loopback_delivered
            && self.awaited == 0
            && self.asking_until.is_none()
    }

    fn summary(&self) -> Summary {
        let mut silent: Vec<_> =
            self.of.iter().filter(|(_, progress)| progress.is_awaited).map(|(uid, _)| uid.clone()).collect();
        silent.sort();
        let missing = |progress: &Progress| match progress.promised {
            Some(promised) => promised.saturating_sub(progress.came),
            None => u64::from(progress.is_awaited),
        };
        Summary {
            missing: self.of.values().map(missing).fold(0, u64::saturating_add),
            expected: self.of.values().map(|progress| progress.promised.unwrap_or(progress.came)).sum(),
            nodes: self.of.values().filter(|progress| progress.is_complete()).count(),
            silent,
            knew_peers: self.knew_peers && self.loopback_delivered && self.asking_until.is_none(),
        }
    }
}

/// The kind of the question that such answers are for.
fn question_of(answer: MessageKind) -> MessageKind {
    match answer {
        MessageKind::FetchSocketsResponse => MessageKind::FetchSockets,
        MessageKind::ServerSideEmitResponse => MessageKind::ServerSideEmit,
        _ => MessageKind::Broadcast,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{BroadcastOptions, Namespace};

    /// A Node server that has many sockets to collect sends its heartbeat after that.
    #[test]
    fn a_slow_answer_gives_peers_that_are_as_slow_the_time_to_be_found() {
        let start = Instant::now();
        let at = |seconds: f32| start + Duration::from_secs_f32(seconds);
        let (id, channel) = (RequestId::from("1"), Namespace::default().channel("socket.io").unwrap());
        let mut requests = Requests::default();
        let body = Body::FetchSockets { opts: BroadcastOptions::default(), request_id: id.clone() };
        requests.insert(NewRequest {
            id: id.clone(),
            channel: channel.clone(),
            namespace: Namespace::default(),
            asker: Uid::emitter(),
            body,
            deadline: at(20.0),
        });
        let sent = requests.send(start, &id, Duration::from_secs(10), |_| None).unwrap();
        assert_eq!(sent.len(), 2, "with an initial heartbeat");
        let answer = Body::FetchSocketsResponse { request_id: id.clone(), sockets: Vec::new() };
        let ends = |step: RequestStep| match step {
            RequestStep::Finish(Ok(summary)) => Some(summary),
            RequestStep::Finish(Err(error)) => panic!("{error}"),
            RequestStep::Wait => None,
        };
        let answered = |requests: &mut Requests, uid: &str, seconds| {
            let (_, step) = requests.answered(at(seconds), &channel, &id, &uid.into(), &answer).unwrap();
            ends(step)
        };
        assert!(ends(requests.published(&id, Ok(()))).is_none());
        assert!(ends(requests.on_loopback(at(0.0), &id, None)).is_none());
        requests.peer_found(at(0.01), &id, &"quick".into(), Change::Found);
        assert_eq!(requests.next_deadline(), Some(at(0.0) + DISCOVERY));
        assert!(ends(requests.timed_out(at(0.0) + DISCOVERY, &id)).is_none(), "its answer is to come");
        assert!(answered(&mut requests, "quick", 3.0).is_none());
        requests.peer_found(at(4.0), &id, &"slow".into(), Change::Found);
        assert!(answered(&mut requests, "slow", 5.0).is_none());
        let due = requests.due(at(8.0));
        assert!(due.contains(&id) && requests.due(at(19.0)).is_empty());
        let summary = ends(requests.timed_out(at(8.0), &id)).unwrap();
        assert!(summary.is_complete() && summary.nodes == 2, "{summary:?}");
    }
}
