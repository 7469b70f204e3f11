//! Sends batches, and decides whether a failed batch is retried.

mod unknown_outcome;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_postgres::error::SqlState;

use super::commit_order::TransactionNumber;
use super::committed::Committed;
use super::held::{Held, HoldOutcome};
use super::queue_relief::QueueRelief;
use super::transaction::Transaction;
use super::{Job, OnLoss, PublishFault, Publishing};
use crate::postgres::CheckedTable;
use crate::postgres::attachments::table_failure;
use crate::postgres::batch::{self, Batch, LockTimeout};
use crate::postgres::failure;
use crate::postgres::session::{Live, Session};
use crate::{Error, Result};

/// The timeout of a batch, without the time for its size: half of the default heartbeat timeout.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The assumed minimum speed of a connection, in bytes per second.
const MIN_SPEED: usize = 128 << 10;

/// How long a late response still counts while a replacement connects.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long publishing is retried while the notification queue is full.
const QUEUE_FULL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long publishing is retried while another session holds the lock of NOTIFY for longer than the role's `lock_timeout`.
const NOTIFY_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The first and the longest back-off between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

pub(super) struct Sender {
    session: Arc<Session>,
    table: Arc<CheckedTable>,
    on_loss: OnLoss,
    health: watch::Sender<Publishing>,
    held: Held,
    queue_relief: QueueRelief,
    /// When the server was last lost. The time limit of the retries counts from there, for all messages together.
    lost_since: Mutex<Option<Instant>>,
}

/// Why a batch failed.
pub(super) enum Failed {
    /// The server refused it, and rolled it back.
    Refused(Error),
    /// A lock was not available in time, and the server rolled it back: that of the attachment table, or without
    /// attachments that of NOTIFY, if the role has a `lock_timeout`.
    Locked(Error),
    /// The notification queue is full, and the server rolled it back.
    QueueFull(Error),
    /// It was never sent.
    NotSent(Error),
    /// The connection was lost while it was in flight: it may be committed or not.
    UnknownOutcome(Error, Option<UnknownTransaction>),
}

/// A transaction with an unknown outcome, and the connection to the server that may know it.
pub(super) struct UnknownTransaction {
    transaction: String,
    live: Live,
}

impl Failed {
    /// The connection was lost while a transaction was in flight. Without an id, the server cannot be asked for the outcome.
    pub(super) fn unknown(error: Error, id: Option<String>, live: &Live) -> Self {
        let unknown = id.map(|transaction| UnknownTransaction { transaction, live: live.clone() });
        Self::UnknownOutcome(error, unknown)
    }
}

impl Sender {
    pub(super) fn new(
        session: Arc<Session>,
        table: Arc<CheckedTable>,
        on_loss: OnLoss,
        health: watch::Sender<Publishing>,
    ) -> Self {
        Self {
            session,
            table,
            on_loss,
            health,
            held: Held::default(),
            queue_relief: QueueRelief::default(),
            lost_since: Mutex::default(),
        }
    }

    /// Holds the messages that must stay behind held ones. Returns the others.
    pub(super) fn filter_held(&mut self, mut jobs: Vec<Job>) -> Vec<Job> {
        if !self.held.is_empty() {
            jobs = jobs.into_iter().filter_map(|job| self.check_held(job)).collect();
        }
        jobs
    }

    pub(super) fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    fn check_held(&mut self, job: Job) -> Option<Job> {
        match self.held.check_held(job) {
            HoldOutcome::Free(job) => Some(job),
            HoldOutcome::Held => None,
            HoldOutcome::Full(job) => {
                job.finish(Err(self.table_locked()));
                None
            }
        }
    }

    fn table_locked(&self) -> Error {
        Error::TableLocked { table: self.table.unchecked().to_string(), pid: None }
    }

