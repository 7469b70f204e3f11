//! Checks that the table is an attachment table, before its first use.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::Client;

#[cfg(feature = "adapter")]
use super::access::TableAccess;
use super::shape::Definition;
use crate::Result;
use crate::postgres::TableName;

/// The attachment table of a cluster. Its shape is checked before the first statement, and again after each refusal, until
/// it passes.
#[derive(Debug)]
pub(crate) struct CheckedTable {
    name: TableName,
    is_checked: AtomicBool,
}

impl CheckedTable {
    /// A table that was not checked yet.
    pub(crate) fn new(name: TableName) -> Self {
        Self { name, is_checked: AtomicBool::new(false) }
    }

    /// The table's name, without a check.
    pub(crate) fn unchecked(&self) -> &TableName {
        &self.name
    }

    /// The table's name, for a statement that uses the table. A missing table passes: the statement itself reports it.
    ///
    /// # Errors
    /// [`Error::TableShape`](crate::Error::TableShape) if the table is no attachment table.
    pub(crate) async fn checked(&self, client: &Client) -> Result<&TableName> {
        if !self.is_checked.load(Ordering::Relaxed) {
            self.exists(client).await?;
        }
        Ok(&self.name)
    }

    /// Reads how this role may use the table. `None` without a table.
    #[cfg(feature = "adapter")]
    pub(crate) async fn access(&self, client: &Client) -> Result<Option<TableAccess>> {
        match Definition::of(client, &self.name).await? {
            Some(definition) => TableAccess::of(client, &self.name, definition.oid).await.map(Some),
            None => Ok(None),
        }
    }

    /// Checks the table, also if it passed before. Returns whether it exists.
    ///
    /// # Errors
    /// [`Error::TableShape`](crate::Error::TableShape) if the table is no attachment table.
    pub(crate) async fn exists(&self, client: &Client) -> Result<bool> {
        let Some(definition) = Definition::of(client, &self.name).await? else { return Ok(false) };
        definition.check(&self.name)?;
        self.is_checked.store(true, Ordering::Relaxed);
        Ok(true)
    }
}
