//! Postgres that stands still: sessions of pgio, which new ones may replace, or a whole server.

use std::time::Duration;

use pgio::postgres::private::PrivateServer;

use super::freeze::Frozen;
use super::sql::query_text;

/// After this the processes go on in any case, so that a test that fails leaves none behind.
const LONGEST: Duration = Duration::from_secs(60);

/// Which rows of `pg_stat_activity` are sessions of pgio that do not listen.
pub const PUBLISHING: &str = "application_name = 'pgio' AND query NOT LIKE 'LISTEN %'";

/// Stops the sessions of pgio. Postgres takes new ones.
pub async fn freeze_sessions(url: &str) -> Frozen {
    freeze(url, "application_name = 'pgio'").await
}

/// Stops the sessions of pgio that publish. Those that listen go on.
pub async fn freeze_publishing(url: &str) -> Frozen {
    freeze(url, PUBLISHING).await
}

async fn freeze(url: &str, which: &str) -> Frozen {
    let pids = format!("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE {which}");
    let pids = query_text(url, &pids).await;
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().expect("a session")).collect();
    Frozen::processes(&pids, LONGEST)
}

/// Stops a server with all of its sessions. It takes no new ones.
pub fn freeze_server(server: &PrivateServer) -> Frozen {
    Frozen::server(postmaster(server), LONGEST)
}

/// The process id of the postmaster.
pub fn postmaster(server: &PrivateServer) -> u32 {
    let file = server.directory().join("data/postmaster.pid");
    let text = std::fs::read_to_string(&file).expect("the server runs");
    text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a pid")
}
