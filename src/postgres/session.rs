//! The connection that publishes and looks up; opened again when it is needed after a loss.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use crate::Result;

/// One connection to Postgres, shared by all who make statements on it; statements are pipelined.
pub(crate) struct Session {
    settings: Settings,
    live: Mutex<Option<Live>>,
}

#[derive(Clone)]
struct Live {
    client: Arc<Client>,
    /// Moves bytes until the client is dropped or the connection breaks.
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Session {
    /// Connects.
    pub(crate) async fn open(settings: Settings) -> Result<Self> {
        let live = connect(&settings).await?;
        Ok(Self { settings, live: Mutex::new(Some(live)) })
    }

    /// The connection's client. Connects again if the connection is lost; fails if that fails, without waiting.
    pub(crate) async fn client(&self) -> Result<Arc<Client>> {
        let mut live = self.live.lock().await;
        if let Some(Live { client, .. }) = live.as_ref().filter(|live| !live.client.is_closed()) {
            return Ok(client.clone());
        }
        *live = None;
        Ok(live.insert(connect(&self.settings).await?).client.clone())
    }
    /// Drops a connection that has stopped answering, so that whoever comes next gets another one.
    pub(crate) async fn abandon(&self, client: &Arc<Client>) {
        let mut live = self.live.lock().await;
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(&live.client, client)) {
            *live = None;
        }
    }
}

async fn connect(settings: &Settings) -> Result<Live> {
    let (client, connection) = settings.connect().await?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Whoever waits for an answer gets an error of its own.
            tracing::debug!(%error, "the publishing connection broke");
        }
    });
    Ok(Live { client: client.into(), _driver: Arc::new(AbortOnDropHandle::new(driver)) })
}
