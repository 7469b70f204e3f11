//! Lists the durable events in the attachment table, by the channel in their documents.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::attachments::table_failure;
use super::{TableName, failure};
use crate::cluster::state::{DurableRow, DurableRows, RowOrigin};
use crate::protocol::durable::{CHANNEL_ENTRY_BYTES, CHANNEL_KEY};
use crate::protocol::{AttachmentId, Channel};
use crate::{Error, Result};

/// The maximum number of rows, the youngest first. A full listing takes about 120 MB at its peak.
const MAX_ROWS: i64 = 1 << 20;

/// The rows with durable events of these channels that are not older than `max_age`, in the order of their ids. Of each
/// document only the head with the channel is read.
pub(crate) async fn list_durable(
    client: &Client,
    table: &TableName,
    channels: &[Channel],
    max_age: Duration,
) -> Result<DurableRows> {
    let (key, key_bytes) = (CHANNEL_KEY, CHANNEL_KEY.len());
    let (length_at, name_at) = (key_bytes, key_bytes + 2);
    // CASE prevents get_byte on documents that are too short.
    let sql = format!(
        "SELECT channel, array_agg(id ORDER BY id), array_agg(began ORDER BY id), \
         array_agg(xid::text::int8 ORDER BY id), (extract(epoch FROM now()) * 1000000)::int8, \
         (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::int8, \
         pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot()) FROM (\
         SELECT id, began, xid, CASE WHEN length(head) > {length_at} AND substring(head FROM 1 FOR {key_bytes}) = $1 \
         THEN substring(head FROM {name_at} FOR get_byte(head, {length_at})) END AS channel FROM (\
         SELECT id, xmin AS xid, (extract(epoch FROM created_at) * 1000000)::int8 AS began, \
         substring(payload FROM 2 FOR {CHANNEL_ENTRY_BYTES}) AS head FROM {} \
         WHERE created_at > now() - $3 * interval '1 microsecond' ORDER BY created_at DESC LIMIT $4) AS recent\
         ) AS named WHERE channel = ANY ($2) GROUP BY channel",
        table.as_sql()
    );
    let names: Vec<_> = channels.iter().map(|channel| channel.as_str().as_bytes()).collect();
    let max_age = i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX);
    let max_age = max_age as f64;
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&key, Type::BYTEA), (&names, Type::BYTEA_ARRAY), (&max_age, Type::FLOAT8), (&MAX_ROWS, Type::INT8)];
    let found = client.query_typed(&sql, &parameters).await.map_err(|e| table_failure(&e, table))?;
    let known: HashMap<&[u8], &Channel> =
        channels.iter().map(|channel| (channel.as_str().as_bytes(), channel)).collect();
    let mut rows = DurableRows::new();
    for row in &found {
        let read = |error: tokio_postgres::Error| failure(&error);
        let name: &[u8] = row.try_get(0).map_err(read)?;
        let ids: Vec<i64> = row.try_get(1).map_err(read)?;
        let began: Vec<Option<i64>> = row.try_get(2).map_err(read)?;
        let xids: Vec<i64> = row.try_get(3).map_err(read)?;
        let (now, server): (i64, i64) = (row.try_get(4).map_err(read)?, row.try_get(5).map_err(read)?);
        let next: i64 = row.try_get(6).map_err(read)?;
        let Some(channel) = known.get(name) else {
            return Err(Error::Decode("a channel that nobody asked for".into()));
        };
        let of_channel = ids.into_iter().zip(began).zip(xids).map(|((id, began), xid)| {
            let age = began.map_or(0, |began| u64::try_from(now.saturating_sub(began)).unwrap_or(0));
            let origin = origin_of(server, began, xid, next);
            DurableRow { id: AttachmentId(id), age: Duration::from_micros(age), origin }
        });
        rows.insert((*channel).clone(), of_channel.collect());
    }
    Ok(rows)
}

/// The transaction of a row, from its `xmin` and the next id of the same moment.
fn origin_of(server: i64, began: Option<i64>, xid: i64, next: i64) -> Option<RowOrigin> {
    let transaction = RowOrigin::with_epoch(u32::try_from(xid).ok()?, u64::try_from(next).ok()?)?;
    Some(RowOrigin { server, began: began?, transaction })
}
