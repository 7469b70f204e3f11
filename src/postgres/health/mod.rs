//! Facts about a Postgres server that matter for a cluster. The callers interpret them.

mod activity;
mod delivery;
mod documents;
mod listeners;
mod queue;
mod table;

use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use jiff::SignedDuration;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

pub(crate) use activity::{Activity, TableGauge};
pub(crate) use delivery::Delivery;
pub(crate) use listeners::Listening;
pub(crate) use queue::{Holder, Queue};
pub(crate) use table::{Elsewhere, ExpiredRows};

use super::{Session, Settings, TableName, failure};
use crate::Result;

/// The number of samples.
const SAMPLES: usize = 5;

/// Examines a server.
pub(crate) struct Examiner {
    settings: Settings,
    session: Session,
    table: TableName,
}

/// The version and role of a server.
#[derive(Debug)]
pub(crate) struct Server {
    /// The text of the server: `15.18 (Debian 15.18-0+deb12u1)`.
    pub(crate) version: String,
    /// 15 for all of 15.x; 9 for all versions before 10.
    pub(crate) major: i32,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) is_standby: bool,
    /// Whether transactions are read-only by default.
    pub(crate) is_read_only: bool,
}

impl Examiner {
    pub(crate) async fn connect(settings: Settings, table: TableName) -> Result<Self> {
        let session = Session::open(settings.clone()).await?;
        Ok(Self { settings, session, table })
    }

    pub(crate) async fn server(&self) -> Result<Server> {
        let sql = "SELECT pg_catalog.current_setting('server_version'), \
            pg_catalog.current_setting('server_version_num')::int, pg_catalog.quote_ident(current_user), \
            pg_catalog.current_database()::text, pg_catalog.pg_is_in_recovery(), \
            pg_catalog.current_setting('transaction_read_only') = 'on'";
        self.one(sql, &[], |row| {
            Ok(Server {
                version: row.try_get(0)?,
                major: row.try_get::<_, i32>(1)? / 10_000,
                user: row.try_get(2)?,
                database: row.try_get(3)?,
                is_standby: row.try_get(4)?,
                is_read_only: row.try_get(5)?,
            })
        })
        .await
    }

    /// The shortest of some round trips: the latency of network and server.
    pub(crate) async fn round_trip(&self) -> Result<Duration> {
        let mut best = Duration::MAX;
        for _ in 0..SAMPLES {
            let start = Instant::now();
            self.one("SELECT 1", &[], |row| row.try_get::<_, i32>(0)).await?;
            best = best.min(start.elapsed());
        }
        Ok(best)
    }

    /// How far the server's clock is ahead of ours, and the maximum error.
    pub(crate) async fn clock(&self) -> Result<(SignedDuration, Duration)> {
        let mut best = (SignedDuration::ZERO, Duration::MAX);
        for _ in 0..SAMPLES {
            let (ours, start) = (SystemTime::now(), Instant::now());
            let theirs = self.one("SELECT pg_catalog.clock_timestamp()", &[], |row| row.try_get(0)).await?;
            let half = start.elapsed() / 2;
            if half < best.1 {
                best = (ahead(theirs, ours + half), half);
            }
        }
        Ok(best)
    }

    /// Gives up a session that does not answer: the next query gets a new one.
    pub(crate) async fn abandon_session(&self) {
        // A session in use resolves at once.
        if let Some(Ok(client)) = self.session.client().now_or_never() {
            self.session.abandon(&client).await;
        }
    }

    /// Executes a query that returns one row.
    async fn one<T>(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
        read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        let mut rows = self.all(sql, parameters, read).await?;
        rows.pop().ok_or_else(|| no_row(sql))
    }

    /// Executes a query.
    async fn all<T>(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
        read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<Vec<T>> {
        let rows = self.session.client().await?.query_typed(sql, parameters).await;
        rows.and_then(|rows| rows.iter().map(read).collect()).map_err(|error| failure(&error))
    }
}

/// The error of a query that returned no row, although it always has one.
fn no_row(sql: &str) -> crate::Error {
    crate::Error::Database { message: format!("no row for {sql}"), sqlstate: None, source: None }
}

fn ahead(theirs: SystemTime, ours: SystemTime) -> SignedDuration {
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    match theirs.duration_since(ours) {
        Ok(ahead) => signed(ahead),
        Err(behind) => -signed(behind.duration()),
    }
}
