//! Sends batches, and decides whether a failed batch is retried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_postgres::error::SqlState;

use super::held::{Held, HoldOutcome};
use super::queue_relief::QueueRelief;
use super::{Job, OnLoss, PublishFault, Publishing};
use crate::postgres::CheckedTable;
use crate::postgres::attachments::table_failure;
use crate::postgres::batch::{self, Batch, LockPatience};
use crate::postgres::failure;
use crate::postgres::same_server::SessionPlace;
use crate::postgres::session::{Live, Session};
use crate::{Error, Result};

/// How long the server may take for a batch, before its size. It is what a peer gives a silent node, halved.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The least speed of a connection, in bytes a second.
const LEAST_SPEED: usize = 128 << 10;

/// How long an answer is waited for in all, while another connection is tried.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// How long a full queue of notifications is waited for.
const QUEUE_FULL_FOR: Duration = Duration::from_secs(5);

/// The first and the longest pause between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

pub(super) struct Sender {
    session: Arc<Session>,
    table: Arc<CheckedTable>,
    on_loss: OnLoss,
    health: watch::Sender<Publishing>,
    held: Held,
    queue_relief: QueueRelief,
}

/// Why a batch was not committed, as far as it is known.
enum Failed {
    /// The server refused it: nothing of it has happened.
    Refused(Error),
    /// The attachment table is locked: nothing of it has happened.
    Locked,
    /// The queue of notifications is full: nothing of it has happened.
    QueueFull(Error),
    /// It was never sent.
    NotSent(Error),
    /// The connection was lost while it was in progress.
    InDoubt(Error, Option<UnknownOutcome>),
}

/// A transaction whose outcome is not known, and the server that knows it.
struct UnknownOutcome {
    transaction: String,
    live: Live,
}

impl Sender {
    pub(super) fn new(
        session: Arc<Session>,
        table: Arc<CheckedTable>,
        on_loss: OnLoss,
        health: watch::Sender<Publishing>,
    ) -> Self {
        Self { session, table, on_loss, health, held: Held::default(), queue_relief: QueueRelief::default() }
    }

    /// Holds messages back that have to stay behind others; returns those that may go.
    pub(super) fn pass_all(&mut self, mut jobs: Vec<Job>) -> Vec<Job> {
        if !self.held.is_empty() {
            jobs = jobs.into_iter().filter_map(|job| self.pass(job)).collect();
        }
        jobs
    }

    fn pass(&mut self, job: Job) -> Option<Job> {
        match self.held.pass(job) {
            HoldOutcome::Free(job) => Some(job),
            HoldOutcome::Held => None,
            HoldOutcome::Full(job) => {
                job.finish(Err(self.locked_for_long()));
                None
            }
        }
    }

    fn locked_for_long(&self) -> Error {
        Error::TableLocked { table: self.table.unchecked().to_string(), pid: None }
    }

