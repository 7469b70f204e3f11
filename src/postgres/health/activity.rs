//! The activity of a server and the size of the attachment table, cheap enough for regular polling.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::Examiner;
use crate::postgres::failure;
use crate::{Error, Result};

/// The maximum number of rows that are counted exactly.
const COUNTED_ROWS: u64 = 100_000;

/// The timeout of counting the rows.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Counters of the server. A counter is `None` if this role may not see it, or if a standby does not have it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Activity {
    /// How full the notification queue is, from 0 to 1.
    pub(crate) queue_usage: f64,
    /// Commits in this database since its statistics were reset.
    pub(crate) commits: Option<u64>,
    /// The position in the WAL of the whole server, in bytes.
    pub(crate) wal_bytes: Option<u64>,
}

/// The size of the attachment table.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TableGauge {
    /// The number of rows; the server's estimate if there are more than 100,000.
    pub(crate) rows: u64,
    /// The size of their documents, in bytes; of the first 100,000 if there are more.
    pub(crate) bytes: u64,
    /// Whether there are more rows than were counted.
    pub(crate) is_estimate: bool,
    /// The age of the oldest row.
    pub(crate) oldest: Option<Duration>,
    /// The size on disk with indexes, in bytes.
    pub(crate) disk_bytes: u64,
    /// The server's estimate of the dead rows.
    pub(crate) dead_rows: u64,
}

impl Examiner {
    /// Reads the counters.
    pub(crate) async fn activity(&self) -> Result<Activity> {
        let position = "CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE \
            pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::int8 END";
        match self.activity_with(position).await {
            Err(Error::Database { sqlstate: Some(code), .. })
                if code == SqlState::INSUFFICIENT_PRIVILEGE.code() =>
            {
                self.activity_with("NULL::int8").await
            }
            outcome => outcome,
        }
    }

    async fn activity_with(&self, position: &str) -> Result<Activity> {
        let sql = format!(
            "SELECT pg_catalog.pg_notification_queue_usage(), (SELECT xact_commit \
             FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()), {position}"
        );
        self.one(&sql, &[], |row| {
            let (commits, wal_bytes): (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
            Ok(Activity {
                queue_usage: row.try_get(0)?,
                commits: commits.map(i64::unsigned_abs),
                wal_bytes: wal_bytes.map(i64::unsigned_abs),
            })
        })
        .await
    }

    /// Measures the attachment table; `None` if it does not exist.
    pub(crate) async fn table_gauge(&self) -> Result<Option<TableGauge>> {
        let table = self.table.as_sql();
        let of_table = "SELECT pg_catalog.pg_total_relation_size(oid), \
            coalesce(pg_catalog.pg_stat_get_dead_tuples(oid), 0), \
            greatest(pg_catalog.pg_stat_get_live_tuples(oid), reltuples::int8) \
            FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)";
        let sizes = self
            .all(of_table, &[(&table, Type::TEXT)], |row| {
                let (disk, dead, live): (Option<i64>, i64, Option<i64>) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                Ok((disk.unwrap_or_default(), dead, live.unwrap_or_default()))
            })
            .await?;
        let Some((disk, dead, live)) = sizes.into_iter().next() else { return Ok(None) };
        let (limit, timeout_ms) = (COUNTED_ROWS + 1, STATEMENT_TIMEOUT.as_millis());
        // Statements of a simple query share a transaction, and the setting ends with it.
        let sql = format!(
            "SELECT pg_catalog.set_config('statement_timeout', '{timeout_ms}', true); \
             SELECT count(*), coalesce(sum(octet_length(payload)), 0), \
             extract(epoch FROM now() - min(created_at) FILTER (WHERE isfinite(created_at)))::float8 \
             FROM (SELECT payload, created_at FROM {table} LIMIT {limit}) AS counted"
        );
        let answers = self.session.client().await?.simple_query(&sql).await;
        let answers = answers.map_err(|error| failure(&error))?;
        let row = answers.iter().rev().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |index| row.and_then(|row| row.get(index));
        let number = |index| column(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let age = column(2).and_then(|text| text.parse::<f64>().ok());
        let is_estimate = number(0) > COUNTED_ROWS;
        Ok(Some(TableGauge {
            rows: if is_estimate { live.unsigned_abs().max(number(0)) } else { number(0) },
            bytes: number(1),
            is_estimate,
            oldest: age.map(|age| Duration::try_from_secs_f64(age.max(0.0)).unwrap_or_default()),
            disk_bytes: disk.unsigned_abs(),
            dead_rows: dead.unsigned_abs(),
        }))
    }
}
