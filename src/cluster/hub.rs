//! From the listening connection to the subscribers: attachments looked up, order kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{self, BoxFuture, FutureExt};
use futures_util::stream::FuturesOrdered;
use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::nodes::Roster;
use super::subscription::{Place, Subscription, Wants};
use super::{AdapterOptions, Attached, Content, Event, LiveNode, Received};
use crate::Result;
use crate::postgres::backlog::{Next, Reader, Writer, backlog};
use crate::postgres::{Heard, Listener, Session, Settings, TableName, look_up};
use crate::protocol::{AttachmentId, Channel, Header, Message, Namespace, Notification};

/// How many notifications are worked on together, and how many of them may need a look-up: one statement's worth.
const CHUNK: usize = 512;
const CHUNK_LOOK_UPS: usize = 16;

/// How many look-ups may be under way.
const LOOK_UPS: usize = 4;

/// How long a look-up is tried while the connection fails. Rows live for half a minute at least.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(10);

/// How many bytes may wait for one subscriber.
const BACKLOG_BYTES: usize = 256 << 20;

/// The listening connection, and the task that hands on what it hears.
pub(super) struct Hub {
    switchboard: Arc<Switchboard>,
    _task: AbortOnDropHandle<()>,
}

impl Hub {
    pub(super) async fn start(
        settings: Settings,
        options: AdapterOptions,
        session: Arc<Session>,
    ) -> Result<Self> {
        let (listener, heard) = Listener::connect(settings).await?;
        let table = options.table_name.clone();
        let switchboard = Arc::new(Switchboard { listener, options, state: Mutex::default() });
        let operator = Operator { switchboard: switchboard.clone(), session, table };
        let task = AbortOnDropHandle::new(tokio::spawn(operator.run(heard)));
        Ok(Self { switchboard, _task: task })
    }

    pub(super) async fn subscribe(&self, namespaces: &[Namespace], wants: Wants) -> Result<Subscription> {
        let prefix = &self.switchboard.options.channel_prefix;
        let channels = namespaces.iter().map(|nsp| nsp.channel(prefix)).collect::<Result<Vec<_>>>()?;
        let (writer, events) = backlog(BACKLOG_BYTES);
        let id = self.switchboard.join(channels.clone(), wants, writer);
        let place = Place { id, channels: channels.clone(), switchboard: Arc::downgrade(&self.switchboard) };
        for channel in channels {
            self.switchboard.listener.listen(channel).await?;
        }
        Ok(Subscription { events, _place: place })
    }

    pub(super) fn is_listening(&self) -> bool {
        !self.switchboard.state().interrupted
    }

    pub(super) fn is_deaf(&self) -> bool {
        let state = self.switchboard.state();
        !state.interrupted && !state.has_heard
    }

    /// Who is live in a namespace that somebody listens to, and whether that must be all.
    pub(super) fn live_nodes(&self, channel: &Channel) -> (Vec<LiveNode>, bool) {
        let timeout = self.switchboard.options.heartbeat_timeout;
        let now = Instant::now();
        match self.switchboard.state().lines.get_mut(channel) {
            Some(line) => (line.roster.live(now, timeout), line.roster.is_complete(now, timeout)),
            None => (Vec::new(), false),
        }
    }
}

/// Who is connected with what.
pub(super) struct Switchboard {
    listener: Listener,
    options: AdapterOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    interrupted: bool,
    /// Whether any notification has ever come.
    has_heard: bool,
    next_id: u64,
    subscribers: Vec<Subscriber>,
    lines: HashMap<Channel, Line>,
}

impl State {
    /// Lets the subscribers have what was delivered.
    fn flush(&mut self) {
        for subscriber in &mut self.subscribers {
            // Who has stopped reading leaves by dropping the subscription.
            subscriber.events.flush();
        }
    }
}

/// A channel that somebody listens to.
struct Line {
    namespace: Namespace,
    subscribers: usize,
    roster: Roster,
}

struct Subscriber {
    id: u64,
    channels: Vec<Channel>,
    wants: Wants,
    events: Writer<Event>,
}

