//! The inputs and outputs of the state machine.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::cluster::Event;
use crate::protocol::{
    AttachmentId, Body, Channel, Header, LockSnapshot, Message, Namespace, RemoteSocket, RequestId, Uid,
    Value,
};
use crate::{Error, Result};

/// What the machine has to know from the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The prefix of the channels, which tells a channel's namespace.
    pub channel_prefix: String,
    /// How often a node of this process says that it lives, where that is needed.
    pub heartbeat_interval: Duration,
    /// After how long without a message a peer counts as gone.
    pub heartbeat_timeout: Duration,
    /// How long a row stays in the attachment table at least.
    pub cleanup_interval: Duration,
    /// Whether heartbeats are sent in any case, also to peers that see this process live by its lock.
    pub always_heartbeats: bool,
    /// How many bytes of messages of one channel may wait for a row before them.
    pub max_waiting_bytes: usize,
    /// How many bytes of memory the message of a row may take. A larger one is not delivered.
    pub max_attachment: usize,
}

/// Which messages a subscription wants, by their header; `None` for a notification without a readable one. It is called
/// once for each message, must not block and must not panic.
pub type Interest = Box<dyn Fn(Option<&Header>) -> bool + Send>;

/// The rows that exist, by id.
pub type Rows = Result<HashMap<AttachmentId, Row>>;

/// A row of the attachment table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Its document.
    Document(Bytes),
    /// It has so many bytes, which are too many to fetch.
    TooLarge(u64),
    /// It was not fetched, since the other rows of the look-up were large enough.
    Postponed,
}

/// The rows that hold durable events, of each channel in the order of their ids.
pub type DurableRows = HashMap<Channel, Vec<DurableRow>>;

/// A row that holds a durable event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableRow {
    /// Its id.
    pub id: AttachmentId,
    /// How long ago its transaction began, by the server's clock.
    pub age: Duration,
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
    /// The channel to ask on.
    pub channel: Channel,
    /// The namespace of that channel.
    pub namespace: Namespace,
    /// The sender: a node's uid, or the emitter's.
    pub asker: Uid,
    /// The message: a broadcast with acknowledgements, a `fetchSockets`, or a server-side event.
    pub body: Body,
    /// When the request ends at the latest.
    pub deadline: Instant,
}

/// When a notification arrived, and its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it arrived.
    pub time: SystemTime,
    /// The process of Postgres whose session sent it; `None` where there was no notification.
    pub backend: Option<i32>,
}

/// What happened.
pub enum Input {
    /// A handle wants to read channels. [`Output::Subscribed`] follows.
    Subscribe {
        /// A new number.
        id: SubscriptionId,
        /// What to read.
        channels: Vec<Channel>,
        /// Which messages of it.
        interest: Interest,
    },
    /// A handle was dropped.
    Unsubscribe {
        /// Its number.
        id: SubscriptionId,
    },
    /// A handle asks all peers. [`Output::Finished`] follows, by the deadline.
    Ask(NewRequest),
    /// The caller no longer waits. Nothing follows.
    Cancel {
        /// The request.
        request: RequestId,
    },
    /// There is a new listening connection, which listens to these channels already.
    Connected {
        /// The channels that the server has confirmed on it.
        listening: Vec<Channel>,
    },
    /// The listening connection has not answered in time. It is kept, as it may wake up.
    Stalled,
    /// The silent connection answers again. Nothing was lost.
    Resumed,
    /// The listening connection is lost, and with it every statement in progress.
    Disconnected(Error),
    /// The answer to the last [`Output::Execute`].
    StatementDone(Result<()>),
    /// A notification.
    Notification {
        /// The channel's name.
        channel: Arc<str>,
        /// The payload.
        text: String,
        /// When it arrived, and its sender.
        arrival: Arrival,
    },
    /// The reader of the connection dropped so many notifications at this place.
    Missed(u64),
    /// A node of this process serves the namespace of a channel that a subscription reads. It ends with the
    /// subscription, with a goodbye unless [`Input::Leave`] came before.
    Join {
        /// The subscription.
        subscription: SubscriptionId,
        /// The channel.
        channel: Channel,
        /// The node.
        uid: Uid,
        /// Whether its initial heartbeat is to be published.
        owes_hello: bool,
    },
    /// A node of this process has ended, and its goodbye could not be published: it is to be tried until it is.
    OweGoodbye {
        /// Its channel.
        channel: Channel,
        /// The node.
        uid: Uid,
    },
    /// A node of this process ends. Nothing of it is published any more; its goodbye is the caller's.
    Leave {
        /// Its channel.
        channel: Channel,
        /// The node.
        uid: Uid,
    },
    /// Which processes hold a lock.
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
        /// When they came.
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
    /// How many answers were promised; what came, where nothing was.
    pub expected: u64,
    /// How many answers are missing: the rest of those that were promised, and one of each silent peer that promised none.
    pub missing: u64,
    /// How many peers have answered in full.
    pub nodes: usize,
    /// Peers that were asked, are live, and have not answered in full.
    pub silent: Vec<Uid>,
    /// Whether the peers that were asked are known to be all that there were.
    pub knew_peers: bool,
}

