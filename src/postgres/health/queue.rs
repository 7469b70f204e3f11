//! The notification queue of the server, which all databases share, and the sessions that block its truncation.

use std::time::Duration;

use super::Examiner;
use crate::Result;

/// The state of the queue.
#[derive(Debug)]
pub(crate) struct Queue {
    /// From 0 to 1. At 1 every NOTIFY fails.
    pub(crate) usage: f64,
    /// Sessions in a long transaction, the longest first: a listening session reads no notifications while it is in one.
    pub(crate) holders: Vec<Holder>,
    /// The number of sessions of other users that this role may not see.
    pub(crate) hidden: u64,
}

/// A session in a transaction.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    pub(crate) application: String,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) is_idle: bool,
    pub(crate) since: Duration,
}

impl Examiner {
    /// Reads the state of the queue. Holders are sessions whose transaction is older than `than`.
    pub(crate) async fn queue(&self, than: Duration) -> Result<Queue> {
        let usage = "SELECT pg_catalog.pg_notification_queue_usage()";
        let usage = self.one(usage, &[], |row| row.try_get(0)).await?;
        let holders = "SELECT pid, application_name, coalesce(usename::text, ''), coalesce(datname::text, ''), \
            state LIKE 'idle in transaction%', \
            extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::float8 \
            FROM pg_catalog.pg_stat_activity \
            WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid() \
            AND pg_catalog.clock_timestamp() - xact_start > $1 * interval '1 second' ORDER BY xact_start";
        let than = than.as_secs_f64();
        let holders = self
            .all(holders, &[(&than, tokio_postgres::types::Type::FLOAT8)], |row| {
                Ok(Holder {
                    pid: row.try_get(0)?,
                    application: row.try_get(1)?,
                    user: row.try_get(2)?,
                    database: row.try_get(3)?,
                    is_idle: row.try_get(4)?,
                    since: Duration::try_from_secs_f64(row.try_get(5)?).unwrap_or_default(),
                })
            })
            .await?;
        let hidden = "SELECT count(*) FROM pg_catalog.pg_stat_activity \
            WHERE query = '<insufficient privilege>' AND state IS NULL";
        let hidden: i64 = self.one(hidden, &[], |row| row.try_get(0)).await?;
        Ok(Queue { usage, holders, hidden: hidden.unsigned_abs() })
    }
}
