//! A session for statements. After a lost connection it reconnects on demand, to the server of the listening session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use super::failure;
use super::same_server::{Agreed, SameServer, SessionPlace};
use crate::{Error, Result};

/// The timeout of each statement that sets up a new connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One session that several callers share. Statements are pipelined.
pub(crate) struct Session {
    settings: Settings,
    same_server: SameServer,
    /// A statement that is executed once on each new connection.
    set_up: Option<&'static str>,
    live: Mutex<Option<Live>>,
    /// The number of reconnects.
    connections: AtomicU64,
}

/// A connection in use.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) client: Arc<Client>,
    /// Its server and backend process; known only after a listening session exists.
    pub(super) place: Option<SessionPlace>,
    pub(super) agreed: Agreed,
    /// Moves bytes until the client is dropped or the connection breaks.
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Session {
    /// Connects.
    pub(crate) async fn open(settings: Settings) -> Result<Self> {
        Self::open_with(settings, SameServer::default()).await
    }

    /// Connects, as one of several sessions on the same server.
    pub(crate) async fn open_with(settings: Settings, same_server: SameServer) -> Result<Self> {
        let initial = Self {
            settings: settings.clone(),
            same_server: same_server.clone(),
            set_up: None,
            live: Mutex::default(),
            connections: AtomicU64::new(0),
        };
        let live = initial.live().await?;
        let session = Self::new(settings, same_server, None);
        *session.live.lock().await = Some(live);
        Ok(session)
    }

    /// Makes a session that connects on first use.
    pub(crate) fn new(settings: Settings, same_server: SameServer, set_up: Option<&'static str>) -> Self {
        Self {
            settings: settings.for_replacement(),
            same_server,
            set_up,
            live: Mutex::new(None),
            connections: AtomicU64::new(0),
        }
    }

    /// Makes another session on the same server, which connects on first use.
    pub(crate) fn open_lazily(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            same_server: self.same_server.clone(),
            set_up: self.set_up,
            live: Mutex::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// The number of reconnects.
    #[cfg(feature = "server")]
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The connection's client. Reconnects once if the connection is lost or on the wrong server, without a retry.
    pub(crate) async fn client(&self) -> Result<Arc<Client>> {
        Ok(self.live().await?.client)
    }

    /// The same, within this time.
    pub(crate) async fn client_within(&self, limit: Duration) -> Result<Arc<Client>> {
        let no_connection = |_| Error::ConnectionLost("no connection in time".into());
        timeout(limit, self.client()).await.map_err(no_connection)?
    }

    pub(super) async fn live(&self) -> Result<Live> {
        let mut kept = self.live.lock().await;
        let agreed = self.same_server.agreed();
        if let Some(live) = kept.as_mut().filter(|live| !live.client.is_closed()) {
            if live.agreed == agreed {
                return Ok(live.clone());
            }
            // The newly agreed server may be the one of this session.
            if live.agreed.generation == agreed.generation && self.agree(live, &agreed).await.is_ok() {
                return Ok(live.clone());
            }
        }
        *kept = None;
        let mut live = self.connect().await?;
        // The listening session may have moved meanwhile.
        self.agree(&mut live, &self.same_server.agreed()).await?;
        Ok(kept.insert(live).clone())
    }

    async fn connect(&self) -> Result<Live> {
        let (client, connection) = self.settings.connect().await?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Each pending statement gets its own error.
                tracing::debug!(%error, "lost a connection to Postgres");
            }
        });
        let driver = Arc::new(AbortOnDropHandle::new(driver));
        let live = Live { client: client.into(), place: None, agreed: Agreed::default(), _driver: driver };
        if let Some(sql) = self.set_up {
            let done = timeout(CONNECT_TIMEOUT, live.client.batch_execute(sql)).await;
            done.map_err(|_| no_answer(CONNECT_TIMEOUT))?.map_err(|error| failure(&error))?;
        }
        Ok(live)
    }

    /// Makes sure that a connection is on the agreed server.
    async fn agree(&self, live: &mut Live, agreed: &Agreed) -> Result<()> {
        if let Some(server) = &agreed.server {
            if live.place.is_none() {
                live.place = Some(place_of(&live.client).await?);
            }
            if live.place.as_ref().is_some_and(|place| place.server != *server) {
                // The listening session reconnects, and its new server is the right one.
                self.same_server.replace_generation(agreed.generation);
                return Err(Error::ConnectionLost(
                    "the connection reached another server than the listening connection".into(),
                ));
            }
        }
        live.agreed = agreed.clone();
        Ok(())
    }

    /// The same connection with its place, for a caller that may have to end this session later, when it does not answer.
    pub(super) async fn with_place(&self, mut live: Live) -> Result<Live> {
        if live.place.is_some() {
            return Ok(live);
        }
        live.place = Some(place_of(&live.client).await?);
        let mut kept = self.live.lock().await;
        if let Some(kept) = kept.as_mut().filter(|kept| Arc::ptr_eq(&kept.client, &live.client)) {
            kept.place.clone_from(&live.place);
        }
        Ok(live)
    }

    /// Waits until a connection must not be used any more: the listening session has moved, or all sessions are replaced.
    /// The first listening session is no move. The next caller finds out whether this connection is on its server.
    pub(super) async fn on_moved(&self, live: &Live) {
        self.same_server.moved_from(&live.agreed).await;
    }

    /// Whether nothing has changed since a connection was handed out.
    pub(super) fn is_current(&self, live: &Live) -> bool {
        !live.client.is_closed() && live.agreed == self.same_server.agreed()
    }

    /// Drops a connection that has stopped answering, so the next caller gets a new one.
    pub(crate) async fn abandon(&self, client: &Arc<Client>) {
        let mut live = self.live.lock().await;
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(&live.client, client)) {
            *live = None;
        }
    }

    /// Replaces a connection that does not answer. The new connection ends the old session on the server, so the old
    /// session cannot commit later.
    pub(super) async fn replace(&self, old: &Live) -> Result<Live> {
        let mut live = self.connect().await?;
        let agreed = self.same_server.agreed();
        self.agree(&mut live, &agreed).await?;
        if old.place.is_some() && live.place.is_none() {
            live.place = Some(place_of(&live.client).await?);
        }
        if let (Some(old), Some(new)) = (&old.place, &live.place)
            && old.server == new.server
        {
            end(&live.client, old).await;
        }
        *self.live.lock().await = Some(live.clone());
        Ok(live)
    }
}

async fn place_of(client: &Client) -> Result<SessionPlace> {
    timeout(CONNECT_TIMEOUT, SessionPlace::of(client)).await.map_err(|_| no_answer(CONNECT_TIMEOUT))?
}

/// Ends another session of the same role.
async fn end(client: &Client, old: &SessionPlace) {
    match timeout(CONNECT_TIMEOUT, client.batch_execute(&old.termination())).await {
        Ok(Ok(())) => tracing::debug!("ended an unresponsive session"),
        Ok(Err(error)) => tracing::debug!(%error, "cannot end an unresponsive session"),
        Err(_) => tracing::debug!("cannot end an unresponsive session in time"),
    }
}

pub(crate) fn no_answer(within: Duration) -> Error {
    Error::ConnectionLost(format!("no answer within {} s", within.as_secs()))
}
