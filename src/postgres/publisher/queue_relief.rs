//! Makes Postgres shorten a full queue of notifications.
//!
//! A queue that a stuck listener filled stays full after the listener has left, until a session calls
//! `pg_notification_queue_usage`. The answer can take minutes: removing a queue of 8 GB took Postgres 15 two minutes on
//! a busy machine. Publishing is refused meanwhile, and each session that asks waits as long. So one session of its own
//! asks, and another one only after it.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::postgres::session::Session;

/// How long Postgres may take for it.
const RELIEF_WITHIN: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct QueueRelief {
    under_way: Option<AbortOnDropHandle<()>>,
}

impl QueueRelief {
    /// Starts the relief, unless it is in progress. `session` tells which server to connect to.
    pub(super) fn start(&mut self, session: &Session) {
        if self.under_way.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            self.under_way = Some(AbortOnDropHandle::new(tokio::spawn(relieve(session.beside()))));
        }
    }
}

async fn relieve(session: Session) {
    let client = match session.client().await {
        Ok(client) => client,
        Err(error) => return tracing::debug!(%error, "the notification queue of Postgres stays full"),
    };
    let usage = client.batch_execute("SELECT pg_catalog.pg_notification_queue_usage()");
    match timeout(RELIEF_WITHIN, usage).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the notification queue of Postgres stays full"),
        Err(_) => tracing::debug!("the notification queue of Postgres stays full: no answer"),
    }
}
