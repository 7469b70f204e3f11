//! A transaction of several batches, which are sent while the server works on those before (pipelining).

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
use super::commit_order::{TransactionNumber, is_out_of_order};
use super::sender::answer_timeout;
use crate::postgres::batch;
use crate::postgres::session::Live;

/// The maximum number of batches in a transaction. Their messages are committed, and delivered, together.
const MAX_BATCHES: usize = 4;

/// A transaction in progress.
pub(super) struct Transaction {
    pub(super) live: Live,
    /// Its id, if the outcome has to be asked for after a loss.
    pub(super) id: Option<String>,
    number: TransactionNumber,
    batches: Vec<Arc<Vec<Job>>>,
    /// The statements in flight, in order.
    answers: FuturesOrdered<BoxFuture<'static, Result<(), PgError>>>,
    /// Whether the next answer is that to the check of the order.
    is_order_unchecked: bool,
    is_out_of_order: bool,
    /// The first error. After an error of the server, the server rejects all later statements of the transaction.
    pub(super) error: Option<PgError>,
    is_ending: bool,
}

impl Transaction {
    /// A transaction that has begun if it has an id, and that begins with the first batch otherwise.
    pub(super) fn new(live: Live, id: Option<String>, number: TransactionNumber) -> Self {
        let begin = id.is_none().then(|| "BEGIN".into());
        Self::beginning(live, id, number, begin)
    }

    /// A transaction that is sent before this one has ended. The server rejects it unless this one is committed.
    pub(super) fn followed_by(&self, number: TransactionNumber) -> Self {
        let mut next = Self::beginning(self.live.clone(), None, number, Some(self.number.begin_after()));
        next.is_order_unchecked = true;
        next
    }

    fn beginning(live: Live, id: Option<String>, number: TransactionNumber, begin: Option<String>) -> Self {
        let mut transaction = Self {
            live,
            id,
            number,
            batches: Vec::new(),
            answers: FuturesOrdered::new(),
            is_order_unchecked: false,
            is_out_of_order: false,
            error: None,
            is_ending: false,
        };
        if let Some(begin) = begin {
            transaction.push(begin);
        }
        transaction
    }

    fn push(&mut self, sql: String) {
        let client = self.live.client.clone();
        self.answers.push_back(Box::pin(async move { client.batch_execute(&sql).await }));
    }

    pub(super) fn takes_another(&self) -> bool {
        !self.is_ending && self.error.is_none() && self.batches.len() < MAX_BATCHES
    }

    /// Whether its last statement was sent, and the server has reported no error so far.
    pub(super) fn is_committing(&self) -> bool {
        self.is_ending && self.error.is_none()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Whether the server rejected it because the one before was not committed, or not in the same session.
    pub(super) fn is_out_of_order(&self) -> bool {
        self.is_out_of_order
    }

    /// Sends a batch of inline messages, and lets the task of the connection write it: that task often waits for a turn on
    /// this thread, while the server is idle.
    pub(super) async fn send(&mut self, jobs: Vec<Job>) {
        let (client, jobs) = (self.live.client.clone(), Arc::new(jobs));
        self.batches.push(jobs.clone());
        self.answers.push_back(Box::pin(async move { batch::notify(&client, &jobs).await }));
        if self.batches.len() == MAX_BATCHES {
            self.push_end();
        }
        self.start().await;
        yield_now().await;
    }

    /// Commits, or rolls back after an error: the server treats COMMIT as ROLLBACK then.
    pub(super) async fn end(&mut self) {
        self.push_end();
        self.start().await;
    }

    /// Ends it if its commit was not sent yet. The server has rejected it, or will reject it.
    pub(super) async fn roll_back(&mut self) {
        if !self.is_ending {
            self.is_ending = true;
            // The first poll sends it, and nothing depends on the answer: the connection keeps the order.
            let rolled_back = poll!(pin!(self.live.client.batch_execute("ROLLBACK")));
            debug_assert!(rolled_back.is_pending() || self.live.client.is_closed());
        }
    }

    fn push_end(&mut self) {
        self.push(self.number.mark());
        self.push("COMMIT".into());
        self.is_ending = true;
    }

    /// The timeout of its answers, for all of its batches: they may all be in flight.
    pub(super) fn answer_timeout(&self) -> Duration {
        answer_timeout(self.batches.iter().flat_map(|jobs| jobs.iter()))
    }

    /// Polls all statements, since the first poll sends a statement.
    async fn start(&mut self) {
        while let Poll::Ready(Some(answer)) = poll!(self.answers.next()) {
            self.record(answer);
        }
    }

    /// Waits for the answers to all statements.
    pub(super) async fn answered(&mut self) {
        while let Some(answer) = self.answers.next().await {
            self.record(answer);
        }
    }

    fn record(&mut self, answer: Result<(), PgError>) {
        let is_check = std::mem::take(&mut self.is_order_unchecked);
        if let Err(error) = answer {
            self.is_out_of_order |= is_check && is_out_of_order(&error);
            self.error.get_or_insert(error);
        }
    }

    /// The batches in their order.
    pub(super) fn into_batches(self) -> Vec<Vec<Job>> {
        // The statements share them.
        drop(self.answers);
        debug_assert!(self.batches.iter().all(|batch| Arc::strong_count(batch) == 1));
        self.batches.into_iter().filter_map(Arc::into_inner).collect()
    }

    /// The messages in their order.
    pub(super) fn into_jobs(self) -> Vec<Job> {
        self.into_batches().into_iter().flatten().collect()
    }
}
