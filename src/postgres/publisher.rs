//! The publisher, with group commit: messages that are queued while a statement is in progress go out with the next one.
//!
//! One task owns the order: messages are published in the order of the queue, and all that are queued share one
//! transaction. So a lone message is not delayed, and a flood shares commits. Messages for a locked attachment table are
//! held, with those behind them on the same channel. Messages on other channels are not.

mod commit_order;
mod committed;
mod group;
mod held;
mod intake;
mod queue_relief;
mod sender;
mod stream;
mod transaction;
mod unfinished;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{CheckedTable, Session};
use crate::protocol::{Channel, Encoded, durable};
use crate::{Error, Result};
pub(crate) use group::{GroupOutcome, GroupReceipt, MessageGroup};
use intake::Intake;
use sender::Sender;
use unfinished::{Token, Unfinished};

/// The bound of the queue in bytes. Beyond it, producers wait (backpressure).
const QUEUE_BYTES: usize = 32 << 20;

/// The bound of the queue in entries: messages, or groups of them. Beyond it, producers wait (backpressure).
const QUEUE_ENTRIES: usize = 8192;

/// The bound of the queue of announcement groups. There is one at a time.
const ANNOUNCEMENTS: usize = 2;

/// Sends messages through one task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    jobs: mpsc::Sender<Queued>,
    /// Heartbeats, which are published together and before all other messages.
    announcements: mpsc::Sender<Vec<Job>>,
    capacity: Arc<Semaphore>,
    /// The number of messages that were queued since the start.
    queued: Arc<AtomicU64>,
    unfinished: Arc<Unfinished>,
    health: watch::Receiver<Publishing>,
    _task: Arc<AbortOnDropHandle<()>>,
}

/// The health of publishing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Publishing {
    /// Why publishing fails; `None` while it works.
    pub(crate) fault: Option<PublishFault>,
    /// The number of messages that were sent again and may be duplicates.
    pub(crate) possible_duplicates: u64,
}

/// Why publishing fails.
#[derive(Debug, Clone)]
pub(crate) enum PublishFault {
    /// The server does not answer.
    NoAnswer,
    /// There is no connection.
    Disconnected(Error),
    /// The server's notification queue is full: some listening session does not read.
    QueueFull,
}

/// The policy for messages whose connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OnLoss {
    /// Fail at once.
    #[default]
    Fail,
    /// Retry them, and then all others, for this time after the loss.
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the command line asks for it"))]
    Retry(Duration),
}

/// A queued message.
pub(super) struct Job {
    pub(super) channel: Channel,
    pub(super) encoded: Encoded,
    /// Whether it may overtake others. A heartbeat may: it only shows that its sender is alive.
    pub(super) is_heartbeat: bool,
    done: Completion,
}

/// An entry of the queue.
enum Queued {
    One(Job),
    Group(Vec<Job>),
}

/// How the caller learns the outcome of a message.
enum Completion {
    /// By a receipt of its own. `capacity` is its share of the queue's bytes; `None` for an announcement, and for a message
    /// that is held.
    Receipt {
        sender: oneshot::Sender<Result<()>>,
        capacity: Option<OwnedSemaphorePermit>,
        _token: Option<Token>,
    },
    /// By the receipt of its group.
    Member(group::Member),
}

impl Job {
    pub(super) fn bytes(&self) -> usize {
        bytes_of(&self.encoded)
    }

    /// A message whose outcome nobody waits for.
    #[cfg(test)]
    pub(super) fn inline(text: &str) -> Self {
        let channel = crate::Namespace::default().channel("socket.io").expect("a valid channel");
        let done = Completion::Receipt { sender: oneshot::channel().0, capacity: None, _token: None };
        Self { channel, encoded: Encoded::Inline(text.to_owned()), is_heartbeat: false, done }
    }

    /// Gives its share of the queue's bytes back. A message of a group keeps it, as the group has one share.
    fn release_capacity(&mut self) {
        if let Completion::Receipt { capacity, .. } = &mut self.done {
            *capacity = None;
        }
    }

    pub(super) fn is_attachment(&self) -> bool {
        matches!(self.encoded, Encoded::Attachment { .. })
    }

    /// The unique head of a durable event's document, which identifies its row.
    fn identity(&self) -> Option<&[u8]> {
        match &self.encoded {
            Encoded::Attachment { document, .. } => durable::identity_of(document),
            Encoded::Inline(_) => None,
        }
    }

