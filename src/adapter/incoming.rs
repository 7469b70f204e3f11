//! Handles the messages and requests of other servers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use socketioxide_core::adapter::SocketEmitter;
use socketioxide_core::packet::Packet;
use tokio::task::{JoinError, JoinSet, unconstrained, yield_now};

use super::burst::Burst;
use super::deliver::Deliveries;
use super::delivery_choice::Delivery;
use super::fetches::Fetches;
use super::node::Node;
use super::server_side::ServerSideEvent;
use super::{PostgresAdapter, convert, target};
use crate::cluster::{Content, Event, Received, Subscription};
use crate::protocol::{Body, BroadcastOptions, EventArgs, Message, RequestId, Uid, Value};
use crate::{Error, Receipt};

/// The maximum number of waiting answers and of acknowledgement requests. Beyond it, requests get no answer, and the
/// requesting server reports that this one did not answer.
const MAX_ANSWERS: usize = 16_384;

/// The maximum number of clients whose acknowledgements are awaited; the last request may exceed it.
const MAX_AWAITED: usize = 262_144;

/// The longest time for which acknowledgements are awaited, whatever timeout a request has.
const MAX_ACK_TIMEOUT: Duration = Duration::from_secs(600);

/// The maximum number of messages that are handled before answers in progress go on and other tasks run.
const MAX_BATCH: usize = 128;

/// What arrived from another server.
enum Incoming {
    /// An event for clients.
    Event(BroadcastOptions, Packet),
    Other(Message),
    /// It has no content to deliver.
    Nothing,
}

/// The running answers of one namespace. They end with the task that owns them.
#[derive(Default)]
struct Answers {
    tasks: JoinSet<()>,
    fetches: Fetches,
    /// The number of clients whose acknowledgements are awaited.
    awaited: Arc<AtomicUsize>,
}

/// Clients whose acknowledgements are awaited, until it is dropped.
struct Awaited(Arc<AtomicUsize>, usize);

