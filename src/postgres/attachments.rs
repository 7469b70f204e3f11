//! Rows of the attachment table: looking them up, and what a failure means.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::{TableName, failure};
use crate::protocol::AttachmentId;
use crate::{Error, Result};

/// The documents of those rows that exist, by id, in one round trip. A row is gone once some node has cleaned up.
pub(crate) async fn look_up(
    client: &Client,
    table: &TableName,
    ids: &[AttachmentId],
) -> Result<HashMap<AttachmentId, Bytes>> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let sql = format!("SELECT id, payload FROM {} WHERE id = ANY($1)", table.as_sql());
    let rows =
        client.query_typed(&sql, &[(&ids, Type::INT8_ARRAY)]).await.map_err(|e| table_failure(&e, table))?;
    rows.iter()
        .map(|row| {
            let payload: Option<&[u8]> = row.try_get(1).map_err(|e| failure(&e))?;
            let id = row.try_get(0).map_err(|e| failure(&e))?;
            Ok((AttachmentId(id), Bytes::copy_from_slice(payload.unwrap_or_default())))
        })
        .collect()
}

/// Deletes rows older than that; returns how many there were.
pub(crate) async fn delete_older(client: &Client, table: &TableName, age: Duration) -> Result<u64> {
    // Node's very words: `pgio attachments stats` knows a server that cleans up by them.
    let (table_name, millis) = (table.as_sql(), age.as_millis());
    let sql = format!("DELETE FROM {table_name} WHERE created_at < now() - interval '{millis} milliseconds'");
    client.execute_typed(&sql, &[]).await.map_err(|e| table_failure(&e, table))
}

/// What a failed statement on the attachment table means.
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
