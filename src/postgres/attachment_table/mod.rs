//! The attachment table: creation, inspection and cleanup.

#[cfg(feature = "adapter")]
mod access;
mod check;
#[cfg(feature = "cli")]
mod clean;
#[cfg(feature = "cli")]
mod cleaners;
mod create;
#[cfg(feature = "adapter")]
mod foreign_code;
#[cfg(feature = "cli")]
mod grants;
mod locked;
#[cfg(feature = "adapter")]
mod privileges;
#[cfg(feature = "cli")]
mod rows;
mod shape;
#[cfg(feature = "cli")]
mod statistics;
#[cfg(feature = "cli")]
mod trial;

use tokio_postgres::error::SqlState;

use super::{Session, Settings, TableName};
use crate::{Error, Result};

#[cfg(feature = "adapter")]
pub(crate) use access::TableAccess;
pub(crate) use check::CheckedTable;
#[cfg(feature = "cli")]
pub(crate) use clean::{Deleted, Expired};
#[cfg(feature = "cli")]
pub(crate) use cleaners::Cleaner;
pub use create::{Change, Storage};
#[cfg(feature = "adapter")]
pub(crate) use foreign_code::ForeignCode;
#[cfg(feature = "cli")]
pub(crate) use grants::Part;
#[cfg(feature = "cli")]
pub(crate) use privileges::missing_privileges;
#[cfg(feature = "cli")]
pub(crate) use rows::Brief;
#[cfg(feature = "cli")]
pub(crate) use shape::OTHER_TABLE;
pub(crate) use shape::Shape;
#[cfg(feature = "cli")]
pub(crate) use statistics::Statistics;
#[cfg(feature = "cli")]
pub(crate) use trial::try_insert;

/// The high half of the keys of our advisory locks, `pgio`, which keeps them apart from those of applications.
pub(super) const LOCK_SPACE: i64 = 0x7067_696f << 32;

/// The attachment table of a database, on its own connection, so that slow statements delay no message.
pub struct AttachmentTable {
    settings: Settings,
    session: Session,
    name: TableName,
}

impl AttachmentTable {
    /// Connects. The table does not have to exist yet.
    ///
    /// # Errors
    /// [`Error::Connect`] if the server is unreachable, and [`Error::Refused`] if it refuses the connection.
    pub async fn connect(settings: Settings, name: TableName) -> Result<Self> {
        let session = Session::open(settings.clone()).await?;
        Ok(Self { settings, session, name })
    }

    /// The table's name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// The shape of the table; `None` if it does not exist.
    pub(crate) async fn shape(&self) -> Result<Option<Shape>> {
        Shape::of(&self.session, &self.name).await
    }

    /// The shape of the table, which has to exist and to be an attachment table.
    pub(crate) async fn existing_shape(&self) -> Result<Shape> {
        let missing = || Error::MissingTable { table: self.name.to_string() };
        let shape = self.shape().await?.ok_or_else(missing)?;
        shape.definition.check(&self.name)?;
        Ok(shape)
    }
}

/// Classifies the error of a statement that changes the definition of the table, which needs more privileges than its use.
fn definition_failure(error: &tokio_postgres::Error, table: &TableName) -> Error {
    match error.as_db_error() {
        Some(db) if [SqlState::INVALID_SCHEMA_NAME, SqlState::INSUFFICIENT_PRIVILEGE].contains(db.code()) => {
            Error::TableDefinition { table: table.to_string(), reason: db.message().to_owned() }
        }
        Some(db) if *db.code() == SqlState::LOCK_NOT_AVAILABLE => Error::TableDefinition {
            table: table.to_string(),
            reason: "the table is in constant use by other sessions; nothing was changed".into(),
        },
        _ => super::failure(error),
    }
}
