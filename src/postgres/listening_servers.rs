//! The sessions on which the servers of the main namespace listen, as `pg_stat_activity` shows them.
//!
//! A Node server listens on a session of its own, and its last statement is `LISTEN "channel"` of its latest namespace. Every
//! Node server serves the main namespace. Another program that only listens looks like a Node server, unless its
//! application_name begins with `pgio`.
//!
//! A process of pgio holds an advisory lock on its session, and each ping says whether it has a node in the main namespace.
//!
//! Sessions are missing if this role may not see their statements. The session of a server that has vanished without closing
//! it stays until Postgres notices.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::presence::{SERVES_MAIN, liveness_locks};
use super::{Session, failure};
use crate::Result;
use crate::cluster::state::{ListeningSession, ListeningSessions};
use crate::protocol::LivenessLock;

/// Reads the sessions of the servers with this prefix.
///
/// # Errors
/// Those of the connection, and if this role may not read `pg_locks`.
pub(crate) async fn listening_sessions(session: &Session, channel_prefix: &str) -> Result<ListeningSessions> {
    let client = session.client().await?;
    let beginning = format!("LISTEN \"{channel_prefix}#/");
    let locks = liveness_locks();
    // A session that this role may not see has no port. One on a Unix-domain socket has the port -1.
    let sql = format!(
        "SELECT activity.pid, CASE WHEN client_port = -1 THEN 'local' \
         ELSE pg_catalog.host(client_addr) || ':' || client_port END, key, \
         coalesce(pg_catalog.left(query, pg_catalog.length($1)) = $1, false), \
         coalesce(query ~ '^LISTEN \"[^\"]*\"$' AND application_name NOT LIKE 'pgio%', false), \
         coalesce(pg_catalog.strpos(query, $2) > 0, false) \
         FROM pg_catalog.pg_stat_activity AS activity LEFT JOIN ({locks}) AS liveness USING (pid) \
         WHERE datname = pg_catalog.current_database() AND (key IS NOT NULL OR query LIKE 'LISTEN %') ORDER BY pid"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&beginning, Type::TEXT), (&SERVES_MAIN, Type::TEXT)];
    let rows = client.query_typed(&sql, &parameters).await.map_err(|error| failure(&error))?;
    let mut sessions = ListeningSessions::default();
    for row in &rows {
        add(&mut sessions, row).map_err(|error| failure(&error))?;
    }
    Ok(sessions)
}

fn add(sessions: &mut ListeningSessions, row: &Row) -> std::result::Result<(), tokio_postgres::Error> {
    let session = ListeningSession::new(row.try_get(0)?, row.try_get(1)?);
    let lock = row.try_get::<_, Option<i64>>(2)?.and_then(LivenessLock::of_key);
    let (is_of_cluster, only_listens, serves_main): (bool, bool, bool) =
        (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    match lock {
        Some(LivenessLock { instance, .. }) => {
            sessions.instances.insert(instance);
            if is_of_cluster && serves_main {
                sessions.pgio.insert(instance, session);
            }
        }
        None if is_of_cluster && only_listens => sessions.node.push(session),
        None => {}
    }
    Ok(())
}
