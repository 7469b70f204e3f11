//! Rows of the attachment table: look-ups, deletion, and the classification of failures.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::{TableName, failure};
use crate::cluster::state::Row;
use crate::protocol::AttachmentId;
use crate::{Error, Result};

/// The existing rows with these ids, in one round trip. A missing row was deleted by the cleanup of some node. The server
/// sends at most `max_bytes` of documents: it leaves out larger documents, and those that do not fit after the others.
pub(crate) async fn look_up(
    client: &Client,
    table: &TableName,
    ids: &[AttachmentId],
    max_bytes: usize,
) -> Result<HashMap<AttachmentId, Row>> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
    // The sizes are known without reading the documents.
    let sql = format!(
        "SELECT id, bytes, CASE WHEN bytes <= $2 AND sum(bytes) FILTER (WHERE bytes <= $2) OVER (ORDER BY id) <= $2 \
         THEN payload END \
         FROM (SELECT id, payload, coalesce(octet_length(payload), 0)::int8 AS bytes FROM {} WHERE id = ANY($1)) AS rows",
        table.as_sql()
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&ids, Type::INT8_ARRAY), (&max_bytes, Type::INT8)];
    let rows = client.query_typed(&sql, &parameters).await.map_err(|e| table_failure(&e, table))?;
    rows.iter().map(|row| read_row(row, max_bytes).map_err(|e| failure(&e))).collect()
}

fn read_row(row: &tokio_postgres::Row, max_bytes: i64) -> Result<(AttachmentId, Row), tokio_postgres::Error> {
    let (id, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let payload: Option<&[u8]> = row.try_get(2)?;
    let found = match payload {
        Some(document) => Row::Document(Bytes::copy_from_slice(document)),
        None if bytes > max_bytes => Row::TooLarge(bytes.unsigned_abs()),
        // The column is empty.
        None if bytes == 0 => Row::Document(Bytes::new()),
        None => Row::Postponed,
    };
    Ok((AttachmentId(id), found))
}

/// Deletes the rows older than `age`. Returns the number of deleted rows.
pub(crate) async fn delete_older(client: &Client, table: &TableName, age: Duration) -> Result<u64> {
    // The same text as Node's statement: `pgio attachments stats` recognises a cleanup by it.
    let (table_name, millis) = (table.as_sql(), age.as_millis());
    let sql = format!("DELETE FROM {table_name} WHERE created_at < now() - interval '{millis} milliseconds'");
    client.execute_typed(&sql, &[]).await.map_err(|e| table_failure(&e, table))
}

/// Classifies the error of a statement on the attachment table.
pub(crate) fn table_failure(error: &tokio_postgres::Error, table: &TableName) -> Error {
    let table = table.to_string();
    match error.as_db_error() {
        Some(db)
            if *db.code() == SqlState::UNDEFINED_TABLE || *db.code() == SqlState::INVALID_SCHEMA_NAME =>
        {
            Error::MissingTable { table }
        }
        Some(db) if *db.code() == SqlState::LOCK_NOT_AVAILABLE => Error::TableLocked { table, pid: None },
        Some(db) if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            Error::TablePrivilege { table, reason: db.message().to_owned() }
        }
        _ => failure(error),
    }
}