impl Subscriber {
    fn takes(&self, channel: &Channel, header: Option<&Header>) -> bool {
        self.channels.contains(channel) && (self.wants)(header)
    }
}

impl Switchboard {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, channels: Vec<Channel>, wants: Wants, events: Writer<Event>) -> u64 {
        let mut state = self.state();
        for channel in &channels {
            let line = state.lines.entry(channel.clone()).or_insert_with(|| Line {
                namespace: channel.namespace(&self.options.channel_prefix).unwrap_or_default(),
                subscribers: 0,
                roster: Roster::start(Instant::now()),
            });
            line.subscribers += 1;
        }
        state.next_id += 1;
        let id = state.next_id;
        state.subscribers.push(Subscriber { id, channels, wants, events });
        id
    }

    pub(super) fn leave(&self, id: u64, channels: &[Channel]) {
        let mut state = self.state();
        state.subscribers.retain(|subscriber| subscriber.id != id);
        for channel in channels {
            let Some(line) = state.lines.get_mut(channel) else { continue };
            line.subscribers -= 1;
            if line.subscribers == 0 {
                state.lines.remove(channel);
                // Under the lock, so that it cannot overtake a LISTEN for somebody new.
                self.listener.unlisten(channel.clone());
            }
        }
    }
}

/// The task between the listener and the subscribers.
struct Operator {
    switchboard: Arc<Switchboard>,
    session: Arc<Session>,
    table: TableName,
}

/// Something on its way to the subscribers.
enum Item {
    Event(Event),
    Received(Received),
    /// A message that is in a row yet to be looked up.
    Attached {
        time: Timestamp,
        channel: Channel,
        namespace: Namespace,
        text: String,
        id: AttachmentId,
        header: Header,
    },
}

impl Operator {
    async fn run(self, mut heard: Reader<Heard>) {
        let mut chunks: FuturesOrdered<BoxFuture<'_, Vec<Item>>> = FuturesOrdered::new();
        loop {
            tokio::select! {
                Some(items) = chunks.next() => self.deliver(items),
                next = heard.next(), if chunks.len() < LOOK_UPS => {
                    let Some(next) = next else { return };
                    let (items, ids) = self.take_chunk(next, &mut heard, chunks.is_empty());
                    match (items.is_empty(), ids.is_empty()) {
                        (true, _) => {}
                        (false, true) => chunks.push_back(future::ready(items).boxed()),
                        (false, false) => chunks.push_back(self.resolve(items, ids).boxed()),
                    }
                }
            }
        }
    }

    /// What is there to be worked on at once, and the rows that it needs. Without anything before it, what comes before
    /// the first row is delivered here and now.
    fn take_chunk(
        &self,
        first: Next<Heard>,
        heard: &mut Reader<Heard>,
        is_first: bool,
    ) -> (Vec<Item>, Vec<AttachmentId>) {
        let mut state = self.switchboard.state();
        let (mut items, mut ids) = (Vec::new(), Vec::new());
        let arrival = Arrival { time: Timestamp::now(), instant: Instant::now() };
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(this) = next {
            taken += 1;
            let item = match this {
                Next::Missed(count) => Some(Item::Event(Event::Missed(count))),
                Next::Item(Heard::Lost(error)) => {
                    state.interrupted = true;
                    state.lines.values_mut().for_each(|line| line.roster.interrupt());
                    Some(Item::Event(Event::Lost(error)))
                }
                Next::Item(Heard::Restored(away)) => {
                    state.interrupted = false;
                    let now = Instant::now();
                    state.lines.values_mut().for_each(|line| line.roster.resume(now));
                    Some(Item::Event(Event::Restored(away)))
                }
                Next::Item(Heard::Notification { channel, payload }) => {
                    read(&mut state, &channel, payload, &arrival)
                }
            };
            if let Some(Item::Attached { id, .. }) = &item {
                ids.push(*id);
            }
            match item {
                Some(item) if is_first && ids.is_empty() => deliver(&mut state, item),
                item => items.extend(item),
            }
            next = if taken < CHUNK && ids.len() < CHUNK_LOOK_UPS { heard.try_next() } else { None };
        }
        state.flush();
        (items, ids)
    }

