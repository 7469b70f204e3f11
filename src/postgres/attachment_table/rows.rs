//! Rows of the attachment table, for inspection.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::{AttachmentTable, locked};
use crate::Result;
use crate::protocol::AttachmentId;

/// The bytes of a document that are read for its summary. Node writes namespace and sender after the data.
const START_BYTES: i32 = 65_536;

/// When a row was created, and how long ago.
const CREATED: &str = "created_at, CASE WHEN isfinite(created_at) \
     THEN extract(epoch FROM pg_catalog.clock_timestamp() - created_at)::float8 END";

/// A row with the start of its document.
#[derive(Debug)]
pub(crate) struct Brief {
    pub(crate) id: AttachmentId,
    pub(crate) created: Created,
    /// The size of its document.
    pub(crate) bytes: u64,
    /// The start of the document.
    pub(crate) start: Bytes,
}

/// When a row was created.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Created {
    /// `None` if the column is null or infinite.
    pub(crate) at: Option<Timestamp>,
    /// By the server's clock.
    pub(crate) age: Option<Duration>,
}

/// A row with its document.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) created: Created,
    pub(crate) document: Bytes,
}

impl AttachmentTable {
    /// The newest rows, optionally only those before an id (keyset pagination).
    pub(crate) async fn newest(&self, before: Option<AttachmentId>, limit: u32) -> Result<Vec<Brief>> {
        let sql = format!(
            "SELECT {CREATED}, id, \
             coalesce(octet_length(payload), 0)::int8, coalesce(substring(payload FROM 1 FOR $3), '') \
             FROM {} WHERE id < $1 ORDER BY id DESC LIMIT $2",
            self.name.as_sql()
        );
        let before = before.map_or(i64::MAX, |id| id.0);
        let limit = i64::from(limit);
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&before, Type::INT8), (&limit, Type::INT8), (&START_BYTES, Type::INT4)];
        self.rows(&sql, &parameters, |row| {
            let bytes: i64 = row.try_get(3)?;
            Ok(Brief {
                id: AttachmentId(row.try_get(2)?),
                created: created(row)?,
                bytes: bytes.unsigned_abs(),
                start: Bytes::copy_from_slice(row.try_get(4)?),
            })
        })
        .await
    }

    /// One row, if it is there.
    pub(crate) async fn row(&self, id: AttachmentId) -> Result<Option<Whole>> {
        let sql = format!(
            "SELECT {CREATED}, \
             coalesce(payload, '') FROM {} WHERE id = $1",
            self.name.as_sql()
        );
        let rows = self
            .rows(&sql, &[(&id.0, Type::INT8)], |row| {
                Ok(Whole { created: created(row)?, document: Bytes::copy_from_slice(row.try_get(2)?) })
            })
            .await?;
        Ok(rows.into_iter().next())
    }

    /// Executes a query and reads its rows, with the lock timeout of [`locked`](super::locked).
    pub(super) async fn rows<T>(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
        read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<Vec<T>> {
        let client = self.session.client().await?;
        // Pipelined. After a failure the server treats COMMIT as ROLLBACK.
        let (begun, rows, committed) = future::join3(
            client.batch_execute(locked::BEGIN),
            client.query_typed(sql, parameters),
            client.batch_execute("COMMIT"),
        )
        .await;
        let rows = begun.and(rows).and_then(|rows| rows.iter().map(read).collect());
        let rows = rows.and_then(|rows| committed.map(|()| rows));
        match rows {
            Ok(rows) => Ok(rows),
            Err(error) => Err(self.explain(&error).await),
        }
    }
}

/// The first two columns of a row.
fn created(row: &Row) -> Result<Created, tokio_postgres::Error> {
    let at: Option<SystemTime> = row.try_get(0)?;
    let age: Option<f64> = row.try_get(1)?;
    Ok(Created { at: at.and_then(timestamp), age: age.map(seconds) })
}

pub(super) fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()
}

/// The age in seconds as a duration; zero for a row of the future.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
