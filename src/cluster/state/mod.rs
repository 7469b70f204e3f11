//! The cluster's state machine: subscriptions, members, requests and the order of delivery. No I/O, no clock, no tasks.
//!
//! It owns every decision between the listening connection and the subscribers. [`Input`]s and the present moment go in,
//! [`Output`]s come out; the driver carries them out and never decides. The rules that it keeps:
//!
//! 1. A channel is listened to exactly while a subscription or a request wants it. The wanted set and the set that the
//!    server has confirmed are kept apart; their difference is worked off in statements, after a reconnect as well.
//! 2. A request has one deadline for everything: subscribing, discovery, publishing and answers. It is complete only if
//!    every peer that was asked has answered, and if the peers were known when it was sent.
//! 3. An answer finds its request by the request's id, whatever the number of requests.
//! 4. The messages of a channel are delivered in the order of their notifications, once. A slow look-up delays its own
//!    channel only, and no longer than [`LOOK_UP_DEADLINE`].
//!
//! Limits: [`Input::Stalled`] has to come before a peer's heartbeat timeout can pass unheard, at the latest a heartbeat
//! timeout less a heartbeat interval after the connection fell silent. A connection that falls silent within the
//! [`DISCOVERY`] of a request, after the question arrived, is noticed too late for that request: peers that it did not
//! know yet are missing, and it is called complete.

#![forbid(unsafe_code)]

mod channels;
mod delivery;
mod instances;
mod io;
mod look_ups;
mod members;
mod peers;
mod receive;
mod replay;
mod requests;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::Event;
use crate::Error;
use crate::protocol::{Channel, LockSnapshot, RequestId, Uid};
use channels::{ChannelState, Channels, Confirmation};
use instances::Instances;
use look_ups::LookUps;
use members::{HeartbeatSchedule, HeartbeatTimer, Member};
use replay::Replays;
use requests::{Departure, RequestStep, Requests};

pub use io::{
    Arrival, Config, DurableRow, DurableRows, Input, Interest, LookUpId, NewRequest, Output, Reply, Row,
    Rows, Statement, SubscriptionId, Summary,
};
pub use look_ups::LOOK_UP_DEADLINE;
pub use peers::{LiveNode, Liveness, NspSupport};
pub use requests::DISCOVERY;

/// How often peers are checked for the heartbeat timeout.
const TICK: Duration = Duration::from_secs(1);

/// The listening connection, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// There has been none yet.
    Unopened,
    /// It answers.
    Up,
    /// It is open, but stalled. Messages of the stall may still arrive.
    Stalled,
    /// It is lost. Messages are missed until the reconnect.
    Lost,
}

/// A reader of some channels.
struct Subscription {
    channels: Vec<Channel>,
    interest: Interest,
    /// The channels that the server has not confirmed; empty while it is [`SubscriptionState::Subscribed`].
    unconfirmed: HashSet<Channel>,
    standing: SubscriptionState,
    /// When it was made first: events from before that are not for it.
    made_at: Option<Instant>,
}

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubscriptionState {
    /// Its subscriber waits for [`Output::Subscribed`].
    Subscribing,
    /// Every gap is reported to the subscription.
    Subscribed,
    /// Its subscriber knows of a loss since that moment, and is to be told of its end.
    Lost(Instant),
}

/// The state machine.
pub struct ClusterState {
    config: Config,
    link: Link,
    has_heard: bool,
    channels: Channels,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    requests: Requests,
    look_ups: LookUps,
    replays: Replays,
    /// Since when the connection is silent, while it is.
    silent_since: Option<Instant>,
    instances: Instances,
    heartbeat_timer: HeartbeatTimer,
    outputs: VecDeque<Output>,
    next_tick: Option<Instant>,
    /// Reused from one notification to the next.
    recipients: Vec<SubscriptionId>,
}

impl ClusterState {
    /// A machine without a connection.
    pub fn new(config: Config) -> Self {
        let schedule = HeartbeatSchedule {
            interval: config.heartbeat_interval,
            timeout: config.heartbeat_timeout,
            is_always: config.always_heartbeats,
        };
        Self {
            config,
            link: Link::Unopened,
            has_heard: false,
            channels: Channels::default(),
            subscriptions: BTreeMap::new(),
            requests: Requests::default(),
            look_ups: LookUps::default(),
            replays: Replays::default(),
            silent_since: None,
            instances: Instances::default(),
            heartbeat_timer: HeartbeatTimer::new(schedule),
            outputs: VecDeque::new(),
            next_tick: None,
            recipients: Vec::new(),
        }
    }

