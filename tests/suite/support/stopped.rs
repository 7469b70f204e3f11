//! Sessions of Postgres that stand still.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sql::query_text;

/// Stopped server processes of sessions. They go on when this is dropped.
pub struct Stopped(Vec<Pid>);

impl Stopped {
    /// Stops all sessions of an application.
    pub async fn all_sessions(url: &str, application: &str) -> Self {
        let sql = format!(
            "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE application_name = '{application}'"
        );
        let pids = query_text(url, &sql).await;
        let pids: Vec<_> = pids.split(' ').map(|pid| Pid::from_raw(pid.parse().expect("a pid"))).collect();
        pids.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).expect("the session exists"));
        Self(pids)
    }

    /// The same, once there is a session.
    pub async fn once_connected(url: &str, application: &str) -> Self {
        let count =
            format!("SELECT count(*)::text FROM pg_stat_activity WHERE application_name = '{application}'");
        while query_text(url, &count).await == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self::all_sessions(url, application).await
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            // A session may have ended meanwhile.
            kill(*pid, Signal::SIGCONT).ok();
        }
    }
}
