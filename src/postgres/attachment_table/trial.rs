//! A trial insertion, which shows what no look at the catalog does: an exhausted sequence, a full disk, a trigger that
//! refuses.

use futures_util::future;

use super::locked;
use crate::Result;
use crate::postgres::attachments::table_failure;
use crate::postgres::{Session, TableName, failure};

/// Inserts a row, and rolls it back. This takes a value of the sequence.
pub(crate) async fn try_insert(session: &Session, table: &TableName) -> Result<()> {
    let client = session.client().await?;
    let insert = format!("{}; INSERT INTO {} (payload) VALUES ('')", locked::BEGIN, table.as_sql());
    let (inserted, ended) =
        future::join(client.batch_execute(&insert), client.batch_execute("ROLLBACK")).await;
    inserted.map_err(|error| table_failure(&error, table))?;
    ended.map_err(|error| failure(&error))
}
