//! The clients of Postgres sessions: address and application_name by backend pid.

use std::collections::HashMap;

use super::{Session, failure};
use crate::Result;

/// The client of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    /// `10.0.0.5:51234`, or `local` for a Unix-domain socket; `None` if this role may not see it.
    pub(crate) address: Option<String>,
    /// Its `application_name`, if it is set.
    pub(crate) application: Option<String>,
}

/// The clients of these sessions, if the sessions still exist. Only members of `pg_read_all_stats` see the addresses of
/// other roles' sessions.
///
/// # Errors
/// Those of the connection.
pub(crate) async fn backends(session: &Session, pids: &[i32]) -> Result<HashMap<i32, Backend>> {
    let client = session.client().await?;
    // A session on a Unix-domain socket has the port -1. A session that this role may not see has no port.
    let sql = "SELECT pid, CASE WHEN client_port = -1 THEN 'local'
                 ELSE pg_catalog.host(client_addr) || ':' || client_port END, nullif(application_name, '')
               FROM pg_catalog.pg_stat_activity WHERE pid = ANY ($1)";
    let pids: Vec<i32> = pids.to_vec();
    let parameters =
        [(&pids as &(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type::INT4_ARRAY)];
    let rows = client.query_typed(sql, &parameters).await.map_err(|error| failure(&error))?;
    let read = |row: &tokio_postgres::Row| {
        Ok((row.try_get(0)?, Backend { address: row.try_get(1)?, application: row.try_get(2)? }))
    };
    rows.iter().map(read).collect::<std::result::Result<_, _>>().map_err(|error| failure(&error))
}
