//! The cluster's state machine: subscriptions, members, requests and the order of delivery. No I/O, no clock, no tasks.
//!
//! It owns every decision between the listening connection and the subscribers. [`Input`]s and the present moment go in,
//! [`Output`]s come out; the driver carries them out and never decides. The rules that it keeps:
//!
//! 1. The session listens to a channel exactly while a subscription or a request needs it. The machine keeps the wanted set
//!    and the confirmed set apart. It executes the difference as LISTEN and UNLISTEN statements, also after a reconnect.
//! 2. A request has one deadline for everything: subscription, discovery, publication and answers. It is complete only if
//!    the peers were known when it was sent, and each of them has answered.
//! 3. An answer finds its request by the request's id, whatever the number of requests.
//! 4. The messages of a channel are delivered in the order of their notifications, once. A slow look-up blocks only its own
//!    channel (no head-of-line blocking between channels), and no longer than [`LOOK_UP_DEADLINE`].
//!
//! Limits: [`Input::Stalled`] has to come before a peer's heartbeat timeout can pass during the stall. That is at the
//! latest the heartbeat timeout minus the heartbeat interval after the connection stalled. A stall that begins within the
//! [`DISCOVERY`] of a request, after the loopback of the request arrived, is detected too late for that request: peers that
//! it did not know yet are missing, and the machine reports it as complete.

#![forbid(unsafe_code)]

mod channels;
mod delivery;
mod instances;
mod io;
mod listening;
mod look_ups;
mod members;
mod peers;
mod receive;
mod replay;
mod requests;
mod subscription_start;
mod subscriptions;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Event;
use crate::Error;
use crate::protocol::{Channel, LockSnapshot, RequestId, Uid};
use channels::{ChannelState, Channels};
use instances::Instances;
use listening::ListeningReader;
use look_ups::LookUps;
use members::{HeartbeatSchedule, HeartbeatTimer, Member};
use replay::Replays;
use requests::{Departure, RequestStep, Requests};
use subscriptions::{Subscription, SubscriptionState};

pub use io::{
    Arrival, Config, DurableRow, DurableRows, Input, Interest, LookUpId, NewRequest, Output, Reply, Row,
    Rows, Statement, SubscriptionId, Summary,
};
pub use listening::{ListeningSession, ListeningSessions, Unresponsive};
pub use look_ups::LOOK_UP_DEADLINE;
pub use peers::{LiveNode, Liveness, NspSupport};
pub use requests::DISCOVERY;
pub use subscription_start::{ListenSnapshot, RowOrigin};

/// How often peers are checked for the heartbeat timeout.
const TICK: Duration = Duration::from_secs(1);

/// The state of the listening connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// There has been no connection yet.
    Unopened,
    /// It answers.
    Up,
    /// It is open, but stalled. Messages of the stall may still arrive.
    Stalled,
    /// It is lost. Messages are missed until the reconnect.
    Lost,
}

/// The state machine.
pub struct ClusterState {
    config: Config,
    link: Link,
    has_received: bool,
    channels: Channels,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    requests: Requests,
    listening: ListeningReader,
    look_ups: LookUps,
    replays: Replays,
    /// When the stall of the connection began; `None` without a stall.
    stalled_since: Option<Instant>,
    instances: Instances,
    heartbeat_timer: HeartbeatTimer,
    outputs: VecDeque<Output>,
    next_tick: Option<Instant>,
    /// Reused from one notification to the next.
    recipients: Vec<SubscriptionId>,
}

impl ClusterState {
    /// Makes a state machine without a connection.
    pub fn new(config: Config) -> Self {
        let schedule = HeartbeatSchedule {
            interval: config.heartbeat_interval,
            timeout: config.heartbeat_timeout,
            is_always: config.always_heartbeats,
        };
        Self {
            config,
            link: Link::Unopened,
            has_received: false,
            channels: Channels::default(),
            subscriptions: BTreeMap::new(),
            requests: Requests::default(),
            listening: ListeningReader::default(),
            look_ups: LookUps::default(),
            replays: Replays::default(),
            stalled_since: None,
            instances: Instances::default(),
            heartbeat_timer: HeartbeatTimer::new(schedule),
            outputs: VecDeque::new(),
            next_tick: None,
            recipients: Vec::new(),
        }
    }

