//! The attachment table as a whole: creating it, looking at it, cleaning it up.

mod check;
#[cfg(feature = "cli")]
mod clean;
#[cfg(feature = "cli")]
mod cleaners;
mod create;
#[cfg(feature = "cli")]
mod grants;
mod locked;
#[cfg(feature = "cli")]
mod rows;
mod shape;
#[cfg(feature = "cli")]
mod statistics;

use tokio_postgres::error::SqlState;

use super::{Session, Settings, TableName};
use crate::{Error, Result};

pub(crate) use check::CheckedTable;
#[cfg(feature = "cli")]
pub(crate) use clean::{Deleted, Expired};
#[cfg(feature = "cli")]
pub(crate) use cleaners::Cleaner;
pub use create::{Change, Storage};
#[cfg(feature = "cli")]
pub(crate) use grants::Part;
#[cfg(feature = "cli")]
pub(crate) use rows::Brief;
#[cfg(feature = "cli")]
pub(crate) use shape::OTHER_TABLE;
pub(crate) use shape::Shape;
#[cfg(feature = "cli")]
pub(crate) use statistics::Statistics;

/// What makes our advisory locks different from others' in the same database: `pgio`.
pub(super) const LOCK_SPACE: i64 = 0x7067_696f << 32;

/// The attachment table of a database, over a connection of its own: what takes long here keeps no message waiting.
pub struct AttachmentTable {
    settings: Settings,
    session: Session,
    name: TableName,
}

impl AttachmentTable {
    /// Connects. Whether there is such a table does not matter yet.
    ///
    /// # Errors
    /// Those of a connection that cannot be had: [`Error::Connect`], [`Error::Refused`].
    pub async fn connect(settings: Settings, name: TableName) -> Result<Self> {
        let session = Session::open(settings.clone()).await?;
        Ok(Self { settings, session, name })
    }

    /// The table's name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// How the table is made; `None` where there is none.
    pub(crate) async fn shape(&self) -> Result<Option<Shape>> {
        Shape::of(&self.session, &self.name).await
    }

    /// How the table is made, where it has to be there and to hold attachments.
    pub(crate) async fn existing_shape(&self) -> Result<Shape> {
        let missing = || Error::MissingTable { table: self.name.to_string() };
        let shape = self.shape().await?.ok_or_else(missing)?;
        shape.check(&self.name)?;
        Ok(shape)
    }
}

/// What a statement that changes the table's make-up failed of: it takes more rights than using the table.
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
