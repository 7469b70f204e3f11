//! The servers that delete old rows regularly, inferred from the last statement of each session in pg_stat_activity.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::AttachmentTable;
use super::rows::{seconds, timestamp};
use crate::Result;
use crate::postgres::TableName;

/// The pause after a poll, as a multiple of the poll's duration. Polls are frequent, since the heartbeat of a Node server
/// follows its cleanup on the same session within a few milliseconds.
const PAUSE_FACTOR: u32 = 9;

/// A session whose last statement was that of a server which deletes old rows.
#[derive(Debug)]
pub(crate) struct Cleaner {
    /// The backend pid of the session.
    pub(crate) pid: i32,
    /// The `application_name` of the session; may be empty.
    pub(crate) application: String,
    /// The address of its client; `None` for a Unix-domain socket.
    pub(crate) address: Option<String>,
    /// The interval of its cleanup, which is also the age of the deleted rows.
    pub(crate) interval: Duration,
    /// The time of its last cleanup.
    pub(crate) last: Option<Timestamp>,
    /// The age of that cleanup at the time of `seen`.
    ago: Duration,
    seen: Instant,
}

impl Cleaner {
    /// The time until its next cleanup; `None` if that is overdue, so that it has stopped or uses another session now.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        self.interval.checked_sub(self.ago + self.seen.elapsed())
    }
}

impl AttachmentTable {
    /// The sessions whose last statement, at some moment during this time, was a server's regular cleanup; the session
    /// whose cleanup is due next comes first. A session is missing if this role may not see its statements, or if it has
    /// executed another statement since.
    pub(crate) async fn cleaners(&self, wait: Duration) -> Result<Vec<Cleaner>> {
        let start = Instant::now();
        let mut is_ours = HashMap::from([(self.name.to_string(), true)]);
        let mut seen = HashMap::new();
        loop {
            let poll_started = Instant::now();
            for (table, cleaner) in self.cleaning_sessions().await? {
                let is_ours = match is_ours.get(&table) {
                    Some(known) => *known,
                    None => *is_ours.entry(table.clone()).or_insert(self.is_same_table(&table).await?),
                };
                if is_ours {
                    seen.insert(cleaner.pid, cleaner);
                }
            }
            match wait.checked_sub(start.elapsed()) {
                Some(left) if !left.is_zero() => sleep(left.min(poll_started.elapsed() * PAUSE_FACTOR)).await,
                _ => break,
            }
        }
        let mut cleaners: Vec<_> = seen.into_values().filter(|cleaner| cleaner.due_in().is_some()).collect();
        cleaners.sort_by_key(Cleaner::due_in);
        Ok(cleaners)
    }

    /// The sessions whose last statement has the form of a regular cleanup, with the table of each.
    async fn cleaning_sessions(&self) -> Result<Vec<(String, Cleaner)>> {
        let sql = "SELECT pid, coalesce(application_name, ''), pg_catalog.host(client_addr), query, query_start, \
            extract(epoch FROM pg_catalog.clock_timestamp() - query_start)::float8 \
            FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() \
            AND query LIKE 'DELETE FROM %' AND query_start IS NOT NULL";
        let sessions = self.rows(sql, &[], |row| {
            let (query, last): (&str, std::time::SystemTime) = (row.try_get(3)?, row.try_get(4)?);
            let Some((table, interval)) = regular_cleanup(query) else { return Ok(None) };
            let cleaner = Cleaner {
                pid: row.try_get(0)?,
                application: row.try_get(1)?,
                address: row.try_get(2)?,
                interval,
                last: timestamp(last),
                ago: seconds(row.try_get(5)?),
                seen: Instant::now(),
            };
            Ok(Some((table.to_owned(), cleaner)))
        });
        Ok(sessions.await?.into_iter().flatten().collect())
    }

    /// Whether this is another name of our table.
    async fn is_same_table(&self, name: &str) -> Result<bool> {
        let Ok(name) = name.parse::<TableName>() else { return Ok(false) };
        let same = "SELECT coalesce(pg_catalog.to_regclass($1) = pg_catalog.to_regclass($2), false)";
        let same: Vec<bool> = self
            .rows(same, &[(&name.as_sql(), Type::TEXT), (&self.name.as_sql(), Type::TEXT)], |row| {
                row.try_get(0)
            })
            .await?;
        Ok(same == [true])
    }
}

/// The table and the interval of a cleanup statement, which has the same text in all Node adapters. That of pgio continues.
fn regular_cleanup(statement: &str) -> Option<(&str, Duration)> {
    let (table, interval) =
        statement.strip_prefix("DELETE FROM ")?.split_once(" WHERE created_at < now() - interval '")?;
    let (millis, rest) = interval.split_once(" milliseconds'")?;
    let millis: f64 =
        millis.parse().ok().filter(|_| rest.is_empty() || rest.starts_with(" AND id = ANY "))?;
    Some((table, Duration::try_from_secs_f64(millis / 1000.0).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_servers_that_clean_up() {
        let statement = "DELETE FROM a.\"b c\" WHERE created_at < now() - interval '1500 milliseconds'";
        assert_eq!(regular_cleanup(statement), Some(("a.\"b c\"", Duration::from_millis(1500))));
        let of_pgio = "DELETE FROM t WHERE created_at < now() - interval '30000 milliseconds' AND id = ANY (ARRAY(SELECT …";
        assert_eq!(regular_cleanup(of_pgio), Some(("t", Duration::from_secs(30))));
        for other in [
            "",
            "DELETE FROM t",
            "DELETE FROM t WHERE created_at < now() - interval '1500 milliseconds' AND id < 7",
            "DELETE FROM t WHERE created_at < now() - interval '1 hour'",
            "DELETE FROM t WHERE created_at < now() - interval '-1 milliseconds'",
            "DELETE FROM t WHERE created_at < now() - interval 'NaN milliseconds'",
        ] {
            assert_eq!(regular_cleanup(other), None, "{other}");
        }
    }
}
