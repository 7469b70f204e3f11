//! Keeps all sessions of a cluster handle on the same Postgres server.
//!
//! After a failover an old primary that was frozen may wake up. A session that stayed there would publish to no
//! listener. So the listening session decides: the server that it is on is the server of the others, and when it moves,
//! so do they.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio_postgres::Client;

use super::failure;
use crate::{Error, Result};

/// Which server a session is on, and which of its processes serves the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionPlace {
    pub(super) server: ServerIdentity,
    backend: i32,
    /// When that process started, as its number may be used again.
    started: String,
}

/// A running server: the microsecond at which its postmaster started, and whether it is in recovery. A standby has another
/// one than its primary, and a promoted one another than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerIdentity(String);

impl SessionPlace {
    /// What tells it, as one row of three texts.
    pub(super) const SQL: &str = "SELECT pg_catalog.pg_postmaster_start_time()::text || \
         CASE WHEN pg_catalog.pg_is_in_recovery() THEN ' in recovery' ELSE '' END, pid::text, backend_start::text \
         FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()";

    /// Reads that row.
    pub(super) fn of_texts([server, backend, started]: [Option<&str>; 3]) -> Result<Self> {
        match (server, backend.map(str::parse), started) {
            (Some(server), Some(Ok(backend)), Some(started)) => {
                Ok(Self { server: ServerIdentity(server.into()), backend, started: started.into() })
            }
            _ => Err(Error::ConnectionLost("the server does not report its identity".into())),
        }
    }

    /// Asks the server.
    pub(super) async fn of(client: &Client) -> Result<Self> {
        let rows = client.query_typed(Self::SQL, &[]).await.map_err(|error| failure(&error))?;
        let get = |column| rows.first().and_then(|row| row.try_get(column).ok());
        Self::of_texts([get(0), get(1), get(2)])
    }

    /// Ends that session, which may hold what it has not sent yet: a statement for another session of the same role.
    pub(super) fn termination(&self) -> String {
        let Self { backend, started, .. } = self;
        let started = started.replace('\'', "''");
        format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
             WHERE pid = {backend} AND backend_start::text = '{started}'"
        )
    }
}

/// What every session has to agree with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The server of the listening session; `None` before there is one.
    pub(super) server: Option<ServerIdentity>,
    /// Grows when all sessions are to be replaced.
    pub(super) generation: u64,
}

/// The agreement of a cluster handle's sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SameServer(Arc<watch::Sender<Agreed>>, Arc<AtomicBool>);

impl Default for SameServer {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Agreed::default())), Arc::default())
    }
}

impl SameServer {
    /// The listening session is on this server: all others have to be.
    pub(super) fn listen_on(&self, server: &ServerIdentity) {
        self.set_listening(true);
        self.0.send_if_modified(|agreed| {
            let moves = agreed.server.as_ref() != Some(server);
            agreed.server = Some(server.clone());
            moves
        });
    }

    /// Whether the listening session answers. While it does not, it is about to be replaced, and may move.
    pub(super) fn set_listening(&self, is_listening: bool) {
        self.1.store(is_listening, Ordering::Relaxed);
    }

    /// All sessions are to be replaced: another server was reached than that of the listening session, or what is published
    /// does not come back.
    #[cfg(feature = "server")]
    pub(crate) fn replace_sessions(&self) {
        self.0.send_modify(|agreed| agreed.generation += 1);
    }

    /// Replaces all sessions, unless that was asked for since this generation, or the listening session is being replaced.
    pub(super) fn replace_generation(&self, generation: u64) {
        if !self.1.load(Ordering::Relaxed) {
            return;
        }
        self.0.send_if_modified(|agreed| {
            let is_current = agreed.generation == generation;
            agreed.generation += u64::from(is_current);
            is_current
        });
    }

    pub(super) fn agreed(&self) -> Agreed {
        self.0.borrow().clone()
    }

    /// Waits until that no longer holds.
    pub(super) async fn changed_from(&self, known: &Agreed) {
        let mut changes = self.0.subscribe();
        // The sender is in `self`, so that waiting cannot fail.
        let outcome = changes.wait_for(|agreed| agreed != known).await;
        drop(outcome);
    }

    /// Waits until all sessions of that generation are to be replaced.
    pub(super) async fn replaced_from(&self, generation: u64) {
        let mut changes = self.0.subscribe();
        let outcome = changes.wait_for(|agreed| agreed.generation != generation).await;
        drop(outcome);
    }
}
