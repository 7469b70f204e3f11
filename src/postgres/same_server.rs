//! Keeps all sessions of a cluster handle on the same Postgres server.
//!
//! After a failover a frozen old primary may resume (split brain). A session that stayed there would publish to no
//! listener. So the listening session decides: all other sessions connect to its server, and follow it when it moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio_postgres::Client;

use super::failure;
use crate::{Error, Result};

/// The server of a session, and the backend process that serves the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionPlace {
    pub(super) server: ServerIdentity,
    backend: i32,
    /// When that process started, since its pid may be reused.
    started: String,
}

/// The identity of a running server: the microsecond at which its postmaster started, and whether it is in recovery. A
/// standby has another identity than its primary, and a promoted standby has another one than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerIdentity(String);

impl SessionPlace {
    /// The query for it: one row of three texts. The function behind `pg_stat_activity` reads only this session. The view
    /// costs a new session a millisecond more. Times are numbers, since their texts depend on the session's time zone.
    pub(super) const SQL: &str = "SELECT (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::int8::text || \
         CASE WHEN pg_catalog.pg_is_in_recovery() THEN ' in recovery' ELSE '' END, pid::text, \
         (extract(epoch FROM backend_start) * 1000000)::int8::text \
         FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())";

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

    /// The statement that ends this session, for another session of the same role. The session may hold unsent data.
    pub(super) fn termination(&self) -> String {
        let Self { backend, started, .. } = self;
        let started = started.replace('\'', "''");
        format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
             WHERE pid = {backend} AND (extract(epoch FROM backend_start) * 1000000)::int8::text = '{started}'"
        )
    }
}

/// The state that all sessions have to agree with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The server of the listening session; `None` before there is one.
    pub(super) server: Option<ServerIdentity>,
    /// The generation of the sessions. An increment means that all sessions have to be replaced.
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

    /// Records whether the listening session answers. While it does not, it is being replaced, and may move.
    pub(super) fn set_listening(&self, is_listening: bool) {
        self.1.store(is_listening, Ordering::Relaxed);
    }

    /// Replaces all sessions: the sessions are on different servers, or the loopback probe did not arrive.
    #[cfg(feature = "server")]
    pub(crate) fn replace_sessions(&self) {
        self.0.send_modify(|agreed| agreed.generation += 1);
    }

    /// Replaces all sessions of this generation, unless the listening session is already being replaced.
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

    /// Waits until the sessions have to be on another server than `known`, or have to be replaced.
    pub(super) async fn moved_from(&self, known: &Agreed) {
        let mut changes = self.0.subscribe();
        let is_another = |agreed: &Agreed| known.server.is_some() && agreed.server != known.server;
        // `self` holds the sender, so waiting cannot fail.
        let outcome =
            changes.wait_for(|agreed| agreed.generation != known.generation || is_another(agreed)).await;
        drop(outcome);
    }

    /// Waits until all sessions of that generation have to be replaced.
    pub(super) async fn replaced_from(&self, generation: u64) {
        let mut changes = self.0.subscribe();
        let outcome = changes.wait_for(|agreed| agreed.generation != generation).await;
        drop(outcome);
    }
}