    pub(super) fn finish(self, outcome: Result<()>) {
        match self.done {
            // A caller that dropped the receipt does not need the outcome.
            Completion::Receipt { sender, .. } => drop(sender.send(outcome)),
            Completion::Member(member) => member.finish(outcome, self.encoded),
        }
    }
}

fn bytes_of(encoded: &Encoded) -> usize {
    match encoded {
        Encoded::Inline(text) => text.len(),
        Encoded::Attachment { document, .. } => document.len(),
    }
}

/// What a queued message takes of the queue's bytes.
fn queued_bytes(encoded: &Encoded) -> usize {
    bytes_of(encoded) + size_of::<Job>()
}

/// The receipt of a queued message. It resolves when Postgres has committed the message, or to the error.
#[must_use = "the message may still fail: await the receipt to know"]
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<()>>);

impl Future for Receipt {
    type Output = Result<()>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context).map(|outcome| outcome.unwrap_or(Err(Error::Closed)))
    }
}

impl Publisher {
    pub(crate) fn start(session: Arc<Session>, table: Arc<CheckedTable>, on_loss: OnLoss) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE_ENTRIES);
        let (announcements, announced) = mpsc::channel(ANNOUNCEMENTS);
        let (health_sender, health) = watch::channel(Publishing::default());
        let sender = Sender::new(session, table, on_loss, health_sender);
        let task = AbortOnDropHandle::new(tokio::spawn(Intake::new(queue, announced).run(sender)));
        let capacity = Arc::new(Semaphore::new(QUEUE_BYTES));
        let (queued, unfinished) = Default::default();
        Self { jobs, announcements, capacity, queued, unfinished, health, _task: task.into() }
    }

    /// Queues a message. Waits only while the queue is full.
    pub(crate) async fn enqueue(
        &self,
        channel: Channel,
        encoded: Encoded,
        is_heartbeat: bool,
    ) -> Result<Receipt> {
        let (sender, receipt) = oneshot::channel();
        let capacity = Some(self.acquire(queued_bytes(&encoded)).await?);
        self.queued.fetch_add(1, Ordering::Relaxed);
        let done = Completion::Receipt { sender, capacity, _token: Some(self.unfinished.token()) };
        let job = Job { channel, encoded, is_heartbeat, done };
        self.jobs.send(Queued::One(job)).await.map_err(|_| Error::Closed)?;
        Ok(Receipt(receipt))
    }

    /// Queues the messages of a group, in their order. Waits only while the queue is full.
    pub(crate) async fn enqueue_group(&self, group: MessageGroup) -> Result<GroupReceipt> {
        let capacity = self.acquire(group.bytes).await?;
        let (jobs, receipt) = group.into_jobs(capacity, self.unfinished.token());
        self.queued.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        self.jobs.send(Queued::Group(jobs)).await.map_err(|_| Error::Closed)?;
        Ok(receipt)
    }

    /// Waits until all messages that were queued before have an outcome.
    pub(crate) async fn flush(&self) -> Result<()> {
        self.unfinished.wait().await;
        if self.jobs.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Waits for room in the queue. Messages that are larger than the queue take all of it.
    async fn acquire(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        self.capacity.clone().acquire_many_owned(bytes).await.map_err(|_| Error::Closed)
    }

    /// Queues heartbeats and other announcements. They are published in one transaction, before all messages that are
    /// queued later.
    ///
    /// # Errors
    /// [`Error::Closed`] if earlier announcements still wait.
    pub(crate) fn announce(&self, messages: Vec<(Channel, Encoded)>) -> Result<Vec<Receipt>> {
        self.queued.fetch_add(messages.len() as u64, Ordering::Relaxed);
        let (jobs, receipts) = messages
            .into_iter()
            .map(|(channel, encoded)| {
                let (sender, receipt) = oneshot::channel();
                let done = Completion::Receipt { sender, capacity: None, _token: None };
                (Job { channel, encoded, is_heartbeat: true, done }, Receipt(receipt))
            })
            .unzip();
        self.announcements.try_send(jobs).map_err(|_| Error::Closed)?;
        Ok(receipts)
    }

    /// The number of messages that were queued so far.
    #[cfg(feature = "server")]
    pub(crate) fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// The health of publishing.
    pub(crate) fn health(&self) -> Publishing {
        self.health.borrow().clone()
    }
}
