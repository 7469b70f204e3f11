//! Lists the durable events in the attachment table, by the channel in their documents.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::attachments::table_failure;
use super::{TableName, failure};
use crate::cluster::state::{DurableRow, DurableRows};
use crate::protocol::durable::{CHANNEL_ENTRY_BYTES, CHANNEL_KEY};
use crate::protocol::{AttachmentId, Channel};
use crate::{Error, Result};

/// The maximum number of rows, the youngest first. A full listing takes about 20 MB.
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
        "SELECT channel, array_agg(id ORDER BY id), array_agg(age ORDER BY id) FROM (\
         SELECT id, age, CASE WHEN length(head) > {length_at} AND substring(head FROM 1 FOR {key_bytes}) = $1 \
         THEN substring(head FROM {name_at} FOR get_byte(head, {length_at})) END AS channel FROM (\
         SELECT id, (extract(epoch FROM now() - created_at) * 1000000)::int8 AS age, \
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
        let ages: Vec<Option<i64>> = row.try_get(2).map_err(read)?;
        let Some(channel) = known.get(name) else {
            return Err(Error::Decode("a channel that nobody asked for".into()));
        };
        let age = |age: Option<i64>| Duration::from_micros(u64::try_from(age.unwrap_or(0)).unwrap_or(0));
        let of_channel = ids.into_iter().zip(ages);
        let of_channel = of_channel.map(|(id, micros)| DurableRow { id: AttachmentId(id), age: age(micros) });
        rows.insert((*channel).clone(), of_channel.collect());
    }
    Ok(rows)
}
