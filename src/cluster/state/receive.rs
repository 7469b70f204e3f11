//! The path of a notification to the subscriptions and requests. It is decoded as far as a subscription needs it, queued
//! behind messages that wait for their rows, and delivered in order.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::channels::ChannelState;
use super::delivery::{Filled, Recipients, Released, RowRead, Slot};
use super::io::{Arrival, Rows};
use super::members::Member;
use super::peers::Change;
use super::requests::{Departure, Requests};
use super::{ClusterState, LookUpId, NspSupport, Output, Row, SubscriptionId};
use crate::Error;
use crate::cluster::{Content, Event, Received};
use crate::protocol::{AttachmentId, Body, Channel, Header, Message, MessageKind, Notification, Uid};

/// How long before the report of an overflow the dropped notifications may have arrived.
const OVERFLOW_WINDOW: Duration = Duration::from_secs(10);

impl ClusterState {
    /// Handles a notification. Decodes as much of it as the subscriptions need.
    pub(super) fn notification(&mut self, now: Instant, name: &str, text: String, arrival: Arrival) {
        self.has_received = true;
        let keep = self.retention();
        let Some(mut state) = self.channels.get_by_name(name) else { return };
        let channel = state.channel.clone();
        // A notification proves that the session listens to the channel again, before the response to LISTEN arrives.
        if state.delivered.on_listening(now) {
            self.replay(now, &channel);
            let Some(again) = self.channels.get_by_name(name) else { return };
            state = again;
        }
        let mut recipients = std::mem::take(&mut self.recipients);
        recipients.clear();
        let mut interested = |header: Option<&Header>| {
            for id in &state.subscribers {
                if self.subscriptions.get(id).is_some_and(|subscription| (subscription.interest)(header)) {
                    recipients.push(*id);
                }
            }
        };
        let notification = match Notification::parse_cached(&text, &state.namespace, &mut state.envelopes) {
            Ok(notification) => notification,
            Err(error) => {
                interested(None);
                let content = Content::Unreadable(None, error);
                self.queue(now, channel, arrival, text, (content, None), recipients);
                return;
            }
        };
        let header = notification.header.clone();
        interested(Some(&header));
        // As in Node, a message on this channel for another namespace is dropped, but its sender counts as a peer.
        let nsp_support = NspSupport::of(&notification);
        let timeout = self.config.heartbeat_timeout;
        let change = state.peers.on_message(&header, nsp_support, &self.instances, now, timeout);
        for member in &mut state.members {
            let is_for_it = header.nsp == state.namespace;
            // A peer that cannot read the row does not count the sender.
            let may_not_count = notification.attachment.is_some() && header.uid == member.uid;
            if is_for_it && !may_not_count && member.on_message(&header.uid, header.kind, now) {
                self.heartbeat_timer.wake(now);
            }
            if matches!(change, Change::Started | Change::Found) && header.uid != member.uid {
                member.on_peer_without_lock(now);
                self.heartbeat_timer.on_peer_without_lock(now);
            }
        }
        let may_answer = !state.requests.is_empty() && is_response(header.kind);
        let shows_itself = matches!(change, Change::Started | Change::Found | Change::Settled);
        let requests: Vec<_> =
            if shows_itself { state.requests.iter().cloned().collect() } else { Vec::new() };
        for request in &requests {
            match change {
                Change::Started => self.requests.on_peer_started(request, &header.uid),
                _ => self.requests.on_peer_found(now, request, &header.uid, change),
            }
        }
        if change == Change::Uncounted {
            // A request may have more peers than the roster counts.
            self.requests.on_interruption();
        }
        let left = (change == Change::Left && !state.requests.is_empty()).then(|| header.uid.clone());
        let answers = may_answer
            && match notification.attachment {
                Some(_) => true,
                None => notification.request_id().is_some_and(|id| state.requests.contains(id.as_ref())),
            };
        let is_loopback = !state.requests.is_empty()
            && is_request(header.kind)
            && may_be_loopback(state, &mut self.requests, &notification);
        let is_wanted = !recipients.is_empty();
        if let Some(id) = notification.attachment {
            // A row is not delivered again to subscriptions that got it by the replay.
            let start = |id: &SubscriptionId| self.subscriptions.get(id)?.start.as_ref();
            recipients.retain(|subscription_id| !state.delivered.was_delivered(id, start(subscription_id)));
        }
        if recipients.is_empty() && !answers && !is_loopback {
            if let Some(id) = notification.attachment
                && !is_wanted
                && !state.subscribers.is_empty()
            {
                state.delivered.skip(id, now, keep);
            }
            self.recipients = recipients;
        } else if let Some(id) = notification.attachment
            && self.look_ups.is_recent_large(id, now)
        {
            let content = Content::Unreadable(Some(header), already_used(id));
            let row = Some(RowRead { id, deduplicate: false });
            self.queue(now, channel.clone(), arrival, text, (content, row), recipients);
        } else if let Some(id) = notification.attachment {
            let slot = Slot::waiting(arrival, text, id, header, recipients);
            if state.queue.push(slot, self.config.max_waiting_bytes) {
                self.look_ups.request(id, &channel, state.epoch, state.queue.last(), now);
            } else {
                self.requests.on_interruption();
                // The event may be durable.
                self.replay_later(now, &channel);
            }
        } else {
            let content = notification
                .into_message()
                .map_or_else(|error| Content::Unreadable(Some(header), error), Content::Message);
            self.queue(now, channel.clone(), arrival, text, (content, None), recipients);
        }
        if let Some(uid) = left {
            let max_bytes = self.config.max_waiting_bytes;
            let waits =
                self.channels.get_mut(&channel).is_some_and(|s| s.queue.push_goodbye(&uid, max_bytes));
            if !waits {
                self.peer_left(&channel, &uid, Departure::Goodbye);
            }
        }
        // It may be the last server that a request waited for.
        for request in requests {
            let step = self.requests.next_step(&request);
            self.apply_step(request, step);
        }
    }

