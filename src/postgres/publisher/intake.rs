//! Collects each batch while the previous one is in flight (pipelining).
//!
//! A transaction is sent only when the outcome of the previous one is known, since a failed batch may have to be retried
//! before later messages. Only a flood sends the next one before ([`stream`](super::stream)). Other work happens while
//! Postgres is busy: the next batch is collected, and the receipts of the previous one are resolved.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::pin;
use std::task::Poll;

use futures_util::poll;
use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::commit_order::CommitOrder;
use super::committed::Committed;
use super::sender::Sender;
use super::{Job, Queued};
use crate::postgres::batch::Batch;

/// The queues of messages, and the next batch.
pub(super) struct Intake {
    queue: mpsc::Receiver<Queued>,
    pub(super) announced: mpsc::Receiver<Vec<Job>>,
    /// The next batch, with the messages that have arrived.
    pub(super) batch: Batch,
    /// Messages that have arrived and do not fit into the batch.
    rest: VecDeque<Job>,
    pub(super) order: CommitOrder,
}

impl Intake {
    pub(super) fn new(queue: mpsc::Receiver<Queued>, announced: mpsc::Receiver<Vec<Job>>) -> Self {
        Self {
            queue,
            announced,
            batch: Batch::default(),
            rest: VecDeque::new(),
            order: CommitOrder::default(),
        }
    }

    /// Sends messages until the queue is closed and empty.
    pub(super) async fn run(mut self, mut sender: Sender) {
        // Committed messages with unresolved receipts. They are resolved before the task waits for anything but the next
        // batch, and a turn of the connection's task.
        let mut committed = Committed::default();
        loop {
            if self.batch.is_empty() {
                self.batch.begin();
            }
            self.fill();
            if self.batch.is_empty() {
                drop(std::mem::take(&mut committed));
                tokio::select! {
                    biased;
                    Some(jobs) = self.announced.recv() => announce(&mut sender, jobs).await,
                    queued = self.queue.recv() => match queued {
                        Some(queued) => self.receive(queued),
                        None => return,
                    },
                    () = sender.held_is_due() => sender.try_held().await,
                }
                continue;
            }
            // An announcement must not be published after later messages: a goodbye is the last message of a node.
            if let Ok(jobs) = self.announced.try_recv() {
                drop(std::mem::take(&mut committed));
                announce(&mut sender, jobs).await;
            }
            let is_flood = self.batch.room() == 0 && self.batch.is_inline() && sender.holds_nothing();
            committed = match is_flood {
                true => self.stream(&mut sender, committed).await,
                false => {
                    let jobs = sender.filter_held(self.batch.take());
                    self.fill_during(sender.send(jobs), committed).await
                }
            };
            if sender.held_is_overdue() {
                drop(std::mem::take(&mut committed));
                sender.try_held().await;
            }
        }
    }

    /// Collects the next batch while the current one is in flight.
    async fn fill_during(
        &mut self,
        sending: impl Future<Output = Committed>,
        before: Committed,
    ) -> Committed {
        let mut sending = pin!(sending);
        let first_poll = poll!(&mut sending);
        if !before.is_empty() {
            // The task of the connection writes first: it often waits for a turn on this thread.
            yield_now().await;
            drop(before);
        }
        if let Poll::Ready(committed) = first_poll {
            return committed;
        }
        loop {
            self.fill();
            tokio::select! {
                biased;
                committed = &mut sending => return committed,
                () = self.receive_next() => {}
            }
        }
    }

    /// Moves as many arrived messages into the batch as fit.
    pub(super) fn fill(&mut self) {
        loop {
            while let Some(job) = self.rest.pop_front() {
                if let Some(job) = self.batch.add(job) {
                    return self.rest.push_front(job);
                }
            }
            match self.queue.try_recv() {
                Ok(queued) => self.receive(queued),
                Err(_) => return,
            }
        }
    }

    /// Receives the next message or group. Pending forever while the batch is full, and once the queue is closed.
    pub(super) async fn receive_next(&mut self) {
        // A closed queue returns at once, so it is not polled.
        if self.batch.room() == 0 || self.queue.is_closed() {
            return pending().await;
        }
        if let Some(queued) = self.queue.recv().await {
            self.receive(queued);
        }
    }

    fn receive(&mut self, queued: Queued) {
        match queued {
            Queued::One(job) => self.rest.push_back(job),
            Queued::Group(jobs) => self.rest.extend(jobs),
        }
    }
}

/// Sends announcements in one transaction, or in several if there are many.
async fn announce(sender: &mut Sender, jobs: Vec<Job>) {
    let mut batch = Batch::default();
    let mut rest = VecDeque::from(jobs);
    while let Some(job) = rest.pop_front() {
        if let Some(job) = batch.add(job) {
            rest.push_front(job);
            sender.send_and_finish(batch.take()).await;
        }
    }
    sender.send_and_finish(batch.take()).await;
}
