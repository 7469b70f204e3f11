//! Messages that wait for a locked attachment table.
//!
//! Owns these messages and the messages behind them on the same channels, in order. Invariant: a message of a held channel
//! never overtakes those before it, and the held messages stay within [`MAX_HELD_BYTES`].

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::postgres::publisher::Job;
use crate::protocol::Channel;

/// How long a table may be locked before its messages fail.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The interval between two retries.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The bound of the held messages, in bytes.
const MAX_HELD_BYTES: usize = super::QUEUE_BYTES / 2;

#[derive(Default)]
pub(super) struct Held {
    jobs: VecDeque<Job>,
    channels: HashSet<Channel>,
    bytes: usize,
    since: Option<Instant>,
    next_try: Option<Instant>,
}

/// The result of a new message while others are held.
pub(super) enum HoldOutcome {
    /// It may be sent: its channel is not held.
    Free(Job),
    /// It is held as well.
    Held,
    /// The bound is reached.
    Full(Job),
}

impl Held {
    pub(super) fn check_held(&mut self, job: Job) -> HoldOutcome {
        if job.is_heartbeat || !self.channels.contains(&job.channel) {
            return HoldOutcome::Free(job);
        }
        if self.bytes + job.bytes() > MAX_HELD_BYTES {
            return HoldOutcome::Full(job);
        }
        self.push(job);
        HoldOutcome::Held
    }

    /// Holds a message. It gives its share of the queue back, since the held messages have a bound of their own.
    fn push(&mut self, mut job: Job) {
        job.release_capacity();
        self.bytes += job.bytes();
        self.jobs.push_back(job);
    }

    /// Holds the attachments of a batch and the messages behind them. Returns the others.
    pub(super) fn hold(&mut self, now: Instant, jobs: Vec<Job>) -> Vec<Job> {
        self.channels.extend(jobs.iter().filter(|job| job.is_attachment()).map(|job| job.channel.clone()));
        self.since.get_or_insert(now);
        self.next_try = Some(now + RETRY_INTERVAL);
        let mut free = Vec::new();
        for job in jobs {
            match self.check_held(job) {
                HoldOutcome::Free(job) => free.push(job),
                HoldOutcome::Held => {}
                // A batch is smaller than the bound. A larger message is held all the same, or it could never be sent.
                HoldOutcome::Full(job) => self.push(job),
            }
        }
        free
    }

    /// The time of the next retry.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.next_try
    }

    /// Whether the table has been locked for too long.
    pub(super) fn gives_up(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) > LOCK_TIMEOUT)
    }

    /// Schedules the next retry.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.next_try = Some(now + RETRY_INTERVAL);
    }

    /// Takes the first message, to check whether the table is still locked.
    pub(super) fn pop(&mut self) -> Option<Job> {
        let job = self.jobs.pop_front()?;
        self.bytes = self.bytes.saturating_sub(job.bytes());
        Some(job)
    }

    /// Puts it back.
    pub(super) fn put_back(&mut self, job: Job) {
        self.bytes += job.bytes();
        self.jobs.push_front(job);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Takes all held messages, after the lock is released or after the timeout.
    pub(super) fn take_all(&mut self) -> VecDeque<Job> {
        std::mem::take(self).jobs
    }
}
