//! Samples the statistics of Postgres: the notification queue, commits, WAL, and the attachment table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::{Shared, lock};
use crate::cli::exit::Failure;
use crate::postgres::Settings;
use crate::postgres::health::{Activity, Examiner, TableGauge};
use crate::{AdapterOptions, Result};

/// The polling interval of the counters. Each poll is a commit itself.
const EVERY: Duration = Duration::from_secs(2);

/// The delay of the second poll.
const FIRST: Duration = Duration::from_millis(900);

/// The number of polls between two polls of the attachment table.
const TABLE_EVERY: u32 = 5;

/// The timeout of a poll.
const PATIENCE: Duration = Duration::from_secs(5);

/// Statistics of Postgres. A value that is not available, or not to this role, is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::cli) struct Database {
    /// The used share of the notification queue, from 0 to 1.
    pub(in crate::cli) queue_usage: Option<f64>,
    /// Commits per second in this database, including those of the observer.
    pub(in crate::cli) commits_per_second: Option<f64>,
    /// Bytes of WAL per second of the whole server.
    pub(in crate::cli) wal_per_second: Option<f64>,
    pub(in crate::cli) activity: Option<Activity>,
    pub(in crate::cli) table: Option<TableGauge>,
}

/// Polls the statistics of a server.
pub(super) struct Sampler {
    examiner: Examiner,
    last: Option<(Instant, Activity)>,
}

impl Sampler {
    pub(super) async fn connect(settings: Settings, options: &AdapterOptions) -> Result<Self> {
        let examiner = Examiner::connect(settings, options.table_name.clone()).await?;
        Ok(Self { examiner, last: None })
    }

    pub(super) async fn run(mut self, shared: Arc<Shared>) -> Result<(), Failure> {
        let mut looks = 0_u32;
        loop {
            match looks {
                0 => {}
                // A rate needs two polls.
                1 => sleep(FIRST).await,
                _ => sleep(EVERY).await,
            }
            let activity = self.ask(self.examiner.activity()).await;
            let rates = self.rates(activity);
            if looks.is_multiple_of(TABLE_EVERY) {
                let table = self.ask(self.examiner.table_gauge()).await.flatten();
                lock(&shared.database).table = table;
            }
            let mut database = lock(&shared.database);
            database.activity = activity;
            database.queue_usage = activity.map(|activity| activity.queue_usage);
            (database.commits_per_second, database.wal_per_second) = rates;
            looks = looks.wrapping_add(1);
        }
    }

    /// The answer, or `None` if it takes too long or this role lacks the privilege.
    async fn ask<T>(&self, question: impl Future<Output = Result<T>>) -> Option<T> {
        match timeout(PATIENCE, question).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no statistics from Postgres");
                None
            }
            Err(_) => {
                self.examiner.abandon_session().await;
                None
            }
        }
    }

    /// The commits and the bytes of WAL per second, since the previous poll.
    fn rates(&mut self, activity: Option<Activity>) -> (Option<f64>, Option<f64>) {
        let now = activity.map(|activity| (Instant::now(), activity));
        let before = std::mem::replace(&mut self.last, now);
        let (Some((then, before)), Some((now, after))) = (before, now) else { return (None, None) };
        let seconds = now.duration_since(then).as_secs_f64();
        let rate = |before: Option<u64>, after: Option<u64>| {
            // The counters restart after a reset and on another server. There is no rate then.
            let passed = after?.checked_sub(before?)?;
            (seconds > 0.0).then(|| passed as f64 / seconds)
        };
        (rate(before.commits, after.commits), rate(before.wal_bytes, after.wal_bytes))
    }
}
