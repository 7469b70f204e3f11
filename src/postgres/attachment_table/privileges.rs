//! The privileges that a server needs on the table.

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::Result;
use crate::postgres::{TableName, failure};

/// The sequence of an identity column needs no separate privilege.
const MISSING: &str = "SELECT privilege FROM (VALUES \
    ('SELECT ON ' || $2, pg_catalog.has_column_privilege($1, 'id', 'SELECT') \
    AND pg_catalog.has_column_privilege($1, 'created_at', 'SELECT') \
    AND pg_catalog.has_column_privilege($1, 'payload', 'SELECT')), \
    ('INSERT ON ' || $2, pg_catalog.has_column_privilege($1, 'payload', 'INSERT')), \
    ('DELETE ON ' || $2, pg_catalog.has_table_privilege($1, 'DELETE'))) AS needed (privilege, is_given) \
    WHERE NOT is_given UNION ALL \
    SELECT 'USAGE ON SEQUENCE ' || sequence FROM pg_catalog.pg_get_serial_sequence($2, 'id') AS sequence, \
    pg_catalog.pg_attribute WHERE attrelid = $1 AND attname = 'id' AND attidentity = '' \
    AND NOT pg_catalog.has_sequence_privilege(sequence, 'USAGE, UPDATE')";

/// The privileges that this role lacks on the table with this object id: `DELETE ON t`.
pub(crate) async fn missing_privileges(client: &Client, table: &TableName, oid: u32) -> Result<Vec<String>> {
    let table = table.as_sql();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&oid, Type::OID), (&table, Type::TEXT)];
    let rows = client.query_typed(MISSING, &parameters).await.map_err(|error| failure(&error))?;
    rows.iter().map(|row| row.try_get(0).map_err(|error| failure(&error))).collect()
}
