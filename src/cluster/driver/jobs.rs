//! The futures that the driver runs for the state machine: look-ups, listings and publications, each with a deadline.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::timeout;

use crate::cluster::AdapterOptions;
use crate::cluster::state::{Input, ListeningSessions, Rows};
use crate::postgres::{
    CheckedTable, DoublingTimeout, Publisher, Session, list_durable, listening_sessions, look_up, no_answer,
};
use crate::protocol::{AttachmentId, Channel, Message, MessageKind};
use crate::{Error, Result};

/// The shortest and the longest timeout of a look-up. A large row over a slow network takes longer than the shortest one, and
/// would be read again and again.
const LOOK_UP_TIMEOUT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20));

/// The timeout of a listing. A listing of many rows takes seconds, and has a session of its own.
const LISTING_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeout for reading which servers listen.
const LISTENING_TIMEOUT: Duration = Duration::from_secs(2);

/// The timeout of the next look-up.
#[derive(Clone)]
pub(super) struct LookUpTimeout(Arc<Mutex<DoublingTimeout>>);

impl LookUpTimeout {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(DoublingTimeout::new(LOOK_UP_TIMEOUT.0, LOOK_UP_TIMEOUT.1))))
    }

    fn lock(&self) -> MutexGuard<'_, DoublingTimeout> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks rows up.
pub(super) async fn rows(
    session: Arc<Session>,
    table: Arc<CheckedTable>,
    ids: Vec<AttachmentId>,
    max_bytes: usize,
    time: LookUpTimeout,
) -> Rows {
    let limit = time.lock().current();
    let client = session.client_within(limit).await?;
    let found = async { look_up(&client, table.checked(&client).await?, &ids, max_bytes).await };
    match timeout(limit, found).await {
        Ok(found) => {
            time.lock().on_success();
            found
        }
        Err(_) => {
            time.lock().on_timeout(limit);
            session.abandon(&client).await;
            Err(no_answer(limit))
        }
    }
}

/// Lists the rows of the durable events that may have been missed.
pub(super) async fn list(
    session: Arc<Session>,
    table: Arc<CheckedTable>,
    channels: Vec<Channel>,
    max_age: Duration,
    options: AdapterOptions,
) -> Input {
    let listed = async {
        // The session ends with this, and a listing that takes too long with it.
        let session = session.open_lazily();
        let client = session.client().await?;
        list_durable(&client, table.checked(&client).await?, &channels, max_age).await
    };
    let rows = timeout(LISTING_TIMEOUT, listed).await.unwrap_or_else(|_| Err(no_answer(LISTING_TIMEOUT)));
    match &rows {
        // Without a table, there are no durable events.
        Err(Error::MissingTable { .. }) => {}
        Err(error) if error.is_transient() => {
            tracing::debug!(%error, "cannot list missed durable events yet; retrying")
        }
        Err(error) => {
            tracing::warn!(%error, "cannot replay missed durable events");
            options.report(error);
        }
        Ok(rows) => {
            let rows: usize = rows.values().map(Vec::len).sum();
            tracing::debug!(rows, ?max_age, "missed durable events are listed");
        }
    }
    Input::Listed { rows, time: SystemTime::now() }
}

/// Reads which servers listen. `failures` counts the readings in a row that were not in time. After the second one the session
/// is abandoned: the first one may have waited behind a large row.
pub(in crate::cluster) async fn listening(
    session: Arc<Session>,
    channel_prefix: String,
    failures: Arc<AtomicU32>,
) -> Option<ListeningSessions> {
    match timeout(LISTENING_TIMEOUT, listening_sessions(&session, &channel_prefix)).await {
        Ok(Ok(sessions)) => {
            failures.store(0, Ordering::Relaxed);
            Some(sessions)
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "the servers that listen are not known");
            None
        }
        Err(_) => {
            tracing::debug!("the servers that listen are not known in time");
            if failures.fetch_add(1, Ordering::Relaxed) > 0
                && let Some(Ok(client)) = session.client().now_or_never()
            {
                session.abandon(&client).await;
            }
            None
        }
    }
}

pub(super) async fn publish_all(
    publisher: Publisher,
    options: AdapterOptions,
    messages: Vec<Message>,
) -> Result<()> {
    let mut receipts = Vec::with_capacity(messages.len());
    for message in messages {
        let channel = message.nsp.channel(&options.channel_prefix)?;
        let encoded = message.encode(options.payload_threshold)?;
        let is_heartbeat = message.kind() == MessageKind::Heartbeat;
        receipts.push(publisher.enqueue(channel, encoded, is_heartbeat).await?);
    }
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}

/// Counts the announcements of the nodes of this process in the metrics.
#[cfg_attr(not(feature = "adapter"), expect(unused_variables, reason = "only adapters have nodes"))]
pub(super) fn count_announced(messages: &[Message]) {
    #[cfg(feature = "adapter")]
    for message in messages {
        metrics::counter!("pgio_messages_published_total", "type" => message.kind().name()).increment(1);
    }
}
