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

/// The size from which the answer of a look-up takes no more documents, in bytes. Other answers wait behind it.
const ANSWER_BYTES: i64 = 4 << 20;

/// The number of rows that one statement of the cleanup deletes. Look-ups wait behind it.
const ROWS_PER_DELETION: u64 = 2000;

/// The existing rows with these ids, in one round trip. A missing row was deleted by the cleanup of some node. The server
/// leaves out documents of more than `max_bytes`, and those that do not fit into the answer after the others.
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
        "SELECT id, bytes, CASE WHEN bytes <= $2 \
         AND sum(bytes) FILTER (WHERE bytes <= $2) OVER (ORDER BY id) <= greatest($3, bytes) \
         THEN payload END \
         FROM (SELECT id, payload, coalesce(octet_length(payload), 0)::int8 AS bytes FROM {} WHERE id = ANY($1)) AS rows",
        table.as_sql()
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&ids, Type::INT8_ARRAY), (&max_bytes, Type::INT8), (&ANSWER_BYTES, Type::INT8)];
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

/// Rows that one statement has deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeletedRows {
    pub(crate) rows: u64,
    /// Whether there may be more of them.
    pub(crate) may_have_more: bool,
}

/// Deletes some of the rows that are older than `age`.
pub(crate) async fn delete_some_older(
    client: &Client,
    table: &TableName,
    age: Duration,
) -> Result<DeletedRows> {
    let (table_name, millis) = (table.as_sql(), age.as_millis());
    let is_old = format!("created_at < now() - interval '{millis} milliseconds'");
    // It begins as the statement of Node: `pgio attachments stats` recognises a cleanup by it.
    let sql = format!(
        "DELETE FROM {table_name} WHERE {is_old} \
         AND id = ANY (ARRAY(SELECT id FROM {table_name} WHERE {is_old} LIMIT {ROWS_PER_DELETION}))"
    );
    let rows = client.execute_typed(&sql, &[]).await.map_err(|e| table_failure(&e, table))?;
    Ok(DeletedRows { rows, may_have_more: rows >= ROWS_PER_DELETION })
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
