//! Group commit: what is queued while a statement is under way goes out with the next one.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::batch::Batch;
use super::{Session, TableName};
use crate::protocol::{Channel, Encoded};
use crate::{Error, Result};

/// How many bytes may wait before a producer has to.
const QUEUE_BYTES: usize = 32 << 20;

/// How many messages may wait before a producer has to.
const QUEUE_MESSAGES: usize = 8192;

/// Sends messages through one task that owns the order: they go out as they were queued, as many in one transaction as
/// have come together, so that a lone message waits for nobody and a flood shares commits.
#[derive(Clone)]
pub(crate) struct Publisher {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    _task: Arc<AbortOnDropHandle<()>>,
}

/// One message on its way.
pub(super) struct Job {
    pub(super) channel: Channel,
    pub(super) encoded: Encoded,
    done: oneshot::Sender<Result<()>>,
    _room: OwnedSemaphorePermit,
}

impl Job {
    pub(super) fn bytes(&self) -> usize {
        match &self.encoded {
            Encoded::Inline(text) => text.len(),
            Encoded::Attachment { document, .. } => document.len(),
        }
    }

    pub(super) fn finish(self, outcome: Result<()>) {
        // Whoever does not wait for the outcome has chosen not to know it.
        let _ = self.done.send(outcome);
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
    pub(crate) fn start(session: Arc<Session>, table: TableName) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE_MESSAGES);
        let task = AbortOnDropHandle::new(tokio::spawn(run(queue, session, table)));
        Self { jobs, room: Arc::new(Semaphore::new(QUEUE_BYTES)), _task: task.into() }
    }

    /// Queues a message. Waits only while the queue is full.
    pub(crate) async fn enqueue(&self, channel: Channel, encoded: Encoded) -> Result<Receipt> {
        let (done, receipt) = oneshot::channel();
        let bytes = match &encoded {
            Encoded::Inline(text) => text.len(),
            Encoded::Attachment { document, .. } => document.len(),
        };
        // A message larger than the queue takes all of it.
        let room = u32::try_from(bytes.min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(room).await.map_err(|_| Error::Closed)?;
        let job = Job { channel, encoded, done, _room: room };
        self.jobs.send(job).await.map_err(|_| Error::Closed)?;
        Ok(Receipt(receipt))
    }
}

async fn run(mut queue: mpsc::Receiver<Job>, session: Arc<Session>, table: TableName) {
    let mut refused = None;
    loop {
        let first = match refused.take() {
            Some(job) => job,
            None => match queue.recv().await {
                Some(job) => job,
                None => return,
            },
        };
        let mut batch = Batch::default();
        refused = batch.add(first);
        while refused.is_none()
            && let Ok(job) = queue.try_recv()
        {
            refused = batch.add(job);
        }
        batch.send(&session, &table).await;
    }
}
