//! Sends several batches in one transaction while many messages wait (pipelining).
//!
//! A transaction with one batch leaves the server idle from its commit until the next batch arrives. Here the next batch
//! is sent while the server works on the one before. All are in one transaction, so a failure does not change their order:
//! the server rolls all of them back, and they are retried together.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::poll;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::task::yield_now;
use tokio_postgres::Error as PgError;

use super::Job;
use super::committed::Committed;
use super::intake::Intake;
use super::sender::{Failed, Sender, answer_timeout};
use crate::Error;
use crate::postgres::batch;
use crate::postgres::session::Live;

/// The maximum number of batches in a transaction. Their messages are committed, and delivered, together.
const MAX_BATCHES: usize = 4;

/// A transaction in progress.
pub(super) struct Transaction {
    live: Live,
    /// Its id, if the outcome has to be asked for after a loss.
    id: Option<String>,
    batches: Vec<Arc<Vec<Job>>>,
    /// The statements in flight, in order.
    answers: FuturesOrdered<BoxFuture<'static, Result<(), PgError>>>,
    /// The first error. After it, the server rejects all later statements of the transaction.
    error: Option<PgError>,
    is_ending: bool,
}

impl Transaction {
    /// A transaction that has begun if it has an id, and that begins with the first batch otherwise.
    pub(super) fn new(live: Live, id: Option<String>) -> Self {
        let answers = FuturesOrdered::new();
        let mut transaction = Self { live, id, batches: Vec::new(), answers, error: None, is_ending: false };
        if transaction.id.is_none() {
            transaction.push("BEGIN");
        }
        transaction
    }

    fn push(&mut self, sql: &'static str) {
        let client = self.live.client.clone();
        self.answers.push_back(Box::pin(async move { client.batch_execute(sql).await }));
    }

    fn takes_another(&self) -> bool {
        !self.is_ending && self.error.is_none() && self.batches.len() < MAX_BATCHES
    }

    /// Sends a batch of inline messages, and lets the task of the connection write it: that task often waits for a turn on
    /// this thread, while the server is idle.
    async fn send(&mut self, jobs: Vec<Job>) {
        let (client, jobs) = (self.live.client.clone(), Arc::new(jobs));
        self.batches.push(jobs.clone());
        self.answers.push_back(Box::pin(async move { batch::notify(&client, &jobs).await }));
        if self.batches.len() == MAX_BATCHES {
            self.push_commit();
        }
        self.start().await;
        yield_now().await;
    }

    /// Commits, or rolls back after an error: the server treats COMMIT as ROLLBACK then.
    async fn end(&mut self) {
        self.push_commit();
        self.start().await;
    }

    fn push_commit(&mut self) {
        self.push(batch::CHECK_NOT_ABORTED);
        self.push("COMMIT");
        self.is_ending = true;
    }

    /// The timeout of its answers, for all of its batches: they may all be in flight.
    fn answer_timeout(&self) -> Duration {
        answer_timeout(self.batches.iter().flat_map(|jobs| jobs.iter()))
    }

    /// Polls all statements, since the first poll sends a statement.
    async fn start(&mut self) {
        while let Poll::Ready(Some(answer)) = poll!(self.answers.next()) {
            self.record(answer);
        }
    }

    /// Waits for the answers to all statements.
    async fn answered(&mut self) {
        while let Some(answer) = self.answers.next().await {
            self.record(answer);
        }
    }

    fn record(&mut self, answer: Result<(), PgError>) {
        if let Err(error) = answer {
            self.error.get_or_insert(error);
        }
    }

    /// The batches in their order.
    fn into_batches(self) -> Vec<Vec<Job>> {
        // The statements share them.
        drop(self.answers);
        debug_assert!(self.batches.iter().all(|batch| Arc::strong_count(batch) == 1));
        self.batches.into_iter().filter_map(Arc::into_inner).collect()
    }
}

impl Intake {
    /// Sends the full batch, and those that fill up meanwhile.
    pub(super) async fn stream(&mut self, sender: &mut Sender, before: Committed) -> Committed {
        let first = self.batch.take_first();
        let (begun, before) = {
            let mut beginning = pin!(sender.begin());
            match poll!(&mut beginning) {
                Poll::Ready(begun) => (begun, before),
                Poll::Pending => {
                    drop(before);
                    (beginning.await, Committed::default())
                }
            }
        };
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(failed) => {
                drop(before);
                return sender.settle(first, Err(failed)).await;
            }
        };
        let lost = self.fill_transaction(sender, &mut transaction, first, before).await;
        let failed = match (lost, transaction.error.take()) {
            (Some(lost), _) => Failed::unknown(lost, transaction.id.take(), &transaction.live),
            (None, Some(error)) => sender.failed(&error, transaction.id.take(), &transaction.live),
            (None, None) => {
                sender.clear_fault();
                return transaction.into_batches().into();
            }
        };
        let jobs = transaction.into_batches().into_iter().flatten().collect();
        sender.settle(jobs, Err(failed)).await
    }

    /// Sends batches until the transaction has ended. Returns the error if its connection was lost before.
    async fn fill_transaction(
        &mut self,
        sender: &Sender,
        transaction: &mut Transaction,
        first: Vec<Job>,
        mut before: Committed,
    ) -> Option<Error> {
        let live = transaction.live.clone();
        transaction.send(first).await;
        let mut lost = pin!(sender.lost(&live, transaction.answer_timeout()));
        loop {
            self.fill();
            if transaction.takes_another() && self.batch.room() == 0 && self.may_join() {
                transaction.send(self.batch.take_next()).await;
                lost.set(sender.lost(&live, transaction.answer_timeout()));
                continue;
            }
            drop(std::mem::take(&mut before));
            tokio::select! {
                biased;
                () = transaction.answered() => {
                    if transaction.is_ending {
                        return None;
                    }
                    // Fewer messages arrive than the server commits, so this transaction ends with those that wait.
                    if transaction.takes_another() && !self.batch.is_empty() && self.may_join() {
                        transaction.send(self.batch.take_next()).await;
                    }
                    if !transaction.is_ending {
                        transaction.end().await;
                    }
                    lost.set(sender.lost(&live, transaction.answer_timeout()));
                }
                error = &mut lost => return Some(error),
                () = self.receive_next() => {}
            }
        }
    }

    /// Whether the batch may be sent in a transaction that is open. Announcements come before it.
    fn may_join(&self) -> bool {
        self.batch.is_inline() && self.announced.is_empty()
    }
}
