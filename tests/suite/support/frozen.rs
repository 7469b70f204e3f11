//! Frozen Postgres processes: sessions of pgio, which new ones may replace, or a whole server.

use std::time::Duration;

use pgio::postgres::private::PrivateServer;

use super::freeze::Frozen;
use super::sql::query_text;

/// The processes continue after this time in any case, so that a failed test leaves no frozen ones.
const LONGEST: Duration = Duration::from_secs(60);

/// The condition in `pg_stat_activity` for the sessions of pgio that do not listen.
pub const PUBLISHING: &str = "application_name = 'pgio' AND query NOT LIKE 'LISTEN %'";

/// Freezes the sessions of pgio. Postgres accepts new ones.
pub async fn freeze_sessions(url: &str) -> Frozen {
    freeze(url, "application_name = 'pgio'").await
}

/// Freezes the publishing sessions of pgio. The listening ones continue.
pub async fn freeze_publishing(url: &str) -> Frozen {
    freeze(url, PUBLISHING).await
}

async fn freeze(url: &str, which: &str) -> Frozen {
    let pids = format!("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE {which}");
    let pids = query_text(url, &pids).await;
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().expect("a session")).collect();
    Frozen::processes(&pids, LONGEST)
}

/// Freezes a server with all of its sessions. It accepts no new ones.
pub fn freeze_server(server: &PrivateServer) -> Frozen {
    Frozen::server(postmaster(server), LONGEST)
}

/// The process id of the postmaster.
pub fn postmaster(server: &PrivateServer) -> u32 {
    let file = server.directory().join("data/postmaster.pid");
    let text = std::fs::read_to_string(&file).expect("the server runs");
    text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a pid")
}