    async fn resolve(&self, items: Vec<Item>, ids: Vec<AttachmentId>) -> Vec<Item> {
        let rows = self.rows(&ids).await;
        items.into_iter().map(|item| with_row(item, &rows)).collect()
    }

    /// Looks rows up, through a short loss of the connection as well.
    async fn rows(&self, ids: &[AttachmentId]) -> Result<HashMap<AttachmentId, Bytes>> {
        let start = Instant::now();
        loop {
            match look_up(&self.session, &self.table, ids).await {
                Err(error) if error.is_loss() && start.elapsed() < LOOK_UP_PATIENCE => {
                    sleep(Duration::from_millis(100)).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn deliver(&self, items: Vec<Item>) {
        let mut state = self.switchboard.state();
        items.into_iter().for_each(|item| deliver(&mut state, item));
        state.flush();
    }
}

fn deliver(state: &mut State, item: Item) {
    match item {
        Item::Event(event) => {
            for subscriber in &mut state.subscribers {
                // Who has stopped reading leaves by dropping the subscription.
                subscriber.events.push_always(event.clone());
            }
        }
        Item::Received(received) => deliver_received(&mut state.subscribers, received),
        Item::Attached { .. } => {}
    }
}

fn deliver_received(subscribers: &mut [Subscriber], received: Received) {
    let (channel, header) = (received.channel.clone(), received.content.header());
    let bytes = received.text.len() + received.attachment.and_then(|a| a.bytes).unwrap_or(0);
    let received = Arc::new(received);
    let mut takers = subscribers.iter_mut().filter(|subscriber| subscriber.takes(&channel, header.as_ref()));
    let mut next = takers.next();
    while let Some(taker) = next {
        next = takers.next();
        if next.is_none() {
            // The last one may have it alone.
            taker.events.push(Event::Message(received), bytes);
            return;
        }
        taker.events.push(Event::Message(received.clone()), bytes);
    }
}

/// When notifications arrived that were there together.
struct Arrival {
    time: Timestamp,
    instant: Instant,
}

/// Reads as much of a notification as somebody wants to know.
fn read(state: &mut State, channel: &str, text: String, arrival: &Arrival) -> Option<Item> {
    // The channel of this name, without making a new one for each notification.
    state.has_heard = true;
    let (channel, line) = state.lines.iter_mut().find(|(known, _)| known.as_str() == channel)?;
    let (time, channel, namespace) = (arrival.time, channel.clone(), line.namespace.clone());
    let received = |content, text| {
        Item::Received(Received { time, channel: channel.clone(), text, attachment: None, content })
    };
    let notification = match Notification::parse(&text, &namespace) {
        Ok(notification) => notification,
        Err(error) => return Some(received(Content::Unreadable(None, error), text)),
    };
    line.roster.hear(&notification.header, arrival.instant);
    let wanted =
        state.subscribers.iter().any(|subscriber| subscriber.takes(&channel, Some(&notification.header)));
    if !wanted {
        return None;
    }
    if let Some(id) = notification.attachment {
        let header = notification.header;
        return Some(Item::Attached { time, channel, namespace, text, id, header });
    }
    let header = notification.header.clone();
    let content =
        notification.into_message().map_or_else(|e| Content::Unreadable(Some(header), e), Content::Message);
    Some(received(content, text))
}

fn with_row(item: Item, rows: &Result<HashMap<AttachmentId, Bytes>>) -> Item {
    let Item::Attached { time, channel, namespace, text, id, header } = item else { return item };
    let row = rows.as_ref().map(|rows| rows.get(&id));
    let bytes = row.as_ref().ok().copied().flatten().map(Bytes::len);
    let content = match row {
        Ok(Some(document)) => Message::decode_document(document, &namespace)
            .map_or_else(|error| Content::Unreadable(Some(header), error), Content::Message),
        Ok(None) => Content::Missing(header),
        Err(error) => Content::Unreadable(Some(header), error.clone()),
    };
    Item::Received(Received { time, channel, text, attachment: Some(Attached { id, bytes }), content })
}