impl Awaited {
    fn new(awaited: &Arc<AtomicUsize>, clients: usize) -> Self {
        awaited.fetch_add(clients, Ordering::Relaxed);
        Self(awaited.clone(), clients)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Answers {
    /// Polls an answer once, and spawns it if it has to wait. So handlers are called in the order of the events, as in
    /// Node, while the tasks of a runtime may run in any order.
    fn start(&mut self, node: &Node, answer: impl Future<Output = ()> + Send + 'static) {
        if self.tasks.len() >= MAX_ANSWERS {
            return refuse(node);
        }
        let mut answer = Box::pin(answer);
        // With the budget of this task (tokio's cooperative scheduling), a handler could seem to wait when it need not.
        let polled = catch_unwind(AssertUnwindSafe(|| unconstrained(answer.as_mut()).now_or_never()));
        match polled {
            Ok(Some(())) => {}
            Ok(None) => drop(self.tasks.spawn(answer)),
            Err(panic) => node.report(&Error::panicked(AN_ANSWER, &*panic), DROPPED),
        }
    }

    /// Removes the answers that have ended, which count until then.
    fn remove_ended(&mut self, node: &Node) {
        while let Some(ended) = self.tasks.try_join_next() {
            report_panic(node, ended);
        }
    }

    fn fetch(&mut self, node: &Node, from: Uid, request_id: RequestId, opts: BroadcastOptions) {
        if !self.fetches.push(from, request_id, opts) {
            refuse(node);
        }
    }
}

/// What panicked, and what follows from it.
const AN_ANSWER: &str = "an answer to another server";
const DROPPED: &str = "request dropped";

fn report_panic(node: &Node, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        node.report_panic(AN_ANSWER, &error, DROPPED);
    }
}

fn refuse(node: &Node) {
    metrics::counter!("pgio_answers_dropped_total").increment(1);
    node.report(&Error::TooManyAnswers(MAX_ANSWERS), "cannot answer a request of another server");
}

/// Serves a namespace until its adapter is dropped.
pub(super) async fn serve<E: SocketEmitter>(
    adapter: Weak<PostgresAdapter<E>>,
    node: Arc<Node>,
    mut subscription: Subscription,
) {
    let mut answers = Answers::default();
    let mut deliveries = Deliveries::default();
    let mut handled = 0;
    loop {
        if answers.fetches.can_start() {
            let Some(adapter) = adapter.upgrade() else { return };
            adapter.start_fetches(&mut answers);
        }
        tokio::select! {
            event = subscription.next() => {
                let (Some(event), Some(adapter)) = (event, adapter.upgrade()) else { return };
                handled += adapter.handle_batch(event, &mut subscription, &mut answers, &mut deliveries).await;
                drop(adapter);
                answers.remove_ended(&node);
                if handled >= MAX_BATCH {
                    handled = 0;
                    yield_now().await;
                }
            }
            Some(ended) = answers.tasks.join_next(), if !answers.tasks.is_empty() => report_panic(&node, ended),
            () = answers.fetches.answered(), if answers.fetches.is_answering() => {}
        }
    }
}

async fn settle(node: Arc<Node>, receipts: Vec<Receipt>) {
    for receipt in receipts {
        if let Err(error) = receipt.await {
            metrics::counter!("pgio_publish_errors_total").increment(1);
            node.report(&error, "cannot publish an answer");
        }
    }
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    /// Answers requests that wait. Each answer describes the sockets before the next event.
    fn start_fetches(&self, answers: &mut Answers) {
        let describe = |opts| self.describe_sockets(target::from_wire(opts));
        (0..answers.fetches.start(&self.node, describe)).for_each(|_| refuse(&self.node));
    }

    /// Handles a message and the messages behind it in the queue, at most [`MAX_BATCH`] in all. Returns the number of messages.
    async fn handle_batch(
        self: &Arc<Self>,
        first: Event,
        subscription: &mut Subscription,
        answers: &mut Answers,
        deliveries: &mut Deliveries,
    ) -> usize {
        let (mut next, mut burst, mut count) = (Some(first), None, 0);
        while let Some(event) = next {
            count += 1;
            let (ended, other) = match self.read(event) {
                Incoming::Event(opts, packet) => (Burst::add(&mut burst, opts, packet), None),
                Incoming::Other(message) => (burst.take(), Some(message)),
                Incoming::Nothing => (None, None),
            };
            if let Some(burst) = ended {
                self.deliver(burst, false, deliveries).await;
            }
            if let Some(message) = other {
                self.handle_other(message, answers, deliveries);
            }
            // An event that stays in the subscription is seen at the start of the next batch.
            next = if count < MAX_BATCH { subscription.try_next() } else { None };
        }
        if let Some(burst) = burst {
            self.deliver(burst, count < MAX_BATCH, deliveries).await;
        }
        count
    }

    fn read(&self, event: Event) -> Incoming {
        let message = match event {
            Event::Message(received) => self.content(received),
            Event::Missed(count) => {
                metrics::counter!("pgio_messages_missed_total").increment(count);
                tracing::error!(count, nsp = %self.node.nsp, "messages of other servers were dropped: the receive queue is full");
                self.node.cluster.options().report(&Error::Missed(count));
                None
            }
            Event::Lost(error) => {
                metrics::gauge!("pgio_listener_up").set(0);
                // The connection serves all namespaces, and its owners log and report the loss once.
                tracing::debug!(%error, nsp = %self.node.nsp, "messages of other servers do not arrive");
                None
            }
            Event::Restored(away) => {
                metrics::gauge!("pgio_listener_up").set(1);
                tracing::debug!(?away, nsp = %self.node.nsp, "messages of other servers arrive again");
                None
            }
            // The listener logs it. No message is lost.
            Event::Stalled | Event::Resumed(_) => None,
        };
        match message {
            Some(Message { body: Body::Broadcast { opts, event, request_id: None }, .. }) => {
                self.packet(event).map_or(Incoming::Nothing, |packet| Incoming::Event(opts, packet))
            }
            Some(message) => Incoming::Other(message),
            None => Incoming::Nothing,
        }
    }

    /// The message, if its content arrived and is for this namespace.
    fn content(&self, received: Arc<Received>) -> Option<Message> {
        match received.into_content() {
            Content::Message(message) => {
                self.node.meters.received(message.kind()).increment(1);
                // As in Node, a message for another namespace than that of its channel is dropped.
                if message.nsp == self.node.nsp {
                    return Some(message);
                }
                tracing::debug!(nsp = %message.nsp, channel = %self.node.nsp, "not for this namespace");
            }
            Content::Missing(header) => {
                metrics::counter!("pgio_attachments_missing_total").increment(1);
                let error = Error::MissingAttachment { kind: header.kind, uid: header.uid };
                self.node.report(&error, "a message of another server is skipped");
            }
            Content::Unreadable(_, error) => {
                metrics::counter!("pgio_messages_malformed_total").increment(1);
                self.node.report(&error, "a message of another server is skipped");
            }
        }
        None
    }

    /// Handles a message that is not an event, or is one with an acknowledgement.
    fn handle_other(self: &Arc<Self>, message: Message, answers: &mut Answers, deliveries: &mut Deliveries) {
        let start = Instant::now();
        self.handle_message(message, answers);
        let end = Instant::now();
        deliveries.choice.delivered(Delivery::Queued, start, end);
        self.node.meters.delivery().record(end - start);
        if answers.fetches.can_start() {
            self.start_fetches(answers);
        }
    }

    fn handle_message(self: &Arc<Self>, Message { uid, body, .. }: Message, answers: &mut Answers) {
        match body {
            Body::Broadcast { opts, event, request_id: Some(id) } => {
                if let Some(packet) = self.packet(event) {
                    self.send_with_ack(packet, opts, id, answers);
                }
            }
            Body::SocketsJoin { opts, rooms } => {
                let opts = target::from_wire(opts);
                self.ensure_sid_rooms(&opts);
                self.local.add_sockets(opts, rooms);
            }
            Body::SocketsLeave { opts, rooms } => {
                let opts = target::from_wire(opts);
                self.ensure_sid_rooms(&opts);
                self.local.del_sockets(opts, rooms);
            }
            Body::DisconnectSockets { opts, close } => self.disconnect_local(target::from_wire(opts), close),
            Body::FetchSockets { opts, request_id } => {
                answers.fetch(&self.node, uid, request_id, opts);
            }
            Body::ServerSideEmit { event, request_id } => {
                answers.start(&self.node, self.clone().answer(uid, event, request_id));
            }
            _ => {}
        }
    }

    fn packet(&self, event: EventArgs) -> Option<Packet> {
        // Checks that it is an event: JSON text is forwarded unchanged, and clients fail on anything else.
        let value = event.event().map(drop).and_then(|()| self.format.value_of(event));
        match value {
            Ok(value) => Some(Packet::event(self.local.path().clone(), value)),
            Err(error) => {
                metrics::counter!("pgio_messages_malformed_total").increment(1);
                self.node.report(&error, "cannot deliver an event");
                None
            }
        }
    }

    /// Sends the packet to local clients, publishes their number, and forwards each acknowledgement.
    fn send_with_ack(
        self: &Arc<Self>,
        packet: Packet,
        opts: BroadcastOptions,
        id: RequestId,
        answers: &mut Answers,
    ) {
        if answers.tasks.len() >= MAX_ANSWERS || answers.awaited.load(Ordering::Relaxed) >= MAX_AWAITED {
            refuse(&self.node);
            return self.send_to_local(packet, target::from_wire(opts));
        }
        let timeout = opts.flags.timeout.map(|millis| Duration::from_millis(millis).min(MAX_ACK_TIMEOUT));
        let opts = target::from_wire(opts);
        let (acks, client_count) = self.send_to_local_with_ack(packet, opts, timeout);
        let awaited = Awaited::new(&answers.awaited, client_count as usize);
        let (node, adapter) = (self.node.clone(), Arc::downgrade(self));
        answers.tasks.spawn(async move {
            let _awaited = awaited;
            let count =
                Body::BroadcastClientCount { request_id: id.clone(), client_count: client_count.into() };
            let mut receipts = Vec::new();
            receipts.extend(node.enqueue(count).await.ok());
            let mut acks = pin!(acks);
            while let Some((sid, ack)) = acks.next().await {
                let Ok(answer) = ack else {
                    // The requesting server misses the answer. The client may have missed the event.
                    if let Some(adapter) = adapter.upgrade() {
                        adapter.probe_backpressure(sid);
                    }
                    continue;
                };
                let answer = convert::first_of(answer).unwrap_or_else(|error| {
                    node.report(&error, "cannot decode an acknowledgement");
                    Some(Value::Null)
                });
                let body = Body::BroadcastAck { request_id: id.clone(), answer };
                match node.enqueue(body).await {
                    Ok(receipt) => receipts.push(receipt),
                    Err(_) if node.is_closed() => {}
                    Err(error) => node.report(&error, "cannot publish an acknowledgement"),
                }
            }
            settle(node, receipts).await;
        });
    }

    /// Calls the handler of a server-side event, and publishes its answer if one is requested.
    async fn answer(self: Arc<Self>, from: Uid, event: EventArgs, request_id: Option<RequestId>) {
        let (name, args) = match event.into_parts() {
            Ok(parts) => parts,
            Err(error) => return self.node.report(&error, "server-side event skipped"),
        };
        let (ctr, node) = (self.ctr.clone(), self.node.clone());
        // A slow handler must not keep a closed namespace alive.
        drop(self);
        let namespace = node.nsp.clone();
        let wants_answer = request_id.is_some();
        let event = ServerSideEvent { from, namespace, event: name, args, wants_answer };
        let answer = ctr.0.answer(&node, event).await;
        if let (Some(answer), Some(request_id)) = (answer, request_id) {
            node.publish_or_report(Body::ServerSideEmitResponse { request_id, answer }).await;
        }
    }
}