    /// Delivers a complete message, or queues it behind messages that wait for their rows.
    pub(super) fn queue(
        &mut self,
        now: Instant,
        channel: Channel,
        arrival: Arrival,
        text: String,
        (content, row): (Content, Option<RowRead>),
        recipients: Vec<SubscriptionId>,
    ) {
        let Some(state) = self.channels.get_mut(&channel) else { return };
        let (attachment, is_replayed) = (None, false);
        let Arrival { time, backend } = arrival;
        let received =
            Received { time, backend, channel: channel.clone(), text, attachment, content, is_replayed };
        if state.queue.is_empty() {
            let recipients = self.deliver(now, &channel, received, recipients);
            self.recipients = recipients;
            return;
        }
        let request = match &received.content {
            Content::Message(Message { uid, body, .. }) if is_request(body.kind()) => body
                .request_id()
                .filter(|id| {
                    state.requests.contains(*id) && self.requests.awaits_loopback(id, uid, body.kind())
                })
                .cloned(),
            _ => None,
        };
        let slot =
            Slot::Ready { received: Box::new(received), recipients: Recipients::Known(recipients), row };
        if !state.queue.push(slot, self.config.max_waiting_bytes) {
            self.requests.on_interruption();
            if let Some(request) = request {
                let step = self.requests.on_loopback_dropped(&request);
                self.apply_step(request, step);
            }
        }
    }