    /// Waits until held messages are to be tried; for ever, if there are none.
    pub(super) async fn held_is_due(&self) {
        match self.held.next_try() {
            Some(at) => sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn held_is_overdue(&self) -> bool {
        self.held.next_try().is_some_and(|at| at <= Instant::now())
    }

    /// Tries the first of the held messages, and with success sends the others after it.
    pub(super) async fn try_held(&mut self) {
        let now = Instant::now();
        if self.held.is_hopeless(now) {
            let error = self.locked_for_long();
            return self.held.take_all().into_iter().for_each(|job| job.finish(Err(error.clone())));
        }
        let Some(first) = self.held.pop() else { return drop(self.held.take_all()) };
        match self.attempt(std::slice::from_ref(&first), LockPatience::Short).await {
            Err(Failed::Locked) => {
                self.held.put_back(first);
                self.held.try_later(now);
            }
            outcome => {
                let mut rest = self.held.take_all();
                let sent = self.settle(vec![first], outcome).await;
                finish_all(sent, &Ok(()));
                let mut batch = Batch::default();
                while let Some(job) = rest.pop_front() {
                    // The table may be locked again meanwhile.
                    let Some(job) = self.pass(job) else { continue };
                    if let Some(job) = batch.add(job) {
                        rest.push_front(job);
                        self.send_and_tell(batch.take()).await;
                    }
                }
                self.send_and_tell(batch.take()).await;
            }
        }
    }

    /// Sends the messages of a batch, and tells the callers of those that fail or are held. Returns those that are committed,
    /// whose callers have to be told.
    #[must_use = "their callers wait"]
    pub(super) async fn send(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        if jobs.is_empty() {
            return jobs;
        }
        let outcome = self.attempt(&jobs, LockPatience::Long).await;
        self.settle(jobs, outcome).await
    }

    /// Sends the messages of a batch, and tells all callers.
    pub(super) async fn send_and_tell(&mut self, jobs: Vec<Job>) {
        let committed = self.send(jobs).await;
        finish_all(committed, &Ok(()));
    }

    async fn settle(&mut self, mut jobs: Vec<Job>, mut outcome: Result<(), Failed>) -> Vec<Job> {
        let start = Instant::now();
        let (mut pause, longest) = BACKOFF;
        let mut reached_the_server_at_once = true;
        loop {
            let failed = match outcome {
                Ok(()) => {
                    self.no_trouble();
                    return jobs;
                }
                Err(failed) => failed,
            };
            match failed {
                Failed::Refused(error) => {
                    self.no_trouble();
                    match jobs.len() {
                        1 => finish_all(jobs, &Err(error)),
                        _ => self.send_each(jobs).await,
                    }
                    return Vec::new();
                }
                Failed::Locked => {
                    self.no_trouble();
                    jobs = self.held.hold(Instant::now(), jobs);
                    if jobs.is_empty() {
                        return jobs;
                    }
                }
                Failed::QueueFull(error) => {
                    self.fault(PublishFault::QueueFull);
                    if start.elapsed() >= QUEUE_FULL_FOR {
                        return fail_all(jobs, &error);
                    }
                    self.queue_relief.start(&self.session);
                    sleep(pause).await;
                    pause = longest.min(pause * 2);
                }
                Failed::NotSent(error) | Failed::InDoubt(error, None) if self.on_loss == OnLoss::Fail => {
                    self.fault(PublishFault::Disconnected(error.clone()));
                    return fail_all(jobs, &error);
                }
                Failed::NotSent(error) => {
                    reached_the_server_at_once = false;
                    self.fault(PublishFault::Disconnected(error.clone()));
                    if self.is_hopeless(start, &error) {
                        return fail_all(jobs, &error);
                    }
                    sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause = longest.min(pause * 2);
                }
                Failed::InDoubt(error, doubt) => {
                    self.fault(PublishFault::Disconnected(error.clone()));
                    if self.is_hopeless(start, &error) {
                        return fail_all(jobs, &error);
                    }
                    let identity = jobs.iter().find_map(Job::identity).map(<[u8]>::to_vec);
                    let arrived = match &identity {
                        Some(identity) => self.find_row(doubt, identity, start).await,
                        None => self.find_out(doubt, reached_the_server_at_once).await,
                    };
                    match arrived {
                        Some(true) => {
                            self.no_trouble();
                            return jobs;
                        }
                        Some(false) => {}
                        // A durable event is for once: better told as failed than sent twice.
                        None if identity.is_some() => return fail_all(jobs, &error),
                        None => {
                            let count = jobs.len() as u64;
                            self.health.send_modify(|health| health.possible_duplicates += count);
                        }
                    }
                }
            }
            outcome = self.attempt(&jobs, LockPatience::Long).await;
        }
    }

    /// Whether to stop sending again.
    fn is_hopeless(&self, since: Instant, error: &Error) -> bool {
        match self.on_loss {
            OnLoss::Fail => true,
            OnLoss::Retry(patience) => since.elapsed() >= patience || !error.is_disconnected(),
        }
    }

    /// Asks the server whether a transaction was committed. `None` where it cannot tell: it is another one, or has been
    /// restarted, and its numbers may have been used again.
    async fn find_out(&self, doubt: Option<UnknownOutcome>, at_once: bool) -> Option<bool> {
        let UnknownOutcome { transaction, live: old } = doubt.filter(|_| at_once)?;
        let live = self.session.replace(&old).await.ok()?;
        if old.place.as_ref()?.server != live.place.as_ref()?.server {
            return None;
        }
        let until = Instant::now() + ANSWER_WITHIN;
        while Instant::now() < until {
            match batch::transaction_status(&live.client, &transaction).await.ok()?.as_deref() {
                Some("committed") => return Some(true),
                Some("aborted") => return Some(false),
                Some(_) => sleep(BACKOFF.0).await,
                None => return None,
            }
        }
        None
    }

    /// Asks the server whether a transaction with a durable event was committed, for as long as events are sent again. The
    /// session that was lost is ended first, as it may commit later. Also a server that was restarted, or has taken the
    /// place of another one, knows the row.
    async fn find_row(&self, doubt: Option<UnknownOutcome>, identity: &[u8], start: Instant) -> Option<bool> {
        let UnknownOutcome { transaction, live: old } = doubt?;
        loop {
            let error = match self.find_row_now(&transaction, &old, identity).await {
                Ok(found) => return found,
                Err(error) => error,
            };
            if self.is_hopeless(start, &error) {
                return None;
            }
            sleep(BACKOFF.1).await;
        }
    }

    async fn find_row_now(&self, transaction: &str, old: &Live, identity: &[u8]) -> Result<Option<bool>> {
        let live = self.session.replace(old).await?;
        let is_same = |old: &SessionPlace| live.place.as_ref().is_some_and(|new| new.server == old.server);
        let fail = |error: tokio_postgres::Error| failure(&error);
        if old.place.as_ref().is_some_and(is_same) {
            let until = Instant::now() + ANSWER_WITHIN;
            loop {
                let status = batch::transaction_status(&live.client, transaction);
                match self.answer(&live, ANSWER_WITHIN, status).await?.map_err(fail)?.as_deref() {
                    Some("committed") => return Ok(Some(true)),
                    Some("aborted") => return Ok(Some(false)),
                    Some(_) if Instant::now() < until => sleep(BACKOFF.0).await,
                    Some(_) => return Ok(None),
                    None => break,
                }
            }
        }
        let found = batch::has_row(&live.client, self.table.unchecked(), identity);
        Ok(Some(self.answer(&live, ANSWER_WITHIN, found).await?.map_err(fail)?))
    }

    /// Sends each message in a transaction of its own, all on their way before the first is answered: a bad message fails
    /// alone.
    async fn send_each(&mut self, jobs: Vec<Job>) {
        let live = match self.session.live().await {
            Ok(live) => live,
            Err(error) => return finish_all(jobs, &Err(error)),
        };
        let jobs = match self.check_table(&live, &jobs).await {
            Ok(()) => jobs,
            Err(error) => {
                let (attachments, others) = jobs.into_iter().partition::<Vec<_>, _>(Job::is_attachment);
                finish_all(attachments, &Err(error));
                others
            }
        };
        let sent = batch::send_each(&live.client, &jobs, self.table.unchecked());
        match self.answer(&live, patience(&jobs), sent).await {
            Ok(outcomes) => {
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    job.finish(outcome.map_err(|error| table_failure(&error, self.table.unchecked())));
                }
            }
            Err(error) => finish_all(jobs, &Err(error)),
        }
    }

    async fn attempt(&self, jobs: &[Job], lock: LockPatience) -> Result<(), Failed> {
        let mut live = self.session.live().await.map_err(Failed::NotSent)?;
        if self.on_loss != OnLoss::Fail && jobs.iter().any(|job| job.encoded.is_durable()) {
            live = self.session.placed(live).await.map_err(Failed::NotSent)?;
        }
        match self.check_table(&live, jobs).await {
            Ok(()) => {}
            Err(error) if error.is_disconnected() => return Err(Failed::NotSent(error)),
            Err(error) => return Err(Failed::Refused(error)),
        }
        let transaction = match self.on_loss {
            OnLoss::Fail => None,
            OnLoss::Retry(_) => {
                let begun = self.answer(&live, ANSWER_WITHIN, batch::begin(&live.client)).await;
                Some(begun.map_err(Failed::NotSent)?.map_err(|error| Failed::NotSent(failure(&error)))?)
            }
        };
        let sent = batch::send(&live.client, jobs, self.table.unchecked(), transaction.is_some(), lock);
        let in_doubt = |error: Error| {
            let doubt =
                transaction.clone().map(|transaction| UnknownOutcome { transaction, live: live.clone() });
            Failed::InDoubt(error, doubt)
        };
        match self.answer(&live, patience(jobs), sent).await {
            Ok(Ok(())) => Ok(()),
            Err(error) => Err(in_doubt(error)),
            Ok(Err(error)) => {
                let code = error.code().cloned();
                let error = table_failure(&error, self.table.unchecked());
                Err(match code {
                    Some(code) if code == SqlState::LOCK_NOT_AVAILABLE => Failed::Locked,
                    Some(code) if code == SqlState::PROGRAM_LIMIT_EXCEEDED => Failed::QueueFull(error),
                    _ if error.is_disconnected() => in_doubt(error),
                    _ => Failed::Refused(error),
                })
            }
        }
    }

    /// Fails where a message is to go through a table that holds something else than attachments.
    async fn check_table(&self, live: &Live, jobs: &[Job]) -> Result<()> {
        if jobs.iter().any(Job::is_attachment) {
            self.answer(live, ANSWER_WITHIN, self.table.checked(&live.client)).await??;
        }
        Ok(())
    }

    /// Waits for an answer. Without one in time, another connection is made; the first of the two counts.
    async fn answer<T>(&self, live: &Live, patience: Duration, answer: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            answer = answer => Ok(answer),
            () = self.session.moved_from(live) => {
                self.session.abandon(&live.client).await;
                Err(Error::ConnectionLost("moving all sessions to another server".into()))
            }
            () = self.replace_silent(live, patience) => {
                Err(Error::ConnectionLost(format!("no answer within {} s", patience.as_secs())))
            }
        }
    }

