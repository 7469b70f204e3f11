//! The attachment table: its shape, the privileges of the current role, and its expired rows.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::Examiner;
use crate::Result;
use crate::postgres::attachment_table::Shape;
use crate::postgres::attachments::table_failure;
use crate::postgres::failure;

/// The timeout of counting.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of expired rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpiredRows {
    /// The number; at most the limit.
    Count(u64),
    /// Counting takes too long, or another session has locked the table.
    Unknown,
}

impl Examiner {
    /// The shape of the table; `None` if it does not exist.
    pub(crate) async fn shape(&self) -> Result<Option<Shape>> {
        Shape::of(&self.session, &self.table).await
    }

    /// The missing privileges of the role on the table: `DELETE ON t`.
    pub(crate) async fn missing_privileges(&self, shape: &Shape) -> Result<Vec<String>> {
        let table = self.table.as_sql();
        // The sequence of an identity column needs no separate privilege.
        let sql = "SELECT privilege FROM (VALUES \
            ('SELECT ON ' || $2, pg_catalog.has_column_privilege($1, 'id', 'SELECT') \
            AND pg_catalog.has_column_privilege($1, 'created_at', 'SELECT') \
            AND pg_catalog.has_column_privilege($1, 'payload', 'SELECT')), \
            ('INSERT ON ' || $2, pg_catalog.has_column_privilege($1, 'payload', 'INSERT')), \
            ('DELETE ON ' || $2, pg_catalog.has_table_privilege($1, 'DELETE'))) AS needed (privilege, is_given) \
            WHERE NOT is_given UNION ALL \
            SELECT 'USAGE ON SEQUENCE ' || sequence FROM pg_catalog.pg_get_serial_sequence($2, 'id') AS sequence, \
            pg_catalog.pg_attribute WHERE attrelid = $1 AND attname = 'id' AND attidentity = '' \
            AND NOT pg_catalog.has_sequence_privilege(sequence, 'USAGE, UPDATE')";
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&shape.definition.oid, Type::OID), (&table, Type::TEXT)];
        self.all(sql, &parameters, |row| row.try_get(0)).await
    }

    /// Counts the rows older than `older_than`, up to the limit.
    pub(crate) async fn backlog(&self, older_than: Duration, limit: u32) -> Result<ExpiredRows> {
        let (table, age, timeout_ms) =
            (self.table.as_sql(), older_than.as_secs_f64(), STATEMENT_TIMEOUT.as_millis());
        // Statements of a simple query share a transaction, and the setting ends with it.
        let sql = format!(
            "SELECT pg_catalog.set_config('statement_timeout', '{timeout_ms}', true); \
             SELECT count(*) FROM (SELECT FROM {table} \
             WHERE created_at < now() - {age} * interval '1 second' LIMIT {limit}) AS old"
        );
        match self.session.client().await?.simple_query(&sql).await {
            Ok(answers) => {
                let rows = answers.iter().filter_map(|answer| match answer {
                    SimpleQueryMessage::Row(row) => row.get(0),
                    _ => None,
                });
                Ok(rows
                    .last()
                    .and_then(|count| count.parse().ok())
                    .map_or(ExpiredRows::Unknown, ExpiredRows::Count))
            }
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => Ok(ExpiredRows::Unknown),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Err(table_failure(&error, &self.table))
            }
            Err(error) => Err(failure(&error)),
        }
    }
}
