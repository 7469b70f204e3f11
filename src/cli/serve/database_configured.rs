//! The database of a server: the one that is configured. Private ones need Unix.

use super::super::arguments::Global;
use super::super::exit::Failure;
use crate::postgres::Settings;

/// The database of a server.
pub(super) struct Database {
    settings: Settings,
}

impl Database {
    /// The configured one.
    pub(super) async fn find(global: &Global) -> Result<Self, Failure> {
        Ok(Self { settings: global.settings()? })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// None.
    pub(super) fn private_url(&self) -> Option<String> {
        None
    }

    /// Never returns.
    pub(super) async fn keep(&mut self) {
        std::future::pending().await
    }

    /// Nothing to stop.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        Ok(())
    }
}
