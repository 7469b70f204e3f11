//! The inputs and outputs of the state machine.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::{ListenSnapshot, ListeningSessions, RowOrigin, Unresponsive};
use crate::cluster::Event;
use crate::protocol::{
    AttachmentId, Body, Channel, Header, LockSnapshot, Message, Namespace, RemoteSocket, RequestId, Uid,
    Value,
};
use crate::{Error, Result};

/// The configuration of the machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// The prefix of the channels. The rest of a channel's name is its namespace.
    pub channel_prefix: String,
    /// The interval between the heartbeats of a node of this process, while they are needed.
    pub heartbeat_interval: Duration,
    /// The time without a message after which a peer counts as dead.
    pub heartbeat_timeout: Duration,
    /// The minimum time that a row stays in the attachment table.
    pub cleanup_interval: Duration,
    /// Whether heartbeats are always sent, also while all peers can see the lock of this process.
    pub always_heartbeats: bool,
    /// The bound of the queue of one channel behind a row, in bytes.
    pub max_waiting_bytes: usize,
    /// The maximum memory of the message of a row, in bytes. A larger message is not delivered.
    pub max_attachment: usize,
}

/// The filter of a subscription: whether it wants a message with this header; `None` for a notification without a readable
/// header. It is called once for each message, must not block and must not panic.
pub type Interest = Box<dyn Fn(Option<&Header>) -> bool + Send>;

/// The rows that exist, by id.
pub type Rows = Result<HashMap<AttachmentId, Row>>;

/// A row of the attachment table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Its document.
    Document(Bytes),
    /// It was not fetched, since it is too large. The number of its bytes.
    TooLarge(u64),
    /// It was not fetched, since the other rows of the look-up filled the byte limit.
    Postponed,
}

/// The rows that hold durable events: for each channel in the order of their ids.
pub type DurableRows = HashMap<Channel, Vec<DurableRow>>;

/// A row that holds a durable event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableRow {
    /// Its id.
    pub id: AttachmentId,
    /// How long ago its transaction began, by the server's clock.
    pub age: Duration,
    /// The transaction; `None` if the server does not report it.
    pub origin: Option<RowOrigin>,
}

/// A subscription's number, unique within a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u64);

/// A look-up's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookUpId(pub u64);

/// A request to all peers of a namespace.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// Its id, which its answers carry.
    pub id: RequestId,
    /// The channel of the request.
    pub channel: Channel,
    /// The namespace of that channel.
    pub namespace: Namespace,
    /// The sender: a node's uid, or the emitter's.
    pub sender: Uid,
    /// The message: a broadcast with acknowledgements, a `fetchSockets`, or a server-side event.
    pub body: Body,
    /// When the request ends at the latest.
    pub deadline: Instant,
    /// Whether it waits for all servers that listen, as Postgres shows. Only of the main namespace these are known.
    pub awaits_listening: bool,
}

/// When a notification arrived, and its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it arrived.
    pub time: SystemTime,
    /// The process id of the Postgres session that sent it; `None` for a replayed event.
    pub backend: Option<i32>,
}