    /// Takes a connection that does not answer out of use once there is another one, or all hope is gone.
    async fn replace_silent(&self, live: &Live, patience: Duration) {
        sleep(patience).await;
        tracing::warn!(
            ?patience,
            "Postgres does not answer on the publishing connection; opening another one"
        );
        self.fault(PublishFault::NoAnswer);
        let replaced = async {
            let mut said = None;
            while let Err(error) = self.session.replace(live).await {
                let text = error.to_string();
                if said.as_ref() != Some(&text) {
                    tracing::warn!(%error, "no publishing connection yet");
                }
                said = Some(text);
                sleep(BACKOFF.1).await;
            }
        };
        if timeout(GIVE_UP_AFTER, replaced).await.is_err() {
            self.session.abandon(&live.client).await;
        }
    }

    fn fault(&self, fault: PublishFault) {
        self.health.send_modify(|health| health.fault = Some(fault));
    }

    fn no_trouble(&self) {
        self.health.send_if_modified(|health| health.fault.take().is_some());
    }
}

/// How long the server may take before it counts as gone: more for what has to travel longer.
fn patience(jobs: &[Job]) -> Duration {
    let bytes: usize = jobs.iter().map(Job::bytes).sum();
    ANSWER_WITHIN + Duration::from_secs((bytes / LEAST_SPEED) as u64)
}

/// Tells all callers the same.
pub(super) fn finish_all(jobs: Vec<Job>, outcome: &Result<()>) {
    jobs.into_iter().for_each(|job| job.finish(outcome.clone()));
}

/// Tells all callers that it failed; none is left that is committed.
fn fail_all(jobs: Vec<Job>, error: &Error) -> Vec<Job> {
    finish_all(jobs, &Err(error.clone()));
    Vec::new()
}
