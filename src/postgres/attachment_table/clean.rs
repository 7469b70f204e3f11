//! Deleting old rows, a few at a time.

use std::time::{Duration, SystemTime};

use futures_util::future;
use tokio_postgres::types::{ToSql, Type};

use super::{AttachmentTable, LOCK_SPACE, locked};
use crate::Result;
use crate::postgres::attachments::table_failure;

/// Expired rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expired {
    /// Rows from before this moment of the server's clock.
    before: SystemTime,
    pub(crate) rows: u64,
    /// The size of their documents.
    pub(crate) bytes: u64,
}

/// A deletion of expired rows in batches, the oldest first.
pub(crate) struct Cleanup<'a> {
    table: &'a AttachmentTable,
    lock: i64,
    before: SystemTime,
    /// The batch size in rows.
    size: i64,
    /// All rows up to here are deleted. Without it, each batch would scan all dead index entries again, until VACUUM.
    done: Option<SystemTime>,
}

/// A deleted batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deleted {
    pub(crate) rows: u64,
    /// The size of their documents.
    pub(crate) bytes: u64,
}

impl AttachmentTable {
    /// Counts the rows that are now older than `age`.
    pub(crate) async fn expired(&self, age: Duration) -> Result<Expired> {
        let sql = format!(
            "SELECT before, count(id), coalesce(sum(octet_length(payload)), 0)::int8 \
             FROM (SELECT now() - $1 * interval '1 second' AS before) AS age \
             LEFT JOIN {} ON created_at < before GROUP BY before",
            self.name.as_sql()
        );
        let age = age.as_secs_f64();
        let counted = self
            .rows(&sql, &[(&age, Type::FLOAT8)], |row| {
                let (rows, bytes): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
                Ok(Expired {
                    before: row.try_get(0)?,
                    rows: rows.unsigned_abs(),
                    bytes: bytes.unsigned_abs(),
                })
            })
            .await?;
        // There is always one group.
        let nothing = Expired { before: SystemTime::UNIX_EPOCH, rows: 0, bytes: 0 };
        Ok(counted.into_iter().next().unwrap_or(nothing))
    }

    /// Starts the deletion of these rows, in batches of this size.
    pub(crate) async fn cleanup(&self, expired: Expired, batch_size: u32) -> Result<Cleanup<'_>> {
        let lock = LOCK_SPACE | i64::from(self.existing_shape().await?.definition.oid);
        let (before, size) = (expired.before, i64::from(batch_size));
        Ok(Cleanup { table: self, lock, before, size, done: None })
    }
}

impl Cleanup<'_> {
    /// Deletes the next batch in its own transaction; `None` if no row is left. Concurrent cleanups skip each other's
    /// locked rows.
    pub(crate) async fn next(&mut self) -> Result<Option<Deleted>> {
        loop {
            let (deleted, newest) = self.delete().await?;
            if deleted.rows > 0 {
                self.done = newest;
                return Ok(Some(deleted));
            }
            // Once more from the start, for rows that another session had locked and did not delete.
            if self.done.take().is_none() {
                return Ok(None);
            }
        }
    }

    async fn delete(&self) -> Result<(Deleted, Option<SystemTime>)> {
        let table = self.table.name.as_sql();
        let since = if self.done.is_some() { "AND created_at >= $3" } else { "" };
        let delete = format!(
            "WITH gone AS (DELETE FROM {table} WHERE ctid = ANY (ARRAY(\
             SELECT ctid FROM {table} WHERE created_at < $1 {since} ORDER BY created_at LIMIT $2 \
             FOR UPDATE SKIP LOCKED)) RETURNING created_at, octet_length(payload) AS bytes) \
             SELECT count(*), coalesce(sum(bytes), 0)::int8, max(created_at) FROM gone"
        );
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&self.before, Type::TIMESTAMPTZ), (&self.size, Type::INT8)];
        if let Some(done) = &self.done {
            parameters.push((done, Type::TIMESTAMPTZ));
        }
        // The next cleanup deletes rows that a crash restores.
        let lock = format!(
            "SELECT pg_catalog.pg_advisory_xact_lock($1), \
             pg_catalog.set_config('synchronous_commit', 'off', true), {}",
            locked::LIMIT
        );
        let lock: (&str, &[(&(dyn ToSql + Sync), Type)]) = (&lock, &[(&self.lock, Type::INT8)]);
        let client = self.table.session.client().await?;
        // Pipelined. After a failure the server treats COMMIT as ROLLBACK.
        let (begun, locked, deleted, committed) = future::join4(
            client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED"),
            client.query_typed(lock.0, lock.1),
            client.query_typed(&delete, &parameters),
            client.batch_execute("COMMIT"),
        )
        .await;
        let fail = |error| table_failure(&error, &self.table.name);
        let rows = match begun.and(locked).and(deleted) {
            Ok(rows) => rows,
            Err(error) => return Err(self.table.explain(&error).await),
        };
        committed.map_err(fail)?;
        let Some(row) = rows.first() else { return Ok((Deleted::default(), None)) };
        let (rows, bytes): (i64, i64) = (row.try_get(0).map_err(fail)?, row.try_get(1).map_err(fail)?);
        let deleted = Deleted { rows: rows.unsigned_abs(), bytes: bytes.unsigned_abs() };
        Ok((deleted, row.try_get(2).map_err(fail)?))
    }
}
