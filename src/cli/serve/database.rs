//! The database of a server: the configured one, or a private Postgres.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::super::arguments::Global;
use super::super::exit::Failure;
use crate::postgres::Settings;
use crate::postgres::private::{self, PrivateServer};
use crate::{Error, Result};

/// The pause before a restart of a private Postgres that ended, and between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// The database of a server.
pub(super) struct Database {
    settings: Settings,
    private: Option<PrivateServer>,
}

impl Database {
    /// Finds the configured database, else a running private Postgres, else starts one.
    pub(super) async fn find(global: &Global) -> Result<Self, Failure> {
        match global.settings() {
            Ok(settings) => Ok(Self { settings, private: None }),
            Err(Error::NoDatabase) => Self::start(global).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn start(global: &Global) -> Result<Self, Failure> {
        let directory = private::state_directory().ok_or(Error::NoDatabase)?.join("postgres");
        tracing::info!(directory = %directory.display(), "no database is configured, starting a private Postgres");
        match PrivateServer::builder().directory(&directory).start().await {
            Ok(server) => {
                let settings = Settings::parse(&server.url())?.application_name("pgio");
                Ok(Self { settings, private: Some(server) })
            }
            // Another process may have started a private Postgres in the meantime.
            Err(error) => match global.settings() {
                Ok(settings) if is_running(&directory) => Ok(Self { settings, private: None }),
                _ => Err(error.into()),
            },
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The URL of the private Postgres with its password, if this process started it.
    pub(super) fn private_url(&self) -> Option<String> {
        self.private.as_ref().map(PrivateServer::url)
    }

    /// Restarts a private Postgres whenever it ends unexpectedly. Never returns.
    pub(super) async fn supervise(&mut self) {
        let Some(private) = &mut self.private else { return std::future::pending().await };
        loop {
            let error = private.died().await;
            tracing::error!(%error, "the private Postgres ended, restarting it");
            sleep(PAUSE).await;
            while let Err(error) = private.start_again().await {
                tracing::error!(%error, "cannot start the private Postgres");
                sleep(PAUSE).await;
            }
        }
    }

    /// Stops the private Postgres, if this process started it.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        match self.private {
            Some(private) => Ok(private.stop().await?),
            None => Ok(()),
        }
    }
}

fn is_running(directory: &Path) -> bool {
    private::running_in(directory).is_some()
}
