//! The database of a server: the configured one. A private Postgres needs Unix.

use super::super::arguments::Global;
use super::super::exit::Failure;
use crate::postgres::Settings;

/// The database of a server.
pub(super) struct Database {
    settings: Settings,
}

impl Database {
    /// Finds the configured database.
    pub(super) async fn find(global: &Global) -> Result<Self, Failure> {
        Ok(Self { settings: global.settings()? })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Always `None`.
    pub(super) fn private_url(&self) -> Option<String> {
        None
    }

    /// Never returns.
    pub(super) async fn supervise(&mut self) {
        std::future::pending().await
    }

    /// Does nothing.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        Ok(())
    }
}
