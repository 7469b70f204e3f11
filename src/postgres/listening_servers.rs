//! The sessions on which Node servers listen, as `pg_stat_activity` shows them.
//!
//! A Node server listens on a session of its own, and its last statement is `LISTEN "channel"` of its latest namespace. The
//! statements of pgio go on after the `LISTEN`, so the two can be told apart. Sessions are missing if this role may not see
//! their statements. The session of a server that has vanished without closing it stays until Postgres notices.

use std::collections::HashSet;

use tokio_postgres::types::{ToSql, Type};

use super::presence::locks_sql;
use super::{Session, failure};
use crate::Result;
use crate::protocol::{Channel, Instance, LivenessLock, Namespace};

/// A session of Postgres on which a Node server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ListeningSession {
    /// The process id of the session, as in `pg_stat_activity`.
    pub pid: i32,
    /// The address of the server: `10.0.0.5:51234`, or `local` for a Unix-domain socket; `None` if this role may not see it.
    pub address: Option<String>,
}

impl std::fmt::Display for ListeningSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            Some(address) => write!(f, "pid {} ({address})", self.pid),
            None => write!(f, "pid {}", self.pid),
        }
    }
}

/// The sessions of the Node servers of a namespace, and the processes of pgio, which hold advisory locks.
pub(crate) struct NodeServers {
    pub(crate) sessions: Vec<ListeningSession>,
    pub(crate) pgio: HashSet<Instance>,
}

/// The sessions of the Node servers that serve a namespace. Every Node server serves `/`. Of another namespace those
/// are found whose latest it is.
///
/// # Errors
/// Those of the connection, and if this role may not read `pg_locks`.
pub(crate) async fn node_servers(
    session: &Session,
    nsp: &Namespace,
    channel: &Channel,
) -> Result<NodeServers> {
    let client = session.client().await?;
    let mut beginning = format!("LISTEN \"{}", channel.as_str());
    if *nsp != Namespace::default() {
        beginning.push('"');
    }
    // A session that this role may not see has no port. One on a Unix-domain socket has the port -1.
    let sql = "SELECT pid, CASE WHEN client_port = -1 THEN 'local' \
        ELSE pg_catalog.host(client_addr) || ':' || client_port END FROM pg_catalog.pg_stat_activity \
        WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid() \
        AND pg_catalog.left(query, pg_catalog.length($1)) = $1 AND query ~ '^LISTEN \"[^\"]*\"$' ORDER BY pid";
    let parameters = [(&beginning as &(dyn ToSql + Sync), Type::TEXT)];
    let locks_sql = locks_sql();
    let (sessions, locks) =
        tokio::join!(client.query_typed(sql, &parameters), client.query_typed(&locks_sql, &[]));
    let read = || {
        let session = |row: &tokio_postgres::Row| {
            Ok::<_, tokio_postgres::Error>(ListeningSession {
                pid: row.try_get(0)?,
                address: row.try_get(1)?,
            })
        };
        let instance = |row: &tokio_postgres::Row| {
            Ok::<_, tokio_postgres::Error>(LivenessLock::of_key(row.try_get(0)?).map(|lock| lock.instance))
        };
        Ok(NodeServers {
            sessions: sessions?.iter().map(session).collect::<Result<_, _>>()?,
            pgio: locks?.iter().filter_map(|row| instance(row).transpose()).collect::<Result<_, _>>()?,
        })
    };
    read().map_err(|error: tokio_postgres::Error| failure(&error))
}