    /// Waits until the next retry of held messages. Pending forever without held messages.
    pub(super) async fn held_is_due(&self) {
        match self.held.next_try() {
            Some(at) => sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn held_is_overdue(&self) -> bool {
        self.held.next_try().is_some_and(|at| at <= Instant::now())
    }

    /// Retries the first held message, and after a success sends the others.
    pub(super) async fn try_held(&mut self) {
        let now = Instant::now();
        if self.held.gives_up(now) {
            let error = self.table_locked();
            return fail_all(self.held.take_all(), &error);
        }
        let Some(first) = self.held.pop() else { return drop(self.held.take_all()) };
        match self.attempt(std::slice::from_ref(&first), LockTimeout::Short).await {
            Err(Failed::Locked(_)) => {
                self.held.put_back(first);
                self.held.postpone(now);
            }
            outcome => {
                let mut rest = self.held.take_all();
                drop(self.settle(vec![first], outcome).await);
                let mut batch = Batch::default();
                while let Some(job) = rest.pop_front() {
                    // The table may be locked again.
                    let Some(job) = self.check_held(job) else { continue };
                    if let Some(job) = batch.add(job) {
                        rest.push_front(job);
                        self.send_and_finish(batch.take()).await;
                    }
                }
                self.send_and_finish(batch.take()).await;
            }
        }
    }

    /// Sends the messages of a batch. It reports failures to their callers, and holds messages for a locked table.
    pub(super) async fn send(&mut self, jobs: Vec<Job>) -> Committed {
        if jobs.is_empty() {
            return Committed::default();
        }
        let outcome = self.attempt(&jobs, LockTimeout::Long).await;
        self.settle(jobs, outcome).await
    }

    /// Sends the messages of a batch, and resolves all receipts.
    pub(super) async fn send_and_finish(&mut self, jobs: Vec<Job>) {
        drop(self.send(jobs).await);
    }

    /// Retries a failed batch, as far as the failure allows.
    pub(super) async fn settle(&mut self, mut jobs: Vec<Job>, mut outcome: Result<(), Failed>) -> Committed {
        let start = Instant::now();
        let (mut pause, longest) = BACKOFF;
        let mut first_attempt_reached_server = true;
        // The error of an attempt that may have been committed. A later error does not change that.
        let mut unknown_outcome: Option<Error> = None;
        loop {
            let failed = match outcome {
                Ok(()) => {
                    self.clear_fault();
                    return jobs.into();
                }
                Err(failed) => failed,
            };
            match failed {
                Failed::Refused(error) => {
                    self.clear_fault();
                    match jobs.len() {
                        1 => fail_all(jobs, &unknown_outcome.unwrap_or(error)),
                        _ => self.send_without_refused(jobs, &error).await,
                    }
                    return Committed::default();
                }
                Failed::Locked(error) => {
                    self.clear_fault();
                    let count = jobs.len();
                    jobs = self.held.hold(Instant::now(), jobs);
                    if jobs.is_empty() {
                        return Committed::default();
                    }
                    if jobs.len() == count {
                        if start.elapsed() >= NOTIFY_LOCK_TIMEOUT {
                            return none_committed(jobs, &error);
                        }
                        sleep(pause).await;
                        pause = longest.min(pause * 2);
                    }
                }
                Failed::QueueFull(error) => {
                    self.set_fault(PublishFault::QueueFull);
                    if start.elapsed() >= QUEUE_FULL_TIMEOUT {
                        return none_committed(jobs, &error);
                    }
                    self.queue_relief.start(&self.session);
                    sleep(pause).await;
                    pause = longest.min(pause * 2);
                }
                Failed::NotSent(error) | Failed::UnknownOutcome(error, None)
                    if self.on_loss == OnLoss::Fail =>
                {
                    self.set_fault(PublishFault::Disconnected(error.clone()));
                    return none_committed(jobs, &error);
                }
                Failed::NotSent(error) => {
                    first_attempt_reached_server = false;
                    self.set_fault(PublishFault::Disconnected(error.clone()));
                    if self.gives_up(&error) {
                        return none_committed(jobs, &unknown_outcome.unwrap_or(error));
                    }
                    sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause = longest.min(pause * 2);
                }
                Failed::UnknownOutcome(error, unknown) => {
                    self.set_fault(PublishFault::Disconnected(error.clone()));
                    if self.gives_up(&error) {
                        return none_committed(jobs, &error);
                    }
                    let identity = jobs.iter().find_map(Job::identity).map(<[u8]>::to_vec);
                    let arrived = match &identity {
                        Some(identity) => self.was_row_inserted(unknown, identity).await,
                        None => self.was_committed(unknown, first_attempt_reached_server).await,
                    };
                    match arrived {
                        Some(true) => {
                            self.clear_fault();
                            return jobs.into();
                        }
                        Some(false) => {}
                        // A durable event must not be duplicated, so an unknown outcome counts as a failure.
                        None if identity.is_some() => return none_committed(jobs, &error),
                        None => {
                            let count = jobs.len() as u64;
                            self.health.send_modify(|health| health.possible_duplicates += count);
                            unknown_outcome = Some(error);
                        }
                    }
                }
            }
            outcome = self.attempt(&jobs, LockTimeout::Long).await;
        }
    }

    /// Whether messages fail with their connection. Others are retried, so their transactions need an id.
    pub(super) fn fails_on_loss(&self) -> bool {
        self.on_loss == OnLoss::Fail
    }

    /// Whether a later message would be sent on this connection too.
    pub(super) fn is_current(&self, live: &Live) -> bool {
        self.session.is_current(live)
    }

    /// Gives up a connection.
    pub(super) async fn abandon(&self, live: &Live) {
        self.session.abandon(&live.client).await;
    }

    /// Whether to stop retrying.
    fn gives_up(&self, error: &Error) -> bool {
        match self.on_loss {
            OnLoss::Fail => true,
            OnLoss::Retry(limit) => {
                let since = *self.lost_since().get_or_insert_with(Instant::now);
                since.elapsed() >= limit || !error.is_disconnected()
            }
        }
    }

    fn lost_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.lost_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the messages of a refused batch again, so that only those fail that the server refuses.
    async fn send_without_refused(&mut self, mut jobs: Vec<Job>, error: &Error) {
        if is_about_table(error) {
            let (attachments, others) = jobs.into_iter().partition::<Vec<_>, _>(Job::is_attachment);
            fail_all(attachments, error);
            return Box::pin(self.send_and_finish(others)).await;
        }
        let second = jobs.split_off(jobs.len() / 2);
        Box::pin(self.send_and_finish(jobs)).await;
        Box::pin(self.send_and_finish(second)).await;
    }

    async fn attempt(&self, jobs: &[Job], lock: LockTimeout) -> Result<(), Failed> {
        let mut live = self.session.live().await.map_err(Failed::NotSent)?;
        if self.on_loss != OnLoss::Fail && jobs.iter().any(|job| job.encoded.is_durable()) {
            live = self.session.with_place(live).await.map_err(Failed::NotSent)?;
        }
        match self.check_table(&live, jobs).await {
            Ok(()) => {}
            Err(error) if error.is_disconnected() => return Err(Failed::NotSent(error)),
            Err(error) => return Err(Failed::Refused(error)),
        }
        let transaction = self.begin_with_id(&live).await?;
        let sent = batch::send(&live.client, jobs, self.table.unchecked(), transaction.is_some(), lock);
        match self.answer(&live, answer_timeout(jobs), sent).await {
            Ok(Ok(())) => Ok(()),
            Err(error) => Err(Failed::unknown(error, transaction, &live)),
            Ok(Err(error)) => Err(self.failed(&error, transaction, &live)),
        }
    }

    /// Prepares a transaction for several batches without attachments.
    pub(super) async fn begin(&self, number: TransactionNumber) -> Result<Transaction, Failed> {
        let live = self.session.live().await.map_err(Failed::NotSent)?;
        let id = self.begin_with_id(&live).await?;
        Ok(Transaction::new(live, id, number))
    }

    /// Begins a transaction if its messages are retried after a loss. Returns its id.
    async fn begin_with_id(&self, live: &Live) -> Result<Option<String>, Failed> {
        match self.on_loss {
            OnLoss::Fail => Ok(None),
            OnLoss::Retry(_) => {
                let begun = self.answer(live, ANSWER_TIMEOUT, batch::begin(&live.client)).await;
                match begun.map_err(Failed::NotSent)? {
                    Ok(id) => Ok(Some(id)),
                    Err(error) => {
                        // The session may be in an aborted transaction now.
                        self.abandon(live).await;
                        Err(Failed::NotSent(failure(&error)))
                    }
                }
            }
        }
    }

    /// Classifies the error of a transaction.
    pub(super) fn failed(
        &self,
        error: &tokio_postgres::Error,
        transaction: Option<String>,
        live: &Live,
    ) -> Failed {
        let code = error.code().cloned();
        let plain = failure(error);
        let error = table_failure(error, self.table.unchecked());
        match code {
            Some(code) if code == SqlState::LOCK_NOT_AVAILABLE => Failed::Locked(plain),
            Some(code) if code == SqlState::PROGRAM_LIMIT_EXCEEDED => Failed::QueueFull(error),
            _ if error.is_disconnected() => Failed::unknown(error, transaction, live),
            _ => Failed::Refused(error),
        }
    }

    /// Fails if a message has to go through a table that is no attachment table.
    async fn check_table(&self, live: &Live, jobs: &[Job]) -> Result<()> {
        if jobs.iter().any(Job::is_attachment) {
            self.answer(live, ANSWER_TIMEOUT, self.table.checked(&live.client)).await??;
        }
        Ok(())
    }

    /// Waits for a response. After a timeout it connects a replacement; the first of the two wins.
    async fn answer<T>(
        &self,
        live: &Live,
        answer_timeout: Duration,
        answer: impl Future<Output = T>,
    ) -> Result<T> {
        tokio::select! {
            answer = answer => Ok(answer),
            lost = self.lost(live, answer_timeout) => Err(lost),
        }
    }

    /// Waits until a connection that has to answer is given up: it did not answer in time, or all sessions move to another
    /// server.
    pub(super) async fn lost(&self, live: &Live, answer_timeout: Duration) -> Error {
        tokio::select! {
            () = self.session.on_moved(live) => {
                self.abandon(live).await;
                Error::ConnectionLost("moving all sessions to another server".into())
            }
            () = self.replace_unresponsive(live, answer_timeout) => {
                Error::ConnectionLost(format!("no answer within {} s", answer_timeout.as_secs()))
            }
        }
    }

    /// Replaces a connection that does not answer. Returns when the replacement is connected, or after [`REPLACE_TIMEOUT`].
    async fn replace_unresponsive(&self, live: &Live, answer_timeout: Duration) {
        sleep(answer_timeout).await;
        tracing::warn!(
            ?answer_timeout,
            "Postgres does not answer on the publishing connection; opening another one"
        );
        self.set_fault(PublishFault::NoAnswer);
        let replaced = async {
            let mut last_error = None;
            while let Err(error) = self.session.replace(live).await {
                let text = error.to_string();
                if last_error.as_ref() != Some(&text) {
                    tracing::warn!(%error, "no publishing connection yet");
                }
                last_error = Some(text);
                sleep(BACKOFF.1).await;
            }
        };
        if timeout(REPLACE_TIMEOUT, replaced).await.is_err() {
            self.abandon(live).await;
        }
    }

    fn set_fault(&self, fault: PublishFault) {
        self.health.send_modify(|health| health.fault = Some(fault));
    }

    /// The server has answered.
    pub(super) fn clear_fault(&self) {
        *self.lost_since() = None;
        self.health.send_if_modified(|health| health.fault.take().is_some());
    }
}

/// The timeout of a batch: longer for a larger one.
pub(super) fn answer_timeout<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Duration {
    let bytes: usize = jobs.into_iter().map(Job::bytes).sum();
    ANSWER_TIMEOUT + Duration::from_secs((bytes / MIN_SPEED) as u64)
}

/// Whether an error concerns every message that goes through the attachment table, and no other.
fn is_about_table(error: &Error) -> bool {
    matches!(error, Error::MissingTable { .. } | Error::TablePrivilege { .. } | Error::TableShape { .. })
}

/// Resolves all receipts with an error.
fn fail_all(jobs: impl IntoIterator<Item = Job>, error: &Error) {
    jobs.into_iter().for_each(|job| job.finish(Err(error.clone())));
}

/// The same where committed messages are returned.
fn none_committed(jobs: Vec<Job>, error: &Error) -> Committed {
    fail_all(jobs, error);
    Committed::default()
}