    /// Hands a message to the request that it answers and to the subscribers that want it. Returns the emptied list.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        channel: &Channel,
        mut received: Received,
        mut recipients: Vec<SubscriptionId>,
    ) -> Vec<SubscriptionId> {
        if recipients.is_empty() {
            self.answer(now, channel, Cow::Owned(received.content));
            return recipients;
        }
        self.answer(now, channel, Cow::Borrowed(&received.content));
        let bytes = received.memory();
        let mut is_text_wanted = false;
        recipients.retain(|id| {
            let subscription = self.subscriptions.get(id);
            is_text_wanted |= subscription.is_some_and(|subscription| subscription.wants_text);
            subscription.is_some()
        });
        if !is_text_wanted {
            // Its bytes still count: the content is about as large.
            received.text = String::new();
        }
        if let Some(last) = recipients.pop() {
            let received = std::sync::Arc::new(received);
            for id in recipients.drain(..) {
                let event = Event::Message(received.clone());
                self.outputs.push_back(Output::Deliver { subscription: id, event, bytes });
            }
            let event = Event::Message(received);
            self.outputs.push_back(Output::Deliver { subscription: last, event, bytes });
        }
        recipients
    }

    fn answer(&mut self, now: Instant, channel: &Channel, content: Cow<'_, Content>) {
        let content = match content {
            Cow::Owned(Content::Message(Message { uid, body, .. })) if is_response(body.kind()) => {
                return self.response(now, channel, &uid, Cow::Owned(body));
            }
            other => other,
        };
        match &*content {
            Content::Message(Message { uid, body, .. }) if is_response(body.kind()) => {
                self.response(now, channel, uid, Cow::Borrowed(body));
            }
            Content::Message(Message { uid, body, .. }) if is_request(body.kind()) => {
                let Some(request) = body.request_id() else { return };
                let Some(state) = self.channels.get(channel) else { return };
                if state.requests.contains(request)
                    && self.requests.awaits_loopback(request, uid, body.kind())
                {
                    let step = self.requests.on_loopback(now, request, state.peers.known_from());
                    self.apply_step(request.clone(), step);
                }
            }
            Content::Missing(header) | Content::Unreadable(Some(header), _) if is_response(header.kind) => {
                let Some(state) = self.channels.get(channel) else { return };
                for request in &state.requests {
                    if self.requests.may_be_answered_by(request, header.kind) {
                        self.outputs.push_back(Output::Unread {
                            request: request.clone(),
                            node: header.uid.clone(),
                            reason: content.failure(),
                        });
                    }
                }
            }
            _ => {}
        }
    }

    /// Hands a response to its request. Only a response that subscriptions also get is copied.
    fn response(&mut self, now: Instant, channel: &Channel, uid: &Uid, body: Cow<'_, Body>) {
        let Some(request) = body.request_id().cloned() else { return };
        if let Some((reply, step)) = self.requests.on_answer(now, channel, &request, uid, body) {
            if let Some(reply) = reply {
                let output = Output::Answer { request: request.clone(), node: uid.clone(), reply };
                self.outputs.push_back(output);
            }
            self.apply_step(request, step);
        }
    }

    /// Answers, heartbeats and loopbacks of requests may be among the messages that were lost.
    pub(super) fn requests_may_be_lost(&mut self) {
        for request in self.requests.on_messages_lost() {
            let step = self.requests.next_step(&request);
            self.apply_step(request, step);
        }
    }

    pub(super) fn missed(&mut self, now: Instant, count: u64) {
        self.requests_may_be_lost();
        self.replay_all(now, now.checked_sub(OVERFLOW_WINDOW).unwrap_or(now));
        self.channels.on_messages_lost();
        self.channels.resume_peers(now, self.config.heartbeat_timeout);
        self.channels.confirmed_members().for_each(Member::on_messages_dropped);
        self.heartbeat_timer.wake(now);
        let ids: Vec<_> = self.subscriptions.keys().copied().collect();
        for id in ids {
            let event = Event::Missed(count);
            self.outputs.push_back(Output::Deliver { subscription: id, event, bytes: 0 });
        }
    }

    pub(super) fn rows(&mut self, now: Instant, look_up: LookUpId, rows: Rows) {
        match rows {
            Ok(mut rows) => {
                self.look_ups.on_response(now);
                for id in self.look_ups.finish(look_up) {
                    match rows.remove(&id) {
                        Some(Row::Postponed) => self.look_ups.postpone(id),
                        row => self.resolve(now, id, &Ok(row)),
                    }
                }
            }
            Err(error) if error.is_transient() => self.look_ups.retry(now, look_up),
            Err(error) => {
                for id in self.look_ups.finish(look_up) {
                    self.resolve(now, id, &Err(error.clone()));
                }
            }
        }
    }

    /// Fills the slots that wait for a row, and delivers the messages that are then ready.
    pub(super) fn resolve(&mut self, now: Instant, id: AttachmentId, row: &Result<Option<Row>, Error>) {
        let document = match row {
            Ok(Some(Row::Document(document))) => Some(document),
            _ => None,
        };
        let is_single_use =
            document.is_some_and(|document| self.look_ups.record_large(id, document.len(), now));
        let used_error = Err(already_used(id));
        let mut is_used = false;
        for (channel, epoch, number) in self.look_ups.take(id) {
            let Some(state) = self.channels.get_mut(&channel) else { continue };
            if state.epoch != epoch {
                continue;
            }
            // A replayed event is delivered in its own slot, even if another slot has used the row.
            let row = if is_single_use && is_used && !state.queue.is_replayed_slot(number) {
                &used_error
            } else {
                row
            };
            is_used = true;
            let namespace = state.namespace.clone();
            match state.queue.fill(&channel, number, row, &namespace, &self.config) {
                Filled::Done => {}
                Filled::Dropped => self.requests.on_interruption(),
                Filled::Failed => self.replay_later(now, &channel),
                Filled::DroppedFailed => {
                    self.requests.on_interruption();
                    self.replay_later(now, &channel);
                }
            }
            self.release(now, &channel);
        }
    }

    pub(super) fn release(&mut self, now: Instant, channel: &Channel) {
        while let Some(state) = self.channels.get_mut(channel) {
            let Some(released) = state.queue.pop_ready() else {
                if let Some((id, number)) = state.queue.take_deferred(self.config.max_waiting_bytes) {
                    self.look_ups.request(id, channel, state.epoch, number, now);
                }
                match self.advance_replay(now, channel) {
                    true => continue,
                    false => return,
                }
            };
            match released {
                Released::Message { received, recipients, row } => {
                    let recipients = self.recipients_of(now, channel, &received, recipients, row);
                    self.deliver(now, channel, *received, recipients);
                }
                Released::Goodbye(uid) => self.peer_left(channel, &uid, Departure::Goodbye),
                Released::Missed(count) => {
                    let subscribers = state.subscribers.clone();
                    for id in subscribers {
                        let event = Event::Missed(count);
                        self.outputs.push_back(Output::Deliver { subscription: id, event, bytes: 0 });
                    }
                }
            }
        }
    }
}

/// Whether this notification may be the loopback of a request. A message in a row shows it only after the look-up.
fn may_be_loopback(state: &ChannelState, requests: &mut Requests, notification: &Notification<'_>) -> bool {
    let Header { uid, kind, .. } = &notification.header;
    match notification.attachment {
        Some(_) => state.requests.iter().any(|id| requests.awaits_loopback(id, uid, *kind)),
        None => notification.request_id().is_some_and(|id| {
            state.requests.get(id.as_ref()).is_some_and(|id| requests.loopback_arrived(id, uid, *kind))
        }),
    }
}

/// The error of a message that names a large row which another message has already used.
fn already_used(id: AttachmentId) -> Error {
    Error::Decode(format!("another message has already used row {id} of the attachment table"))
}

fn is_request(kind: MessageKind) -> bool {
    matches!(kind, MessageKind::Broadcast | MessageKind::FetchSockets | MessageKind::ServerSideEmit)
}

fn is_response(kind: MessageKind) -> bool {
    matches!(
        kind,
        MessageKind::FetchSocketsResponse
            | MessageKind::ServerSideEmitResponse
            | MessageKind::BroadcastClientCount
            | MessageKind::BroadcastAck
    )
}
