//! The publisher, with group commit: messages that are queued while a statement is in progress go out with the next one.
//!
//! One task owns the order: messages go out as they were queued, as many in one transaction as have come together, so
//! that a lone message is not delayed and a flood shares commits (group commit). Messages for a locked attachment table
//! are held back with those behind them on the same channel; all others pass.

mod held;
mod intake;
mod queue_relief;
mod sender;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{CheckedTable, Session};
use crate::protocol::{Channel, Encoded, durable};
use crate::{Error, Result};
use intake::Intake;
use sender::Sender;

/// How many bytes may wait before a producer has to.
const QUEUE_BYTES: usize = 32 << 20;

/// How many messages may wait before a producer has to.
const QUEUE_MESSAGES: usize = 8192;

/// How many groups of announcements may wait. There is one at a time.
const ANNOUNCEMENTS: usize = 2;

/// Sends messages through one task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    jobs: mpsc::Sender<Job>,
    /// Heartbeats, which go out together and before all others.
    announcements: mpsc::Sender<Vec<Job>>,
    room: Arc<Semaphore>,
    /// How many messages were queued.
    queued: Arc<AtomicU64>,
    health: watch::Receiver<Publishing>,
    _task: Arc<AbortOnDropHandle<()>>,
}

/// How publishing goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Publishing {
    /// What stands in its way; `None` while it works.
    pub(crate) fault: Option<PublishFault>,
    /// How many messages were sent again that may have been sent before.
    pub(crate) possible_duplicates: u64,
}

/// What stands in the way of publishing.
#[derive(Debug, Clone)]
pub(crate) enum PublishFault {
    /// The server does not answer.
    NoAnswer,
    /// There is no connection.
    Disconnected(Error),
    /// The server's queue of notifications is full: some listener does not read.
    QueueFull,
}

/// What to do with messages whose connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OnLoss {
    /// Tell the caller at once.
    #[default]
    Fail,
    /// Send them again, and all others after them, for so long after the loss.
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the command line asks for it"))]
    Retry(Duration),
}

/// One message on its way.
pub(super) struct Job {
    pub(super) channel: Channel,
    pub(super) encoded: Encoded,
    /// Whether it may overtake others: a heartbeat says nothing but that its sender is alive.
    pub(super) is_heartbeat: bool,
    done: oneshot::Sender<Result<()>>,
    /// Its part of the queue; what is announced takes none.
    _room: Option<OwnedSemaphorePermit>,
}

impl Job {
    pub(super) fn bytes(&self) -> usize {
        bytes_of(&self.encoded)
    }

    pub(super) fn is_attachment(&self) -> bool {
        matches!(self.encoded, Encoded::Attachment { .. })
    }

    /// What tells a durable event's row from all others.
    fn identity(&self) -> Option<&[u8]> {
        match &self.encoded {
            Encoded::Attachment { document, .. } => durable::identity_of(document),
            Encoded::Inline(_) => None,
        }
    }

    pub(super) fn finish(self, outcome: Result<()>) {
        // A caller that dropped the receipt has chosen not to know the outcome.
        self.done.send(outcome).ok();
    }
}

fn bytes_of(encoded: &Encoded) -> usize {
    match encoded {
        Encoded::Inline(text) => text.len(),
        Encoded::Attachment { document, .. } => document.len(),
    }
}

/// A message that is queued; resolves when Postgres has committed it, or to why it has not.
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
        let (jobs, queue) = mpsc::channel(QUEUE_MESSAGES);
        let (announcements, announced) = mpsc::channel(ANNOUNCEMENTS);
        let (told, health) = watch::channel(Publishing::default());
        let sender = Sender::new(session, table, on_loss, told);
        let task = AbortOnDropHandle::new(tokio::spawn(Intake::new(queue, announced).run(sender)));
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        Self { jobs, announcements, room, queued: Arc::default(), health, _task: task.into() }
    }

    /// Queues a message. Waits only while the queue is full.
    pub(crate) async fn enqueue(
        &self,
        channel: Channel,
        encoded: Encoded,
        is_heartbeat: bool,
    ) -> Result<Receipt> {
        let (done, receipt) = oneshot::channel();
        // A message larger than the queue takes all of it.
        let room = u32::try_from(bytes_of(&encoded).min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(room).await.map_err(|_| Error::Closed)?;
        self.queued.fetch_add(1, Ordering::Relaxed);
        let job = Job { channel, encoded, is_heartbeat, done, _room: Some(room) };
        self.jobs.send(job).await.map_err(|_| Error::Closed)?;
        Ok(Receipt(receipt))
    }

    /// Queues short messages that show that their senders live, to be sent in one transaction, before all that is queued from
    /// now on.
    ///
    /// # Errors
    /// [`Error::Closed`] where the former ones still wait.
    pub(crate) fn announce(&self, messages: Vec<(Channel, Encoded)>) -> Result<Vec<Receipt>> {
        self.queued.fetch_add(messages.len() as u64, Ordering::Relaxed);
        let (jobs, receipts) = messages
            .into_iter()
            .map(|(channel, encoded)| {
                let (done, receipt) = oneshot::channel();
                (Job { channel, encoded, is_heartbeat: true, done, _room: None }, Receipt(receipt))
            })
            .unzip();
        self.announcements.try_send(jobs).map_err(|_| Error::Closed)?;
        Ok(receipts)
    }

    /// How many messages were queued so far.
    #[cfg(feature = "server")]
    pub(crate) fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// How it goes.
    pub(crate) fn health(&self) -> Publishing {
        self.health.borrow().clone()
    }
}