    /// Handles an input. Read the outputs with [`poll_output`](Self::poll_output).
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Subscribe { id, channels, interest, wants_text } => {
                self.subscribe(now, id, channels, interest, wants_text);
            }
            Input::Unsubscribe { id } => self.unsubscribe(now, id),
            Input::Request(request) => self.start_request(now, request),
            Input::Listening(reading) => self.on_listening(now, reading),
            Input::Cancel { request } => self.end_request(&request),
            Input::Connected { listening, snapshot } => self.connected(now, listening, snapshot),
            Input::Stalled => self.on_stalled(now),
            Input::Resumed => self.on_resumed(now),
            Input::Disconnected(error) => self.disconnected(now, &error),
            Input::StatementDone(outcome) => self.statement_done(now, outcome),
            Input::Notification { channel, text, arrival } => self.notification(now, &channel, text, arrival),
            Input::Missed(count) => self.missed(now, count),
            Input::Rows { look_up, rows } => self.rows(now, look_up, rows),
            Input::Listed { rows, time } => self.listed(now, time, rows),
            Input::Join { subscription, channel, uid, hello_pending } => {
                self.join(now, subscription, &channel, uid, hello_pending);
            }
            Input::Leave { channel, uid } => {
                if let Some(state) = self.channels.get_mut(&channel) {
                    state.members.retain(|member| member.uid != uid);
                }
            }
            Input::QueueGoodbye { channel, uid } => {
                let namespace = channel.namespace(&self.config.channel_prefix).unwrap_or_default();
                self.heartbeat_timer.queue_goodbye(now, channel, namespace, uid);
            }
            Input::Locks(snapshot) => self.on_lock_snapshot(now, snapshot),
            Input::Announced(outcome) => {
                self.heartbeat_timer.on_published(now, outcome.is_ok(), &mut self.channels);
            }
            Input::Published { request, outcome } => {
                let step = self.requests.on_published(&request, outcome);
                self.apply_step(request, step);
            }
        }
    }

    /// Handles the passing of time. Call it at the latest at [`next_deadline`](Self::next_deadline).
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_tick.is_some_and(|tick| tick <= now) {
            self.next_tick = self.channels.has_any().then(|| now + TICK);
            if self.link == Link::Up {
                for (channel, uid) in self.channels.prune_peers(now, self.config.heartbeat_timeout) {
                    self.peer_left(&channel, &uid, Departure::TimedOut);
                }
            }
        }
        for request in self.requests.take_due(now) {
            let step = self.requests.on_timeout(now, &request);
            self.apply_step(request, step);
        }
        // While the listening connection stalls, the look-up sessions usually stall too, and no later message waits for
        // them.
        let expired = if self.link == Link::Up { self.look_ups.expired(now) } else { Vec::new() };
        for (id, waited) in expired {
            self.resolve(now, id, &Err(Error::AttachmentTimeout { id, waited }));
        }
        if self.link == Link::Up {
            self.handle_replay_timeouts(now);
        }
        self.read_listening(now);
        self.channels.retry_refused(now);
        self.announce(now);
    }

    /// Publishes the pending announcements of the nodes of this process.
    fn announce(&mut self, now: Instant) {
        if self.heartbeat_timer.next_deadline().is_some_and(|at| at <= now) {
            let messages = self.heartbeat_timer.collect(now, &mut self.channels);
            if !messages.is_empty() {
                self.outputs.push_back(Output::Announce(messages));
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), unless an input comes before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let all = [
            self.next_tick,
            self.requests.next_deadline(),
            self.listening.next_deadline(),
            self.look_ups.next_deadline(self.link == Link::Up),
            self.replays.next_deadline(self.link == Link::Up),
            self.channels.next_retry(),
            self.heartbeat_timer.next_deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// The next output, if there is one.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if matches!(self.link, Link::Up | Link::Stalled)
            && let Some(statement) = self.channels.next_statement()
        {
            return Some(Output::Execute(statement));
        }
        self.announce(now);
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if let Some((look_up, ids)) = self.look_ups.next(now) {
            return Some(Output::LookUp { look_up, ids });
        }
        if self.link == Link::Up { self.next_listing(now) } else { None }
    }

    /// Whether the connection answers and listens to every channel that was listened to before.
    pub fn is_listening(&self) -> bool {
        self.link == Link::Up && self.channels.all_restored()
    }

    /// Whether any notification was ever received.
    pub fn has_received(&self) -> bool {
        self.has_received
    }

    /// Whether this process has a node on a channel.
    pub fn has_member_on(&self, channel: &Channel) -> bool {
        self.channels.get(channel).is_some_and(|state| !state.members.is_empty())
    }

    /// Whether this process has nodes.
    pub fn has_members(&self) -> bool {
        self.channels.has_members()
    }

    /// The number of channels that the server has confirmed.
    pub fn confirmed_channels(&self) -> usize {
        self.channels.confirmed()
    }

    /// The live peers of a channel in the order of their uids, and whether the list is complete.
    pub fn live_nodes(&self, channel: &Channel, now: Instant) -> (Vec<LiveNode>, bool) {
        match self.channels.get(channel) {
            Some(state) => (state.peers.live(now, self.config.heartbeat_timeout), state.peers.is_known(now)),
            None => (Vec::new(), false),
        }
    }

    /// Whether a replay of durable events blocks the later messages of a channel. For tests.
    pub fn is_replaying(&self, channel: &Channel) -> bool {
        self.channels.get(channel).is_some_and(|state| state.queue.has_replay())
    }

    /// The resources that the machine holds. For tests, which expect none after all handles are dropped.
    pub fn held_resources(&self) -> HeldResources {
        HeldResources {
            wanted: self.channels.wanted(),
            confirmed: self.channels.confirmed(),
            subscriptions: self.subscriptions.len(),
            requests: self.requests.len(),
            look_ups: self.look_ups.len(),
            goodbyes: self.heartbeat_timer.goodbyes(),
            waiting_bytes: self.channels.waiting_bytes(),
        }
    }

    /// The channels with subscriptions, and those that the server has confirmed.
    pub fn channel_sets(&self) -> (Vec<Channel>, Vec<Channel>) {
        self.channels.sets()
    }

    /// The present moment and the heartbeat timeout while the connection answers; `None` otherwise.
    fn receiving(&self, now: Instant) -> Option<(Instant, Duration)> {
        (self.link == Link::Up).then_some((now, self.config.heartbeat_timeout))
    }

    fn release_channel(&mut self, channel: &Channel, remove_use: impl FnOnce(&mut ChannelState)) {
        self.channels.release(channel, remove_use);
        if self.channels.get(channel).is_none() {
            self.replays.remove(channel);
        }
    }

    fn start_request(&mut self, now: Instant, request: NewRequest) {
        let channel = request.channel.clone();
        let receiving = self.receiving(now);
        let state = self.channels.acquire(now, &channel, &self.config.channel_prefix, receiving);
        let id = request.id.clone();
        state.requests.insert(id.clone());
        self.next_tick.get_or_insert(now + TICK);
        let awaits_listening = request.awaits_listening;
        self.requests.insert(request);
        if awaits_listening && let Some(last) = self.listening.wanted(now) {
            // It is not sent yet, so this cannot end it.
            self.requests.on_listening(&id, Some(last));
        }
        self.read_listening(now);
        if self.channels.is_confirmed(&channel) {
            self.send_request(now, &id);
        }
    }

    /// Starts a reading of the servers that listen, if it is time.
    fn read_listening(&mut self, now: Instant) {
        if self.listening.starts(now) {
            self.outputs.push_back(Output::ReadListening);
        }
    }

    fn on_listening(&mut self, now: Instant, reading: Option<ListeningSessions>) {
        let sessions = self.listening.finished(now, reading);
        for request in self.requests.awaiting_listening() {
            let step = self.requests.on_listening(&request, sessions.clone());
            self.apply_step(request, step);
        }
        self.listening.plan(now, self.requests.is_listening_awaited());
    }

    fn send_request(&mut self, now: Instant, request: &RequestId) {
        let timeout = self.config.heartbeat_timeout;
        let peers = |channel: &Channel| self.channels.get(channel).map(|state| &state.peers);
        if let Some(messages) = self.requests.send(now, request, timeout, peers) {
            self.outputs.push_back(Output::Publish { request: request.clone(), messages });
        }
    }

    fn apply_step(&mut self, request: RequestId, step: RequestStep) {
        match step {
            RequestStep::Wait => {}
            RequestStep::Finish(outcome) => {
                self.end_request(&request);
                self.outputs.push_back(Output::Finished { request, outcome });
            }
        }
    }

    fn end_request(&mut self, request: &RequestId) {
        if let Some(channel) = self.requests.remove(request) {
            self.release_channel(&channel, |state| {
                state.requests.swap_remove(request);
            });
        }
    }

    fn peer_left(&mut self, channel: &Channel, uid: &Uid, departure: Departure) {
        let Some(state) = self.channels.get(channel) else { return };
        let requests: Vec<_> = state.requests.iter().cloned().collect();
        for request in requests {
            let step = self.requests.on_peer_left(&request, uid, departure);
            self.apply_step(request, step);
        }
    }

    fn connected(&mut self, now: Instant, listening: Vec<Channel>, snapshot: Option<Arc<ListenSnapshot>>) {
        self.link = Link::Up;
        self.stalled_since = None;
        self.look_ups.restart_deadlines(now);
        self.replays.restart_deadlines(now);
        let confirmations = self.channels.connected(listening);
        self.confirm(now, confirmations, snapshot);
    }

    /// Adds a node of this process to a channel that has a subscription.
    fn join(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        channel: &Channel,
        uid: Uid,
        hello_pending: bool,
    ) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        if state.subscribers.contains(&subscription) && state.members.iter().all(|member| member.uid != uid) {
            let timeout = self.config.heartbeat_timeout;
            state.members.push(Member::new(uid, subscription, hello_pending, now, timeout));
            self.heartbeat_timer.wake(now);
        }
    }

    /// Applies a lock snapshot: peers whose process has renewed its lock are live.
    fn on_lock_snapshot(&mut self, now: Instant, snapshot: LockSnapshot) {
        if self.link != Link::Up {
            return;
        }
        if self.heartbeat_timer.on_lock_snapshot(now, snapshot.holds_lock) {
            self.channels.members().for_each(Member::on_lock_regained);
            self.heartbeat_timer.wake(now);
        }
        let instances = match snapshot.locks {
            Some(locks) => {
                self.instances.update(&locks);
                Some(&self.instances)
            }
            None => None,
        };
        for (channel, uid) in self.channels.apply_locks(instances, now) {
            self.peer_left(&channel, &uid, Departure::TimedOut);
        }
    }

    fn on_stalled(&mut self, now: Instant) {
        if self.link == Link::Up {
            self.link = Link::Stalled;
            self.stalled_since = Some(now);
            self.heartbeat_timer.lose_lock(now);
            self.channels.stall_peers(now);
            self.requests.on_interruption();
            self.tell_subscribed(&Event::Stalled);
        }
    }

    fn on_resumed(&mut self, now: Instant) {
        if self.link == Link::Stalled {
            self.link = Link::Up;
            let since = self.stalled_since.take().unwrap_or(now);
            self.look_ups.restart_deadlines(now);
            self.replays.restart_deadlines(now);
            self.channels.resume_peers(now, self.config.heartbeat_timeout);
            self.tell_subscribed(&Event::Resumed(now.saturating_duration_since(since)));
        }
    }

    /// Delivers an event about the connection to the subscriptions that receive messages over it.
    fn tell_subscribed(&mut self, event: &Event) {
        for (id, subscription) in &self.subscriptions {
            if subscription.state == SubscriptionState::Subscribed && !subscription.channels.is_empty() {
                let event = event.clone();
                self.outputs.push_back(Output::Deliver { subscription: *id, event, bytes: 0 });
            }
        }
    }

    fn disconnected(&mut self, now: Instant, error: &Error) {
        self.link = Link::Lost;
        let since = self.stalled_since.take().unwrap_or(now);
        self.channels.open_gaps(since);
        self.heartbeat_timer.lose_lock(now);
        self.channels.disconnected();
        self.requests_may_be_lost();
        for (id, subscription) in &mut self.subscriptions {
            // A second loss during a gap extends that gap.
            if subscription.state == SubscriptionState::Subscribed && !subscription.channels.is_empty() {
                subscription.state = SubscriptionState::Lost(now);
                let event = Event::Lost(error.clone());
                self.outputs.push_back(Output::Deliver { subscription: *id, event, bytes: 0 });
            }
            subscription.unconfirmed = subscription.channels.iter().cloned().collect();
        }
    }

    fn statement_done(&mut self, now: Instant, outcome: Result<Option<Arc<ListenSnapshot>>, Error>) {
        let (outcome, snapshot) = match outcome {
            Ok(snapshot) => (Ok(()), snapshot),
            Err(error) => (Err(error), None),
        };
        let confirmations = self.channels.statement_done(now, outcome);
        self.confirm(now, confirmations, snapshot);
    }
}

/// The resources that a machine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldResources {
    /// Channels with subscriptions.
    pub wanted: usize,
    /// Channels that the server has confirmed.
    pub confirmed: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Pending requests.
    pub requests: usize,
    /// Rows that are queued or being looked up.
    pub look_ups: usize,
    /// Nodes that have ended and whose goodbye is not published yet.
    pub goodbyes: usize,
    /// Bytes of messages that wait for a row.
    pub waiting_bytes: usize,
}
