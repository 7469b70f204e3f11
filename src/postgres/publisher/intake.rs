//! Puts batches together, each while the one before it is in progress (pipelining).
//!
//! A transaction is sent only when the outcome of the one before is known: what has failed may have to be sent again, before
//! what comes after it. All other work happens while Postgres is busy: the messages of the next batch are taken from the
//! queue, and the callers of the one before are told.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::Poll;

use futures_util::poll;
use tokio::sync::mpsc;

use super::Job;
use super::sender::{Sender, finish_all};
use crate::postgres::batch::Batch;

/// The messages that wait to be sent.
pub(super) struct Intake {
    queue: mpsc::Receiver<Job>,
    announced: mpsc::Receiver<Vec<Job>>,
    /// The next batch, as far as its messages have come.
    batch: Batch,
    /// Messages that have come and do not fit into the batch.
    rest: VecDeque<Job>,
}

impl Intake {
    pub(super) fn new(queue: mpsc::Receiver<Job>, announced: mpsc::Receiver<Vec<Job>>) -> Self {
        Self { queue, announced, batch: Batch::default(), rest: VecDeque::new() }
    }

    /// Sends what comes, until the queue is closed and empty.
    pub(super) async fn run(mut self, mut sender: Sender) {
        // Those whose callers are not told yet: they are as soon as anything but the next batch is waited for.
        let mut committed = Vec::new();
        loop {
            self.fill();
            if self.batch.is_empty() {
                finish_all(std::mem::take(&mut committed), &Ok(()));
                tokio::select! {
                    biased;
                    Some(jobs) = self.announced.recv() => announce(&mut sender, jobs).await,
                    job = self.queue.recv() => match job {
                        Some(job) => self.rest.push_back(job),
                        None => return,
                    },
                    () = sender.held_is_due() => sender.try_held().await,
                }
                continue;
            }
            // Earlier announcements must not be published later: a goodbye is the last message of a node.
            if let Ok(jobs) = self.announced.try_recv() {
                finish_all(std::mem::take(&mut committed), &Ok(()));
                announce(&mut sender, jobs).await;
            }
            let jobs = sender.pass_all(self.batch.take());
            committed = self.fill_during(sender.send(jobs), committed).await;
            if sender.held_is_overdue() {
                finish_all(std::mem::take(&mut committed), &Ok(()));
                sender.try_held().await;
            }
        }
    }

    /// Waits for a batch that is being sent, and puts the next one together. Returns the messages that are committed.
    async fn fill_during(&mut self, sending: impl Future<Output = Vec<Job>>, before: Vec<Job>) -> Vec<Job> {
        let mut sending = pin!(sending);
        let at_once = poll!(&mut sending);
        finish_all(before, &Ok(()));
        if let Poll::Ready(committed) = at_once {
            return committed;
        }
        let mut come = Vec::new();
        loop {
            self.fill();
            let room = self.batch.room();
            tokio::select! {
                biased;
                committed = &mut sending => return committed,
                // None come once the queue is closed; then it is not asked again.
                count = self.queue.recv_many(&mut come, room), if room > 0 && !self.queue.is_closed() => {
                    debug_assert!(count <= room);
                    self.rest.extend(come.drain(..));
                }
            }
        }
    }

    /// Moves what has come into the batch, as much as fits.
    fn fill(&mut self) {
        while let Some(job) = self.rest.pop_front().or_else(|| self.queue.try_recv().ok()) {
            if let Some(job) = self.batch.add(job) {
                return self.rest.push_front(job);
            }
        }
    }
}

/// Sends announcements in one transaction, or in more where they are many.
async fn announce(sender: &mut Sender, jobs: Vec<Job>) {
    let mut batch = Batch::default();
    let mut rest = VecDeque::from(jobs);
    while let Some(job) = rest.pop_front() {
        if let Some(job) = batch.add(job) {
            rest.push_front(job);
            sender.send_and_tell(batch.take()).await;
        }
    }
    sender.send_and_tell(batch.take()).await;
}
