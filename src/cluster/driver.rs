//! The driver executes the outputs of the state machine. It is one task between the listening session, the look-ups, the
//! publisher and the handles of users.
//!
//! It owns the machine, so there is no lock. In: commands and notifications. Out: events, answers and statements. It never
//! blocks on slow work: each [job](jobs) is a future among others.

mod handles;
mod jobs;

use std::collections::{BTreeMap, HashMap};
use std::mem::{Discriminant, discriminant};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;
use tokio_util::task::AbortOnDropHandle;

use super::state::{
    Arrival, ClusterState, Config, Input, Interest, LiveNode, NewRequest, Output, Statement, SubscriptionId,
};
use super::{AdapterOptions, Event, Heartbeats};
use crate::postgres::lossy_queue::{Next, Reader, Writer};
use crate::postgres::{self, CheckedTable, Listener, ListenerEvent, Presence, Publisher, Session};
#[cfg(feature = "adapter")]
use crate::protocol::Uid;
use crate::protocol::{Channel, Header, Message, Namespace, RequestId};
use crate::{Error, Result};

#[cfg(feature = "adapter")]
pub(crate) use handles::size_of_sockets;
pub(super) use handles::{Dropped, Reaper, ResponsePart};
pub(in crate::cluster) use jobs::listening;
use jobs::{LookUpTimeout, count_announced, list, publish_all, rows};

/// The maximum number of notifications that are handled before the outputs are executed.
const MAX_BATCH: usize = 512;

/// The bound of the command queue.
const COMMAND_QUEUE: usize = 256;

/// The bound of the queue of one channel behind a row, in bytes.
const WAITING_BYTES: usize = 64 << 20;

/// A command of a handle to the driver.
pub(super) enum Command {
    Subscribe {
        id: SubscriptionId,
        channels: Vec<Channel>,
        interest: Interest,
        wants_text: bool,
        events: Writer<Event>,
        confirmation: oneshot::Sender<Result<()>>,
    },
    Request {
        request: NewRequest,
        parts: Writer<ResponsePart>,
    },
    #[cfg(feature = "adapter")]
    Join {
        subscription: SubscriptionId,
        channel: Channel,
        uid: Uid,
        hello_pending: bool,
    },
    #[cfg(feature = "adapter")]
    QueueGoodbye {
        channel: Channel,
        uid: Uid,
    },
    #[cfg(feature = "adapter")]
    Leave {
        channel: Channel,
        uid: Uid,
        left: oneshot::Sender<()>,
    },
    LiveNodes {
        channels: Vec<Channel>,
        /// For each channel its live peers, and whether the list is complete.
        answer: oneshot::Sender<Vec<(Vec<LiveNode>, bool)>>,
    },
}

/// The status of the driver, which handles read without a command.
#[derive(Default)]
pub(super) struct Status {
    is_listening: AtomicBool,
    has_received: AtomicBool,
    channels: AtomicUsize,
    /// How often the listening connection was lost or stalled, or dropped notifications.
    interruptions: AtomicU64,
}

impl Status {
    #[cfg(feature = "server")]
    pub(super) fn interruptions(&self) -> u64 {
        self.interruptions.load(Ordering::Relaxed)
    }

    pub(super) fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Relaxed)
    }

    pub(super) fn has_received(&self) -> bool {
        self.has_received.load(Ordering::Relaxed)
    }

    pub(super) fn channels(&self) -> usize {
        self.channels.load(Ordering::Relaxed)
    }
}

/// The driver's task, and the queues to it.
pub(super) struct DriverHandle {
    commands: mpsc::Sender<Command>,
    pub(super) reaper: Reaper,
    pub(super) status: Arc<Status>,
    _task: AbortOnDropHandle<()>,
}

