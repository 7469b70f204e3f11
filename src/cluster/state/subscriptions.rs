//! Subscriptions: they begin when the server has confirmed all their channels, and end when their handle is dropped.
//!
//! Owns no state besides the types; the machine holds the subscriptions. In: subscribe, unsubscribe, and the confirmations
//! of the server. Out: [`Output::Subscribed`], and the end of a gap. Invariants: the machine reports every gap once to each
//! subscriber, and its end only after the server has confirmed all channels again; a subscriber that is not in a gap knows
//! whether the connection has stalled.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::channels::Confirmation;
use super::requests::RequestStep;
use super::subscription_start::SubscriptionStart;
use super::{ClusterState, Event, Interest, Link, ListenSnapshot, Output, SubscriptionId, TICK};
use crate::Error;
use crate::protocol::Channel;

/// A subscription to some channels.
pub(super) struct Subscription {
    pub(super) channels: Vec<Channel>,
    pub(super) interest: Interest,
    pub(super) wants_text: bool,
    /// The channels that the server has not confirmed; empty while it is [`SubscriptionState::Subscribed`].
    pub(super) unconfirmed: HashSet<Channel>,
    pub(super) state: SubscriptionState,
    /// When the server first confirmed it. Durable events from before are not replayed to it.
    pub(super) start: Option<SubscriptionStart>,
}

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubscriptionState {
    /// Its subscriber waits for [`Output::Subscribed`].
    Subscribing,
    /// Every gap is reported to the subscription.
    Subscribed,
    /// The subscriber was told of a gap that began at that moment. It still has to be told of the end of the gap.
    Lost(Instant),
}

impl ClusterState {
    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        channels: Vec<Channel>,
        interest: Interest,
        wants_text: bool,
    ) {
        let mut unconfirmed = HashSet::new();
        for channel in &channels {
            let receiving = self.receiving(now);
            let state = self.channels.acquire(now, channel, &self.config.channel_prefix, receiving);
            if !state.subscribers.contains(&id) {
                state.subscribers.push(id);
            }
            if !self.channels.is_confirmed(channel) {
                unconfirmed.insert(channel.clone());
            }
        }
        self.next_tick.get_or_insert(now + TICK);
        let state = if unconfirmed.is_empty() {
            self.outputs.push_back(Output::Subscribed { id, outcome: Ok(()) });
            SubscriptionState::Subscribed
        } else {
            SubscriptionState::Subscribing
        };
        let is_subscribed = state == SubscriptionState::Subscribed;
        if is_subscribed && self.link == Link::Stalled && !channels.is_empty() {
            self.outputs.push_back(Output::Deliver { subscription: id, event: Event::Stalled, bytes: 0 });
        }
        let start = is_subscribed.then_some(SubscriptionStart { at: now, snapshot: None });
        let subscription = Subscription { channels, interest, wants_text, unconfirmed, state, start };
        self.subscriptions.insert(id, subscription);
    }

    pub(super) fn unsubscribe(&mut self, now: Instant, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        for channel in &subscription.channels {
            if let Some(state) = self.channels.get_mut(channel) {
                for member in state.members.extract_if(.., |member| member.subscription == id) {
                    if member.has_published {
                        self.heartbeat_timer.queue_goodbye(
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

    /// Handles confirmations of the server, with the snapshot of their LISTEN.
    pub(super) fn confirm(
        &mut self,
        now: Instant,
        confirmations: Vec<Confirmation>,
        snapshot: Option<Arc<ListenSnapshot>>,
    ) {
        let start = SubscriptionStart { at: now, snapshot };
        for Confirmation { channel, outcome } in confirmations {
            let Some(state) = self.channels.get_mut(&channel) else { continue };
            if outcome.is_ok() && self.link == Link::Up {
                state.peers.on_listening(now, self.config.heartbeat_timeout);
                for member in &mut state.members {
                    member.on_reconnect(now, self.config.heartbeat_timeout);
                    self.heartbeat_timer.wake(now);
                }
            }
            let ends_gap = outcome.is_ok() && state.delivered.on_listening(now);
            let (subscribers, requests) =
                (state.subscribers.clone(), state.requests.iter().cloned().collect::<Vec<_>>());
            for id in subscribers {
                self.confirm_subscription(&start, id, &channel, &outcome);
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
                    Err(error) => self.apply_step(request, RequestStep::Finish(Err(error.clone()))),
                }
            }
        }
    }

    fn confirm_subscription(
        &mut self,
        start: &SubscriptionStart,
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
                match std::mem::replace(&mut subscription.state, SubscriptionState::Subscribed) {
                    SubscriptionState::Subscribing => {
                        subscription.start = Some(start.clone());
                        self.outputs.push_back(Output::Subscribed { id, outcome: Ok(()) });
                    }
                    SubscriptionState::Subscribed => {}
                    SubscriptionState::Lost(since) => {
                        let event = Event::Restored(start.at.saturating_duration_since(since));
                        self.outputs.push_back(Output::Deliver { subscription: id, event, bytes: 0 });
                    }
                }
            }
            Err(error) if subscription.state == SubscriptionState::Subscribing => {
                self.outputs.push_back(Output::Subscribed { id, outcome: Err(error.clone()) });
                self.unsubscribe(start.at, id);
            }
            // The subscription stays, and continues when the server accepts the channel again.
            Err(_) => {}
        }
    }
}
