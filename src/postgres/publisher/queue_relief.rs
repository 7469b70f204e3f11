//! Makes Postgres truncate a full notification queue.
//!
//! If a stuck listener has filled the queue, it stays full after the listener has disconnected, until a session calls
//! `pg_notification_queue_usage`. The call can take minutes: Postgres 15 needed two minutes for a queue of 8 GB on a busy
//! machine. Meanwhile every NOTIFY fails, and every other session that calls the function waits as long. So a dedicated
//! session calls it, one at a time.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::postgres::session::Session;

/// The timeout of the call.
const RELIEF_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct QueueRelief {
    in_flight: Option<AbortOnDropHandle<()>>,
}

impl QueueRelief {
    /// Starts the call, unless one is in flight. It connects to the server of `session`.
    pub(super) fn start(&mut self, session: &Session) {
        if self.in_flight.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            self.in_flight = Some(AbortOnDropHandle::new(tokio::spawn(relieve(session.open_lazily()))));
        }
    }
}

async fn relieve(session: Session) {
    let client = match session.client().await {
        Ok(client) => client,
        Err(error) => return tracing::debug!(%error, "the notification queue of Postgres stays full"),
    };
    let usage = client.batch_execute("SELECT pg_catalog.pg_notification_queue_usage()");
    match timeout(RELIEF_TIMEOUT, usage).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the notification queue of Postgres stays full"),
        Err(_) => tracing::debug!("the notification queue of Postgres stays full: no answer"),
    }
}