/// The inputs of the machine.
pub enum Input {
    /// A handle subscribes to channels. [`Output::Subscribed`] follows.
    Subscribe {
        /// A new number.
        id: SubscriptionId,
        /// The channels.
        channels: Vec<Channel>,
        /// The filter of their messages.
        interest: Interest,
        /// Whether it reads the text of the notifications. A message without a reader of its text is delivered without it.
        wants_text: bool,
    },
    /// A handle was dropped.
    Unsubscribe {
        /// Its number.
        id: SubscriptionId,
    },
    /// A handle sends a request to all peers. [`Output::Finished`] follows, by the deadline.
    Request(NewRequest),
    /// The answer to [`Output::ReadListening`]; `None` if it has failed.
    Listening(Option<ListeningSessions>),
    /// The caller no longer waits. Nothing follows.
    Cancel {
        /// The request.
        request: RequestId,
    },
    /// There is a new listening connection, which listens to these channels already.
    Connected {
        /// The channels that the server has confirmed on it.
        listening: Vec<Channel>,
        /// The snapshot of their LISTEN.
        snapshot: Option<Arc<ListenSnapshot>>,
    },
    /// The listening connection has not answered in time. It is kept, since it may resume.
    Stalled,
    /// The stalled connection answers again. No message was lost.
    Resumed,
    /// The listening connection is lost, and with it every statement in progress.
    Disconnected(Error),
    /// The answer to the last [`Output::Execute`], with the snapshot of its LISTEN.
    StatementDone(Result<Option<Arc<ListenSnapshot>>>),
    /// A notification.
    Notification {
        /// The channel's name.
        channel: Arc<str>,
        /// The payload.
        text: String,
        /// When it arrived, and its sender.
        arrival: Arrival,
    },
    /// The number of notifications that the full receive queue dropped at this position.
    Missed(u64),
    /// A node of this process serves the namespace of a channel that a subscription reads. The node ends with the
    /// subscription, and then publishes a goodbye unless [`Input::Leave`] came before.
    Join {
        /// The subscription.
        subscription: SubscriptionId,
        /// The channel.
        channel: Channel,
        /// The node.
        uid: Uid,
        /// Whether its initial heartbeat has to be published.
        hello_pending: bool,
    },
    /// A node of this process has ended, and its goodbye could not be published. It is retried until it is committed.
    QueueGoodbye {
        /// Its channel.
        channel: Channel,
        /// The node.
        uid: Uid,
    },
    /// A node of this process ends. The machine publishes no more messages of it. The caller publishes its goodbye.
    Leave {
        /// Its channel.
        channel: Channel,
        /// The node.
        uid: Uid,
    },
    /// A snapshot of the liveness locks.
    Locks(LockSnapshot),
    /// The answer to an [`Output::Announce`].
    Announced(Result<()>),
    /// The answer to an [`Output::LookUp`].
    Rows {
        /// The look-up.
        look_up: LookUpId,
        /// The rows that exist, or why it failed.
        rows: Rows,
    },
    /// The answer to an [`Output::List`].
    Listed {
        /// The rows, or why the listing failed.
        rows: Result<DurableRows>,
        /// When they arrived.
        time: SystemTime,
    },
    /// The answer to an [`Output::Publish`].
    Published {
        /// The request.
        request: RequestId,
        /// Whether all its messages are committed.
        outcome: Result<()>,
    },
}

/// LISTEN and UNLISTEN, to be executed in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statement {
    /// Channels to listen to.
    pub listen: Vec<Channel>,
    /// Channels to stop listening to.
    pub unlisten: Vec<Channel>,
}

/// One peer's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A client's acknowledgement.
    Ack(Value),
    /// The peer's sockets.
    Sockets(Vec<RemoteSocket>),
    /// The peer's answer to a server-side event.
    Answer(Value),
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// The number of promised answers. A peer without a promise counts with the answers that it has sent.
    pub expected: u64,
    /// The number of missing answers: the promised ones that did not arrive, and one for each silent peer without a
    /// promise.
    pub missing: u64,
    /// The number of peers that have answered in full.
    pub nodes: usize,
    /// The live peers that have not answered in full.
    pub silent: Vec<Uid>,
    /// The servers that listen, and have not shown themselves.
    pub unresponsive: Unresponsive,
    /// Whether the peers of the request are known to be all live peers, except those.
    pub knew_peers: bool,
}