impl DriverHandle {
    /// Starts the task on an open listening session.
    pub(super) fn start(
        (listener, events): (Listener, Reader<ListenerEvent>),
        options: &AdapterOptions,
        publisher: Publisher,
        rows: Arc<Session>,
        table: Arc<CheckedTable>,
        presence: Presence,
    ) -> Self {
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let (reaper, status) = (Reaper::default(), Arc::new(Status::default()));
        let config = Config {
            channel_prefix: options.channel_prefix.clone(),
            heartbeat_interval: options.heartbeat_interval,
            heartbeat_timeout: options.heartbeat_timeout,
            cleanup_interval: options.cleanup_interval,
            always_heartbeats: options.heartbeats == Heartbeats::Always,
            max_waiting_bytes: WAITING_BYTES,
            max_attachment: options.max_attachment,
        };
        let driver = Driver {
            state: ClusterState::new(config),
            listener,
            connection: 0,
            publisher,
            rows,
            table,
            presence,
            main_channel: Namespace::default().channel(&options.channel_prefix).ok(),
            options: options.clone(),
            reaper: reaper.clone(),
            status: status.clone(),
            subscribers: BTreeMap::new(),
            unflushed: Vec::new(),
            requesters: HashMap::new(),
            jobs: FuturesUnordered::new(),
            failed_readings: Arc::default(),
            look_up_timeout: LookUpTimeout::new(),
            heartbeats_fail: Arc::default(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(driver.run(events, receiver)));
        Self { commands, reaper, status, _task: task }
    }

    pub(super) async fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| Error::Closed)
    }
}

struct Subscriber {
    events: Writer<Event>,
    /// Whether it is among the unflushed subscribers.
    is_unflushed: bool,
    confirmation: Option<oneshot::Sender<Result<()>>>,
}

struct Driver {
    state: ClusterState,
    listener: Listener,
    /// The number of the listening connection.
    connection: u64,
    publisher: Publisher,
    rows: Arc<Session>,
    table: Arc<CheckedTable>,
    presence: Presence,
    /// The channel of the main namespace.
    main_channel: Option<Channel>,
    options: AdapterOptions,
    reaper: Reaper,
    status: Arc<Status>,
    subscribers: BTreeMap<SubscriptionId, Subscriber>,
    /// The subscribers with events that are not flushed yet.
    unflushed: Vec<SubscriptionId>,
    requesters: HashMap<RequestId, Writer<ResponsePart>>,
    /// Look-ups and publications in progress.
    jobs: FuturesUnordered<BoxFuture<'static, Input>>,
    /// The readings of the servers that listen in a row that were not in time.
    failed_readings: Arc<AtomicU32>,
    look_up_timeout: LookUpTimeout,
    /// The kind of the error of the last heartbeats, if they could not be published.
    heartbeats_fail: Arc<Mutex<Option<Discriminant<Error>>>>,
}

impl Driver {
    async fn run(mut self, mut events: Reader<ListenerEvent>, mut commands: mpsc::Receiver<Command>) {
        let mut timer = std::pin::pin!(sleep_until(tokio::time::Instant::now()));
        let mut timer_at: Option<Instant> = None;
        let reaper = self.reaper.clone();
        loop {
            self.execute_outputs(Instant::now());
            let deadline = self.state.next_deadline();
            if deadline != timer_at {
                timer_at = deadline;
                if let Some(at) = deadline {
                    timer.as_mut().reset(at.into());
                }
            }
            tokio::select! {
                next = events.next() => match next {
                    Some(next) => self.receive_batch(next, &mut events),
                    None => return,
                },
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                Some(input) = self.jobs.next(), if !self.jobs.is_empty() => {
                    self.state.handle(Instant::now(), input);
                }
                () = reaper.changed() => {
                    for handle in reaper.take() {
                        self.handle_dropped(handle);
                    }
                }
                () = &mut timer, if deadline.is_some() => {
                    timer_at = None;
                    self.state.handle_timeout(Instant::now());
                }
            }
        }
    }

