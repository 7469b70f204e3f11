//! Messages that wait for a locked attachment table.
//!
//! Owns them with the messages behind them on the same channels, in order. Invariant: a message of a held channel never
//! overtakes those before it, and what is held stays within [`HELD_BYTES`].

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::postgres::publisher::Job;
use crate::protocol::Channel;

/// How long a table may be locked before its messages fail.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is tried.
const RETRY: Duration = Duration::from_millis(500);

/// How many bytes may be held. It is half of the queue, so that other channels have the other half.
const HELD_BYTES: usize = super::QUEUE_BYTES / 2;

#[derive(Default)]
pub(super) struct Held {
    jobs: VecDeque<Job>,
    channels: HashSet<Channel>,
    bytes: usize,
    since: Option<Instant>,
    next_try: Option<Instant>,
}

/// What becomes of a message that comes while others are held.
pub(super) enum HoldOutcome {
    /// It does not concern them.
    Free(Job),
    /// It is held as well.
    Held,
    /// There is no room to hold it.
    Full(Job),
}

impl Held {
    pub(super) fn pass(&mut self, job: Job) -> HoldOutcome {
        if job.is_heartbeat || !self.channels.contains(&job.channel) {
            return HoldOutcome::Free(job);
        }
        if self.bytes + job.bytes() > HELD_BYTES {
            return HoldOutcome::Full(job);
        }
        self.bytes += job.bytes();
        self.jobs.push_back(job);
        HoldOutcome::Held
    }

    /// Holds the messages of a batch that the lock concerns; returns the others.
    pub(super) fn hold(&mut self, now: Instant, jobs: Vec<Job>) -> Vec<Job> {
        self.channels.extend(jobs.iter().filter(|job| job.is_attachment()).map(|job| job.channel.clone()));
        self.since.get_or_insert(now);
        self.next_try = Some(now + RETRY);
        let mut free = Vec::new();
        for job in jobs {
            match self.pass(job) {
                HoldOutcome::Free(job) => free.push(job),
                HoldOutcome::Held => {}
                // A batch is smaller than the room; a message that is not would wait for ever.
                HoldOutcome::Full(job) => {
                    self.bytes += job.bytes();
                    self.jobs.push_back(job);
                }
            }
        }
        free
    }

    /// When to try them again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.next_try
    }

    /// Whether they have waited too long.
    pub(super) fn is_hopeless(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) > PATIENCE)
    }

    /// Puts a trial off.
    pub(super) fn try_later(&mut self, now: Instant) {
        self.next_try = Some(now + RETRY);
    }

    /// The first message, to try whether the lock has gone.
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

    /// All that is held, when the lock has gone or is given up.
    pub(super) fn take_all(&mut self) -> VecDeque<Job> {
        std::mem::take(self).jobs
    }
}