/// The effects that the driver has to execute.
pub enum Output {
    /// Execute this on the listening connection. [`Input::StatementDone`] has to follow before the next statement.
    Execute(Statement),
    /// Look these rows up. [`Input::Rows`] has to follow.
    LookUp {
        /// Its number.
        look_up: LookUpId,
        /// The rows.
        ids: Vec<AttachmentId>,
    },
    /// List the rows of the attachment table that hold durable events of these channels and are not older than `max_age`.
    /// [`Input::Listed`] has to follow before the next listing.
    List {
        /// The channels.
        channels: Vec<Channel>,
        /// The maximum age of a row.
        max_age: Duration,
    },
    /// Read which servers listen. [`Input::Listening`] has to follow.
    ReadListening,
    /// Publish these messages, in this order. [`Input::Published`] has to follow.
    Publish {
        /// The request.
        request: RequestId,
        /// The messages.
        messages: Vec<Message>,
    },
    /// Publish these heartbeats in one transaction. [`Input::Announced`] has to follow before the next ones.
    Announce(Vec<Message>),
    /// The server has confirmed a subscription, or refused it.
    Subscribed {
        /// Its number.
        id: SubscriptionId,
        /// Whether the server has confirmed all its channels.
        outcome: Result<()>,
    },
    /// Deliver this event to a subscriber.
    Deliver {
        /// The subscription.
        subscription: SubscriptionId,
        /// The event.
        event: Event,
        /// The memory of the event, in bytes.
        bytes: usize,
    },
    /// Deliver this answer to the caller.
    Answer {
        /// The request.
        request: RequestId,
        /// The node that sent it.
        node: Uid,
        /// The answer.
        reply: Reply,
    },
    /// An answer arrived that cannot be read. It may belong to another request.
    Unread {
        /// The request.
        request: RequestId,
        /// The node that sent it.
        node: Uid,
        /// Why it cannot be read.
        reason: String,
    },
    /// A request has ended.
    Finished {
        /// The request.
        request: RequestId,
        /// How.
        outcome: Result<Summary>,
    },
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscribe { id, channels, .. } => write!(f, "Subscribe {id:?} {channels:?}"),
            Self::Unsubscribe { id } => write!(f, "Unsubscribe {id:?}"),
            Self::Request(request) => write!(f, "Request {} on {}", request.id, request.channel),
            Self::Listening(reading) => write!(f, "Listening {reading:?}"),
            Self::Cancel { request } => write!(f, "Cancel {request}"),
            Self::Connected { listening, .. } => write!(f, "Connected {listening:?}"),
            Self::Stalled => f.write_str("Stalled"),
            Self::Resumed => f.write_str("Resumed"),
            Self::Disconnected(error) => write!(f, "Disconnected: {error}"),
            Self::StatementDone(outcome) => write!(f, "StatementDone {outcome:?}"),
            Self::Notification { channel, text, .. } => write!(f, "Notification {channel} {text}"),
            Self::Missed(count) => write!(f, "Missed {count}"),
            Self::Join { channel, uid, .. } => write!(f, "Join {uid} on {channel}"),
            Self::QueueGoodbye { channel, uid } => write!(f, "QueueGoodbye {uid} on {channel}"),
            Self::Leave { channel, uid } => write!(f, "Leave {uid} on {channel}"),
            Self::Locks(snapshot) => write!(f, "{snapshot:?}"),
            Self::Announced(outcome) => write!(f, "Announced {outcome:?}"),
            Self::Rows { look_up, rows } => {
                write!(f, "Rows {look_up:?} {:?}", rows.as_ref().map(|rows| rows.keys().collect::<Vec<_>>()))
            }
            Self::Listed { rows, .. } => write!(f, "Listed {rows:?}"),
            Self::Published { request, outcome } => write!(f, "Published {request} {outcome:?}"),
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Execute(statement) => write!(f, "Execute {statement:?}"),
            Self::LookUp { look_up, ids } => write!(f, "LookUp {look_up:?} {ids:?}"),
            Self::List { channels, max_age } => write!(f, "List {channels:?} of the last {max_age:?}"),
            Self::Publish { request, messages } => write!(f, "Publish {request} {messages:?}"),
            Self::ReadListening => f.write_str("ReadListening"),
            Self::Announce(messages) => write!(f, "Announce {messages:?}"),
            Self::Subscribed { id, outcome } => write!(f, "Subscribed {id:?} {outcome:?}"),
            Self::Deliver { subscription, event, .. } => write!(f, "Deliver {subscription:?} {event:?}"),
            Self::Answer { request, node, reply } => write!(f, "Answer {request} {node} {reply:?}"),
            Self::Unread { request, node, reason } => write!(f, "Unread {request} {node} {reason}"),
            Self::Finished { request, outcome } => write!(f, "Finished {request} {outcome:?}"),
        }
    }
}

impl Summary {
    /// Whether all live peers have answered in full.
    pub fn is_complete(&self) -> bool {
        self.knew_peers && self.silent.is_empty() && self.unresponsive.servers() == 0
    }
}
