//! Creating the attachment table.

use tokio_postgres::types::Type;

use super::attachments::table_failure;
use super::{Session, TableName, failure};
use crate::{Error, Result};

/// Creates the table, and the index that cleaning up uses, unless there is one of that name; whether it did. Any number
/// of nodes may do so at once.
pub(crate) async fn create_table(session: &Session, table: &TableName) -> Result<bool> {
    if exists(session, table).await? {
        return Ok(false);
    }
    let client = session.client().await?;
    let name = table.as_sql();
    // IF NOT EXISTS alone fails where two do it at the same moment. One string is one transaction. The lock's key is
    // `pgio`.
    let sql = format!(
        "DO $pgio$ BEGIN
           PERFORM pg_advisory_xact_lock(1885825391);
           IF to_regclass({literal}) IS NULL THEN
             CREATE TABLE {name} (
               id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea
             );
             CREATE INDEX ON {name} (created_at);
           END IF;
         END $pgio$",
        literal = quote_literal(name),
    );
    match client.batch_execute(&sql).await.map_err(|error| table_failure(&error, table)) {
        Ok(()) => Ok(true),
        Err(Error::MissingTable { .. }) => {
            Err(Error::Database(format!("the schema of {table} does not exist")))
        }
        Err(error) => Err(error),
    }
}

async fn exists(session: &Session, table: &TableName) -> Result<bool> {
    let client = session.client().await?;
    let rows = client
        .query_typed("SELECT to_regclass($1) IS NOT NULL", &[(&table.as_sql(), Type::TEXT)])
        .await
        .map_err(|error| table_failure(&error, table))?;
    rows.first().map_or(Ok(false), |row| row.try_get(0).map_err(|error| failure(&error)))
}

fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