/// The effects that the driver has to execute.
pub enum Output {
    /// Execute this on the listening connection. [`Input::StatementDone`] is to follow before the next one comes.
    Execute(Statement),
    /// Look these rows up. [`Input::Rows`] is to follow.
    LookUp {
        /// Its number.
        look_up: LookUpId,
        /// The rows.
        ids: Vec<AttachmentId>,
    },
    /// List the rows of the attachment table that hold durable events of these channels and are no older than that.
    /// [`Input::Listed`] is to follow before the next one comes.
    List {
        /// The channels.
        channels: Vec<Channel>,
        /// The age of the oldest row that matters.
        max_age: Duration,
    },
    /// Publish these messages, in this order. [`Input::Published`] is to follow.
    Publish {
        /// The request.
        request: RequestId,
        /// The messages.
        messages: Vec<Message>,
    },
    /// Publish these heartbeats in one transaction. [`Input::Announced`] has to follow before the next ones.
    Announce(Vec<Message>),
    /// A subscription is made, or refused.
    Subscribed {
        /// Its number.
        id: SubscriptionId,
        /// Whether the server has confirmed all its channels.
        outcome: Result<()>,
    },
    /// Give this to a subscriber.
    Deliver {
        /// The subscription.
        subscription: SubscriptionId,
        /// What it gets.
        event: Event,
        /// How much memory that holds.
        bytes: usize,
    },
    /// Give this answer to the caller.
    Answer {
        /// The request.
        request: RequestId,
        /// Who answers.
        node: Uid,
        /// The answer.
        reply: Reply,
    },
    /// An answer came that cannot be read. It may belong to another request.
    Unread {
        /// The request.
        request: RequestId,
        /// Who answered.
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
            Self::Ask(question) => write!(f, "Ask {} on {}", question.id, question.channel),
            Self::Cancel { request } => write!(f, "Cancel {request}"),
            Self::Connected { listening } => write!(f, "Connected {listening:?}"),
            Self::Stalled => f.write_str("Stalled"),
            Self::Resumed => f.write_str("Resumed"),
            Self::Disconnected(error) => write!(f, "Disconnected: {error}"),
            Self::StatementDone(outcome) => write!(f, "StatementDone {outcome:?}"),
            Self::Notification { channel, text, .. } => write!(f, "Notification {channel} {text}"),
            Self::Missed(count) => write!(f, "Missed {count}"),
            Self::Join { channel, uid, .. } => write!(f, "Join {uid} on {channel}"),
            Self::OweGoodbye { channel, uid } => write!(f, "OweGoodbye {uid} on {channel}"),
            Self::Leave { channel, uid } => write!(f, "Leave {uid} on {channel}"),
            Self::Locks(look) => write!(f, "{look:?}"),
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
    /// Whether every peer that there was has answered in full.
    pub fn is_complete(&self) -> bool {
        self.knew_peers && self.silent.is_empty()
    }
}
