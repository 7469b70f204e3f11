//! Statistics of the attachment table: number, size and age of its rows.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::AttachmentTable;
use super::rows::{seconds, timestamp};
use crate::Result;

/// The statistics of the table.
#[derive(Debug)]
pub(crate) struct Statistics {
    /// From the youngest to the oldest; the last one holds rows of unknown age.
    pub(crate) ages: Vec<AgeGroup>,
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) oldest_age: Option<Duration>,
    /// The size on disk, with indexes and dead rows.
    pub(crate) disk_bytes: u64,
    /// The server's estimate of the dead rows.
    pub(crate) dead_rows: u64,
    /// The last VACUUM.
    pub(crate) vacuumed: Option<Timestamp>,
}

/// Rows of about the same age.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgeGroup {
    pub(crate) rows: u64,
    /// The size of their documents.
    pub(crate) bytes: u64,
}

impl AttachmentTable {
    /// Reads the statistics. `bounds` are the ages between the groups; there are two more groups than bounds.
    pub(crate) async fn statistics(&self, bounds: &[Duration]) -> Result<Statistics> {
        let oid = self.existing_shape().await?.definition.oid;
        // `now()` is constant within a statement, so the oldest row is in its group.
        let by_age = format!(
            "SELECT pg_catalog.width_bucket(age, $1), count(*), coalesce(sum(octet_length(payload)), 0)::int8, \
             min(created_at), max(age) \
             FROM (SELECT created_at, payload, CASE WHEN isfinite(created_at) \
             THEN extract(epoch FROM now() - created_at)::float8 END AS age FROM {}) AS aged GROUP BY 1",
            self.name.as_sql()
        );
        let mut statistics = Statistics {
            ages: vec![AgeGroup::default(); bounds.len() + 2],
            oldest: None,
            oldest_age: None,
            disk_bytes: 0,
            dead_rows: 0,
            vacuumed: None,
        };
        let bounds: Vec<f64> = bounds.iter().map(Duration::as_secs_f64).collect();
        let groups = self
            .rows(&by_age, &[(&bounds, Type::FLOAT8_ARRAY)], |row| {
                let group: Option<i32> = row.try_get(0)?;
                let (rows, bytes): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
                let (oldest, age): (Option<SystemTime>, Option<f64>) = (row.try_get(3)?, row.try_get(4)?);
                Ok((group, AgeGroup { rows: rows.unsigned_abs(), bytes: bytes.unsigned_abs() }, oldest, age))
            })
            .await?;
        for (group, rows, oldest, age) in groups {
            let group = group.and_then(|group| usize::try_from(group).ok()).unwrap_or(bounds.len() + 1);
            if let Some(place) = statistics.ages.get_mut(group) {
                *place = rows;
            }
            if let (Some(oldest), Some(age)) = (oldest.and_then(timestamp), age)
                && statistics.oldest.is_none_or(|known| oldest < known)
            {
                (statistics.oldest, statistics.oldest_age) = (Some(oldest), Some(seconds(age)));
            }
        }
        let on_disk = "SELECT pg_catalog.pg_total_relation_size($1), \
            coalesce(pg_catalog.pg_stat_get_dead_tuples($1), 0), \
            greatest(pg_catalog.pg_stat_get_last_vacuum_time($1), pg_catalog.pg_stat_get_last_autovacuum_time($1))";
        let on_disk = self
            .rows(on_disk, &[(&oid, Type::OID)], |row| {
                let (size, dead): (Option<i64>, i64) = (row.try_get(0)?, row.try_get(1)?);
                let vacuumed: Option<SystemTime> = row.try_get(2)?;
                Ok((
                    size.unwrap_or_default().unsigned_abs(),
                    dead.unsigned_abs(),
                    vacuumed.and_then(timestamp),
                ))
            })
            .await?;
        if let Some((size, dead, vacuumed)) = on_disk.into_iter().next() {
            (statistics.disk_bytes, statistics.dead_rows, statistics.vacuumed) = (size, dead, vacuumed);
        }
        Ok(statistics)
    }
}
