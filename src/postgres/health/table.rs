//! The attachment table: its shape, the privileges of the current role, and its expired rows.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::Examiner;
use crate::Result;
use crate::postgres::attachment_table::{ForeignCode, Shape, missing_privileges, try_insert};
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

/// A table of the same name in another schema.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// The schema, quoted if necessary.
    pub(crate) schema: String,
    /// The name, quoted if necessary.
    pub(crate) name: String,
    /// Whether this role has USAGE on the schema.
    pub(crate) is_usable: bool,
}

impl Examiner {
    /// The shape of the table; `None` if it does not exist.
    pub(crate) async fn shape(&self) -> Result<Option<Shape>> {
        Shape::of(&self.session, &self.table).await
    }

    /// The missing privileges of the role on the table: `DELETE ON t`.
    pub(crate) async fn missing_privileges(&self, shape: &Shape) -> Result<Vec<String>> {
        missing_privileges(&*self.session.client().await?, &self.table, shape.definition.oid).await
    }

    /// The publications that publish deletes of the table.
    pub(crate) async fn delete_publications(&self, shape: &Shape) -> Result<Vec<String>> {
        let sql = "SELECT p.pubname::text FROM pg_catalog.pg_publication p \
            JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname \
            JOIN pg_catalog.pg_class c ON c.relname = t.tablename \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schemaname \
            WHERE p.pubdelete AND c.oid = $1 ORDER BY 1";
        self.all(sql, &[(&shape.definition.oid, Type::OID)], |row| row.try_get(0)).await
    }

    /// What may run code of other roles when this role uses the table.
    pub(crate) async fn foreign_code(&self, shape: &Shape) -> Result<ForeignCode> {
        ForeignCode::of(&*self.session.client().await?, shape.definition.oid).await
    }

    /// Inserts a row, and rolls it back.
    pub(crate) async fn try_insert(&self) -> Result<()> {
        try_insert(&self.session, &self.table).await
    }

    /// A table of the same name in another schema than the one that was looked in.
    pub(crate) async fn table_elsewhere(&self) -> Result<Option<Elsewhere>> {
        let sql = "SELECT pg_catalog.quote_ident(nspname), pg_catalog.quote_ident(relname), \
            pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS is_usable FROM pg_catalog.pg_class c \
            JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace \
            WHERE relname = (pg_catalog.parse_ident($1))[pg_catalog.cardinality(pg_catalog.parse_ident($1))] \
            AND relkind IN ('r', 'p') ORDER BY is_usable DESC, nspname LIMIT 1";
        let table = self.table.as_sql();
        let mut found = self
            .all(sql, &[(&table, Type::TEXT)], |row| {
                Ok(Elsewhere { schema: row.try_get(0)?, name: row.try_get(1)?, is_usable: row.try_get(2)? })
            })
            .await?;
        Ok(found.pop())
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