    /// Takes all queued inputs.
    fn receive_batch(&mut self, first: Next<ListenerEvent>, events: &mut Reader<ListenerEvent>) {
        let (now, time) = (Instant::now(), SystemTime::now());
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(this) = next {
            taken += 1;
            let input = match this {
                Next::Missed(count) => Some(Input::Missed(count)),
                Next::Item(ListenerEvent::Notification { channel, payload, backend }) => {
                    let arrival = Arrival { time, backend: Some(backend) };
                    Some(Input::Notification { channel, text: payload, arrival })
                }
                Next::Item(ListenerEvent::Connected { connection, channels, snapshot }) => {
                    self.connection = connection;
                    Some(Input::Connected { listening: channels, snapshot })
                }
                Next::Item(ListenerEvent::Stalled) => Some(Input::Stalled),
                Next::Item(ListenerEvent::Resumed) => Some(Input::Resumed),
                Next::Item(ListenerEvent::Locks(snapshot)) => Some(Input::Locks(snapshot)),
                Next::Item(ListenerEvent::Lost(error)) => {
                    // A subscriber gets the error as an event. A node has no caller that gets it.
                    if self.state.has_members() {
                        self.options.report(&error);
                    }
                    Some(Input::Disconnected(error))
                }
                Next::Item(ListenerEvent::Executed { connection, outcome }) => {
                    (connection == self.connection).then_some(Input::StatementDone(outcome))
                }
            };
            if matches!(input, Some(Input::Stalled | Input::Disconnected(_) | Input::Missed(_))) {
                self.status.interruptions.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(input) = input {
                self.state.handle(now, input);
            }
            next = if taken < MAX_BATCH { events.try_next() } else { None };
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            // The handle may already be dropped, and the reaper may have reported that before this command.
            Command::Subscribe { confirmation, .. } if confirmation.is_closed() => {}
            Command::Subscribe { id, channels, interest, wants_text, events, confirmation } => {
                let confirmation = Some(confirmation);
                self.subscribers.insert(id, Subscriber { events, is_unflushed: false, confirmation });
                let interest = catch_filter_panic(interest, self.options.clone());
                self.state.handle(now, Input::Subscribe { id, channels, interest, wants_text });
            }
            Command::Request { request, mut parts } => {
                if !parts.flush() {
                    return;
                }
                self.requesters.insert(request.id.clone(), parts);
                self.state.handle(now, Input::Request(request));
            }
            #[cfg(feature = "adapter")]
            Command::Join { subscription, channel, uid, hello_pending } => {
                self.state.handle(now, Input::Join { subscription, channel, uid, hello_pending });
            }
            #[cfg(feature = "adapter")]
            Command::QueueGoodbye { channel, uid } => {
                self.state.handle(now, Input::QueueGoodbye { channel, uid });
            }
            #[cfg(feature = "adapter")]
            Command::Leave { channel, uid, left } => {
                self.state.handle(now, Input::Leave { channel, uid });
                // The caller may have stopped waiting.
                left.send(()).ok();
            }
            Command::LiveNodes { channels, answer } => {
                let live = channels.iter().map(|channel| self.state.live_nodes(channel, now)).collect();
                // The caller may have stopped waiting.
                answer.send(live).ok();
            }
        }
    }

    fn handle_dropped(&mut self, handle: Dropped) {
        let now = Instant::now();
        match handle {
            Dropped::Subscription(id) => {
                self.subscribers.remove(&id);
                self.state.handle(now, Input::Unsubscribe { id });
            }
            Dropped::Request(request) => {
                self.requesters.remove(&request);
                self.state.handle(now, Input::Cancel { request });
            }
            #[cfg(feature = "adapter")]
            Dropped::Member { channel, uid } => self.state.handle(now, Input::Leave { channel, uid }),
            #[cfg(feature = "adapter")]
            Dropped::Goodbye { channel, uid } => self.state.handle(now, Input::QueueGoodbye { channel, uid }),
        }
    }

    fn execute_outputs(&mut self, now: Instant) {
        // The status first, so that a caller which gets an event sees the new status.
        self.publish_status();
        while let Some(output) = self.state.poll_output(now) {
            match output {
                Output::Execute(statement) => self.execute(now, statement),
                Output::LookUp { look_up, ids } => {
                    let (session, table) = (self.rows.clone(), self.table.clone());
                    let time = self.look_up_timeout.clone();
                    let rows = rows(session, table, ids, self.options.max_attachment, time);
                    self.jobs.push(rows.map(move |rows| Input::Rows { look_up, rows }).boxed());
                }
                Output::List { channels, max_age } => {
                    let (session, table) = (self.rows.clone(), self.table.clone());
                    self.jobs.push(list(session, table, channels, max_age, self.options.clone()).boxed());
                }
                Output::ReadListening => {
                    let (session, prefix) = (self.rows.clone(), self.options.channel_prefix.clone());
                    let reading = listening(session, prefix, self.failed_readings.clone());
                    self.jobs.push(reading.map(Input::Listening).boxed());
                }
                Output::Publish { request, messages } => {
                    let (publisher, options) = (self.publisher.clone(), self.options.clone());
                    let published = publish_all(publisher, options, messages);
                    self.jobs.push(published.map(|outcome| Input::Published { request, outcome }).boxed());
                }
                Output::Announce(messages) => {
                    let announced = self.announce(messages);
                    self.jobs.push(announced.map(Input::Announced).boxed());
                }
                Output::Subscribed { id, outcome } => {
                    if let Some(confirmation) =
                        self.subscribers.get_mut(&id).and_then(|s| s.confirmation.take())
                    {
                        // A caller that has stopped waiting drops the subscription, which unsubscribes.
                        confirmation.send(outcome).ok();
                    }
                }
                Output::Deliver { subscription, event, bytes } => {
                    let Some(subscriber) = self.subscribers.get_mut(&subscription) else { continue };
                    match event {
                        Event::Message(_) => subscriber.events.push(event, bytes),
                        rare_event => subscriber.events.push_always(rare_event),
                    };
                    if !std::mem::replace(&mut subscriber.is_unflushed, true) {
                        self.unflushed.push(subscription);
                    }
                }
                Output::Answer { request, node, reply } => {
                    if let Some(parts) = self.requesters.get_mut(&request) {
                        let bytes = reply.size();
                        parts.push(ResponsePart::Answer { node, reply }, bytes);
                        parts.flush();
                    }
                }
                Output::Unread { request, node, reason } => {
                    if let Some(parts) = self.requesters.get_mut(&request) {
                        let bytes = reason.len();
                        parts.push(ResponsePart::Unread { node, reason }, bytes);
                        parts.flush();
                    }
                }
                Output::Finished { request, outcome } => {
                    if let Some(mut parts) = self.requesters.remove(&request) {
                        parts.push_always(ResponsePart::Finished(outcome));
                    }
                }
            }
        }
        for id in self.unflushed.drain(..) {
            if let Some(subscriber) = self.subscribers.get_mut(&id) {
                subscriber.is_unflushed = false;
                // A failed flush needs no action: the subscriber drops its subscription.
                subscriber.events.flush();
            }
        }
        self.publish_status();
    }

    /// Queues heartbeats before it returns; the returned future resolves when they are committed.
    fn announce(&self, messages: Vec<Message>) -> impl Future<Output = Result<()>> + Send + use<> {
        let (options, heartbeats_fail) = (self.options.clone(), self.heartbeats_fail.clone());
        let queued = messages
            .iter()
            .map(|message| {
                let channel = message.nsp.channel(&options.channel_prefix)?;
                Ok((channel, message.encode(options.payload_threshold)?))
            })
            .collect::<Result<Vec<_>>>()
            .and_then(|encoded| self.publisher.announce(encoded));
        async move {
            let committed = async { futures_util::future::try_join_all(queued?).await.map(drop) };
            let outcome = committed.await;
            let last_failure = |kind| {
                std::mem::replace(&mut *heartbeats_fail.lock().unwrap_or_else(PoisonError::into_inner), kind)
            };
            match &outcome {
                Ok(()) => {
                    last_failure(None);
                    count_announced(&messages);
                }
                // They are retried every second.
                Err(error) if last_failure(Some(discriminant(error))) == Some(discriminant(error)) => {
                    tracing::debug!(%error, messages = messages.len(), "still cannot publish heartbeats");
                }
                Err(error) => {
                    tracing::warn!(%error, messages = messages.len(), "cannot publish heartbeats; retrying");
                    options.report(error);
                }
            }
            outcome
        }
    }

    fn publish_status(&self) {
        self.status.is_listening.store(self.state.is_listening(), Ordering::Relaxed);
        self.status.has_received.store(self.state.has_received(), Ordering::Relaxed);
        self.status.channels.store(self.state.confirmed_channels(), Ordering::Relaxed);
        self.presence.set_serves_main(
            self.main_channel.as_ref().is_some_and(|channel| self.state.has_member_on(channel)),
        );
    }

    fn execute(&mut self, now: Instant, Statement { listen, unlisten }: Statement) {
        let command = postgres::Command { connection: self.connection, listen, unlisten };
        if !self.listener.execute(command) {
            let error = Error::ConnectionLost("the listening session does not answer statements".into());
            self.state.handle(now, Input::StatementDone(Err(error)));
        }
    }
}

/// Wraps a user's filter: after a panic in it, the message is skipped, and nothing else ends.
fn catch_filter_panic(interest: Interest, options: AdapterOptions) -> Interest {
    Box::new(move |header: Option<&Header>| {
        catch_unwind(AssertUnwindSafe(|| interest(header))).unwrap_or_else(|payload| {
            let error = Error::panicked("the filter of a subscription", &*payload);
            tracing::error!(%error, "message skipped");
            options.report(&error);
            false
        })
    })
}