    /// Takes in what happened. Read the consequences with [`poll_output`](Self::poll_output).
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Subscribe { id, channels, interest } => self.subscribe(now, id, channels, interest),
            Input::Unsubscribe { id } => self.unsubscribe(now, id),
            Input::Ask(question) => self.ask(now, question),
            Input::Cancel { request } => self.end_request(&request),
            Input::Connected { listening } => self.connected(now, listening),
            Input::Stalled => self.silent(now),
            Input::Resumed => self.awake(now),
            Input::Disconnected(error) => self.disconnected(now, &error),
            Input::StatementDone(outcome) => self.statement_done(now, outcome),
            Input::Notification { channel, text, arrival } => self.notification(now, &channel, text, arrival),
            Input::Missed(count) => self.missed(now, count),
            Input::Rows { look_up, rows } => self.rows(now, look_up, rows),
            Input::Listed { rows, time } => self.listed(now, time, rows),
            Input::Join { subscription, channel, uid, owes_hello } => {
                self.join(now, subscription, &channel, uid, owes_hello);
            }
            Input::Leave { channel, uid } => {
                if let Some(state) = self.channels.get_mut(&channel) {
                    state.members.retain(|member| member.uid != uid);
                }
            }
            Input::OweGoodbye { channel, uid } => {
                let namespace = channel.namespace(&self.config.channel_prefix).unwrap_or_default();
                self.heartbeat_timer.owe_goodbye(now, channel, namespace, uid);
            }
            Input::Locks(look) => self.looked(now, look),
            Input::Announced(outcome) => {
                self.heartbeat_timer.published(now, outcome.is_ok(), &mut self.channels);
            }
            Input::Published { request, outcome } => {
                let step = self.requests.published(&request, outcome);
                self.take_step(request, step);
            }
        }
    }

    /// Takes in that time has passed: at the latest at [`next_deadline`](Self::next_deadline).
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_tick.is_some_and(|tick| tick <= now) {
            self.next_tick = self.channels.has_any().then(|| now + TICK);
            if self.link == Link::Up {
                for (channel, uid) in self.channels.prune_peers(now, self.config.heartbeat_timeout) {
                    self.peer_left(&channel, &uid, Departure::TimedOut);
                }
            }
        }
        for request in self.requests.due(now) {
            let step = self.requests.timed_out(now, &request);
            self.take_step(request, step);
        }
        // While the connection is silent, so are those of the look-ups as a rule, and nothing else waits behind them.
        let expired = if self.link == Link::Up { self.look_ups.expired(now) } else { Vec::new() };
        for (id, waited) in expired {
            self.resolve(now, id, &Err(Error::AttachmentTimeout { id, waited }));
        }
        if self.link == Link::Up {
            self.replays_due(now);
        }
        self.channels.retry_refused(now);
        self.announce(now);
    }

    /// Publishes what the nodes of this process owe.
    fn announce(&mut self, now: Instant) {
        if self.heartbeat_timer.next_deadline().is_some_and(|at| at <= now) {
            let messages = self.heartbeat_timer.collect(now, &mut self.channels);
            if !messages.is_empty() {
                self.outputs.push_back(Output::Announce(messages));
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let all = [
            self.next_tick,
            self.requests.next_deadline(),
            self.look_ups.next_deadline(self.link == Link::Up),
            self.replays.next_deadline(self.link == Link::Up),
            self.channels.next_retry(),
            self.heartbeat_timer.next_deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// The next thing to do, if there is one.
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
        self.link == Link::Up && self.channels.misses_nothing()
    }

    /// Whether any notification was ever received.
    pub fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// How many channels the server has confirmed.
    pub fn confirmed_channels(&self) -> usize {
        self.channels.confirmed()
    }

    /// The peers of a channel that are live, in the order of their uids, and whether these must be all.
    pub fn live_nodes(&self, channel: &Channel, now: Instant) -> (Vec<LiveNode>, bool) {
        match self.channels.get(channel) {
            Some(state) => (state.peers.live(now, self.config.heartbeat_timeout), state.peers.is_known(now)),
            None => (Vec::new(), false),
        }
    }

    /// Whether durable events that were missed hold back what comes later on a channel: for tests.
    pub fn is_replaying(&self, channel: &Channel) -> bool {
        self.channels.get(channel).is_some_and(|state| state.queue.has_replay())
    }

    /// What is left: for tests, which expect nothing when all handles are gone.
    pub fn remains(&self) -> Remains {
        Remains {
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

    fn subscribe(&mut self, now: Instant, id: SubscriptionId, channels: Vec<Channel>, interest: Interest) {
        let mut unconfirmed = HashSet::new();
        for channel in &channels {
            let hears = self.hears(now);
            let state = self.channels.want(now, channel, &self.config.channel_prefix, hears);
            if !state.subscribers.contains(&id) {
                state.subscribers.push(id);
            }
            if !self.channels.is_confirmed(channel) {
                unconfirmed.insert(channel.clone());
            }
        }
        self.next_tick.get_or_insert(now + TICK);
        let standing = if unconfirmed.is_empty() {
            self.outputs.push_back(Output::Subscribed { id, outcome: Ok(()) });
            SubscriptionState::Subscribed
        } else {
            SubscriptionState::Subscribing
        };
        let made_at = (standing == SubscriptionState::Subscribed).then_some(now);
        let subscription = Subscription { channels, interest, unconfirmed, standing, made_at };
        self.subscriptions.insert(id, subscription);
    }

    fn hears(&self, now: Instant) -> Option<(Instant, Duration)> {
        (self.link == Link::Up).then_some((now, self.config.heartbeat_timeout))
    }

    fn unsubscribe(&mut self, now: Instant, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        for channel in &subscription.channels {
            if let Some(state) = self.channels.get_mut(channel) {
                for member in state.members.extract_if(.., |member| member.subscription == id) {
                    if member.has_spoken {
                        self.heartbeat_timer.owe_goodbye(
                            now,
                            channel.clone(),
                            state.namespace.clone(),
                            member.uid,
                        );
                    }
                }
            }
            self.release_channel(channel, |state| state.subscribers.retain(|other| *other != id));
        }
    }

    fn release_channel(&mut self, channel: &Channel, take_back: impl FnOnce(&mut ChannelState)) {
        self.channels.release(channel, take_back);
        if self.channels.get(channel).is_none() {
            self.replays.forget(channel);
        }
    }

    fn ask(&mut self, now: Instant, question: NewRequest) {
        let channel = question.channel.clone();
        let hears = self.hears(now);
        let state = self.channels.want(now, &channel, &self.config.channel_prefix, hears);
        state.requests.insert(question.id.clone());
        self.next_tick.get_or_insert(now + TICK);
        let request = question.id.clone();
        self.requests.insert(question);
        if self.channels.is_confirmed(&channel) {
            self.send_request(now, &request);
        }
    }

    fn send_request(&mut self, now: Instant, request: &RequestId) {
        let timeout = self.config.heartbeat_timeout;
        let peers = |channel: &Channel| self.channels.get(channel).map(|state| &state.peers);
        if let Some(messages) = self.requests.send(now, request, timeout, peers) {
            self.outputs.push_back(Output::Publish { request: request.clone(), messages });
        }
    }

    fn take_step(&mut self, request: RequestId, step: RequestStep) {
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
        let asked: Vec<_> = state.requests.iter().cloned().collect();
        for request in asked {
            let step = self.requests.peer_left(&request, uid, departure);
            self.take_step(request, step);
        }
    }

    fn connected(&mut self, now: Instant, listening: Vec<Channel>) {
        self.link = Link::Up;
        self.silent_since = None;
        self.look_ups.restart_deadlines(now);
        self.replays.restart_deadlines(now);
        let confirmations = self.channels.connected(listening);
        self.confirm(now, confirmations);
    }

    /// A node of this process serves the namespace of a channel, which is subscribed to.
    fn join(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        channel: &Channel,
        uid: Uid,
        owes_hello: bool,
    ) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        if state.subscribers.contains(&subscription) && state.members.iter().all(|member| member.uid != uid) {
            let timeout = self.config.heartbeat_timeout;
            state.members.push(Member::new(uid, subscription, owes_hello, now, timeout));
            self.heartbeat_timer.wake(now);
        }
    }

    /// Applies a snapshot of the locks: peers whose process has renewed its lock are live.
    fn looked(&mut self, now: Instant, look: LockSnapshot) {
        if self.link != Link::Up {
            return;
        }
        if self.heartbeat_timer.looked(now, look.holds) {
            self.channels.members().for_each(Member::reappear);
            self.heartbeat_timer.wake(now);
        }
        let instances = match look.beats {
            Some(beats) => {
                self.instances.look(&beats);
                Some(&self.instances)
            }
            None => None,
        };
        for (channel, uid) in self.channels.look(instances, now) {
            self.peer_left(&channel, &uid, Departure::TimedOut);
        }
    }

    fn silent(&mut self, now: Instant) {
        if self.link == Link::Up {
            self.link = Link::Stalled;
            self.silent_since = Some(now);
            self.heartbeat_timer.lose_lock(now);
            self.channels.stall_peers(now);
            self.requests.interrupt();
        }
    }

    fn awake(&mut self, now: Instant) {
        if self.link == Link::Stalled {
            self.link = Link::Up;
            self.silent_since = None;
            self.look_ups.restart_deadlines(now);
            self.replays.restart_deadlines(now);
            self.channels.resume_peers(now, self.config.heartbeat_timeout);
        }
    }

    fn disconnected(&mut self, now: Instant, error: &Error) {
        self.link = Link::Lost;
        let since = self.silent_since.take().unwrap_or(now);
        self.channels.interrupted(since);
        self.heartbeat_timer.lose_lock(now);
        self.channels.disconnected();
        self.lose_questions();
        for (id, subscription) in &mut self.subscriptions {
            // A second loss before the first was made good belongs to the first.
            if subscription.standing == SubscriptionState::Subscribed && !subscription.channels.is_empty() {
                subscription.standing = SubscriptionState::Lost(now);
                let event = Event::Lost(error.clone());
                self.outputs.push_back(Output::Deliver { subscription: *id, event, bytes: 0 });
            }
            subscription.unconfirmed = subscription.channels.iter().cloned().collect();
        }
    }

    fn statement_done(&mut self, now: Instant, outcome: Result<(), Error>) {
        let confirmations = self.channels.statement_done(now, outcome);
        self.confirm(now, confirmations);
    }

    fn confirm(&mut self, now: Instant, confirmations: Vec<Confirmation>) {
        for Confirmation { channel, outcome } in confirmations {
            let Some(state) = self.channels.get_mut(&channel) else { continue };
            if outcome.is_ok() && self.link == Link::Up {
                state.peers.resume(now, self.config.heartbeat_timeout);
                for member in &mut state.members {
                    member.on_reconnect(now, self.config.heartbeat_timeout);
                    self.heartbeat_timer.wake(now);
                }
            }
            let ends_gap = outcome.is_ok() && state.memory.hears(now);
            let (subscribers, requests) =
                (state.subscribers.clone(), state.requests.iter().cloned().collect::<Vec<_>>());
            for id in subscribers {
                self.confirm_subscription(now, id, &channel, &outcome);
            }
            if ends_gap {
                self.replay(now, &channel);
            }
            for request in requests {
                if !self.requests.is_unsent(&request) {
                    continue;
                }
                match &outcome {
                    Ok(()) => self.send_request(now, &request),
                    Err(error) => self.take_step(request, RequestStep::Finish(Err(error.clone()))),
                }
            }
        }
    }

    fn confirm_subscription(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        channel: &Channel,
        outcome: &Result<(), Error>,
    ) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        match outcome {
            Ok(()) => {
                subscription.unconfirmed.remove(channel);
                if !subscription.unconfirmed.is_empty() {
                    return;
                }
                match std::mem::replace(&mut subscription.standing, SubscriptionState::Subscribed) {
                    SubscriptionState::Subscribing => {
                        subscription.made_at = Some(now);
                        self.outputs.push_back(Output::Subscribed { id, outcome: Ok(()) });
                    }
                    SubscriptionState::Subscribed => {}
                    SubscriptionState::Lost(since) => {
                        let event = Event::Restored(now.saturating_duration_since(since));
                        self.outputs.push_back(Output::Deliver { subscription: id, event, bytes: 0 });
                    }
                }
            }
            Err(error) if subscription.standing == SubscriptionState::Subscribing => {
                self.outputs.push_back(Output::Subscribed { id, outcome: Err(error.clone()) });
                self.unsubscribe(now, id);
            }
            // It waits until the server takes the channel again.
            Err(_) => {}
        }
    }
}

/// What a machine still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remains {
    /// Channels with subscriptions.
    pub wanted: usize,
    /// Channels that the server has confirmed.
    pub confirmed: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Pending requests.
    pub requests: usize,
    /// Rows that are wanted or being looked up.
    pub look_ups: usize,
    /// Nodes that have ended, and whose goodbye is to be published.
    pub goodbyes: usize,
    /// Bytes of messages that wait for a row before them.
    pub waiting_bytes: usize,
}
