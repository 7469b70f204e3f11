//! SQL functions with which any database client, and any trigger, emits events.
//!
//! [`SqlEmitter`] is the wanted installation. [`script`] renders its SQL (pure). [`installed`] reads the installation in a
//! database, and [`differences`] compares the two (pure). The SQL itself is in `sql/`.

mod differences;
mod functions;
mod installed;
mod quote;
mod script;
mod stored;
mod table_name;

use std::fmt;

use tokio_postgres::Client;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::Type;

use super::attachment_table::LOCK_SPACE;
use super::{Session, Settings, TableName, failure};
use crate::{Error, Namespace, Result};

pub(crate) use differences::{Difference, differences, out_of_reach};
pub(crate) use installed::{Installed, schemas};
pub(crate) use script::VERSION;

/// The advisory lock of install and uninstall.
const INSTALLING: i64 = LOCK_SPACE + 2;

/// The maximum length of the name of a schema or role, in bytes. Postgres truncates longer names.
const MAX_NAME_BYTES: usize = 63;

/// The wanted installation: its schema, and the settings of the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqlEmitter {
    schema: Name,
    channel_prefix: String,
    table: TableName,
    payload_threshold: usize,
}

/// The unquoted name of a schema or a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(String);

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "" => Err("a name cannot be empty".into()),
            name if name.contains('\0') => Err("a name cannot hold a NUL character".into()),
            name if name.len() > MAX_NAME_BYTES => {
                Err(format!("a name of {} bytes is longer than the {MAX_NAME_BYTES} of Postgres", name.len()))
            }
            name => Ok(Self(name.to_owned())),
        }
    }
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn as_sql(&self) -> String {
        super::table::quote_identifier(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The result of an installation.
pub(crate) struct Outcome {
    /// The previous installation, if there was one.
    pub(crate) before: Option<Installed>,
    pub(crate) after: Installed,
}

impl SqlEmitter {
    /// The functions in that schema, for servers with these options.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the prefix is too long for a channel of the main namespace.
    pub(crate) fn new(
        schema: Name,
        channel_prefix: String,
        table: TableName,
        payload_threshold: usize,
    ) -> Result<Self> {
        Namespace::default().channel(&channel_prefix)?;
        Ok(Self { schema, channel_prefix, table, payload_threshold })
    }

    pub(crate) fn schema(&self) -> &Name {
        &self.schema
    }

    /// Reads the installation in the schema; `None` if there is none.
    pub(crate) async fn installed(&self, settings: Settings, roles: &[Name]) -> Result<Option<Installed>> {
        let session = Session::open(settings).await?;
        let client = session.client().await?;
        Installed::read(&client, self, roles).await
    }

    /// Installs or updates the functions, in one transaction.
    pub(crate) async fn install(&self, settings: Settings, roles: &[Name]) -> Result<Outcome> {
        let session = Session::open(settings).await?;
        let client = session.client().await?;
        begin(&client).await?;
        let before = Installed::read(&client, self, roles).await?;
        client.batch_execute(&self.script(roles)).await.map_err(|error| refusal(&error))?;
        let after = Installed::read(&client, self, roles).await?;
        client.batch_execute("COMMIT").await.map_err(|error| failure(&error))?;
        let missing = || Error::Encode("the functions are not there after their installation".into());
        Ok(Outcome { before, after: after.ok_or_else(missing)? })
    }

    /// Removes the functions and their settings, and the schema if the installation created it and it is empty. Returns
    /// whether the schema still exists. Changes nothing if another object depends on a function.
    pub(crate) async fn uninstall(&self, settings: Settings) -> Result<bool> {
        let session = Session::open(settings).await?;
        let client = session.client().await?;
        begin(&client).await?;
        client.batch_execute(&self.uninstall_script()).await.map_err(|error| refusal(&error))?;
        let stays = "SELECT pg_catalog.to_regnamespace($1) IS NOT NULL";
        let schema = self.schema.as_sql();
        let stays = client.query_typed(stays, &[(&schema, Type::TEXT)]).await;
        let stays = stays.and_then(|rows| rows.first().map_or(Ok(false), |row| row.try_get(0)));
        let stays = stays.map_err(|error| failure(&error))?;
        client.batch_execute("COMMIT").await.map_err(|error| failure(&error))?;
        Ok(stays)
    }
}

/// The hint of the installation script, if it has refused the installation.
pub(crate) fn hint(error: &Error) -> Option<&str> {
    let Error::Database { source: Some(source), .. } = error else { return None };
    let db = source.downcast_ref::<DbError>()?;
    // The codes that the script uses. The hints of Postgres itself are about other statements.
    let is_ours = [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::DUPLICATE_OBJECT].contains(db.code());
    db.hint().filter(|_| is_ours)
}

/// Begins a transaction with the advisory lock of installations. After a failure the session is not used any more.
async fn begin(client: &Client) -> Result<()> {
    let begin = format!("BEGIN; SELECT pg_catalog.pg_advisory_xact_lock({INSTALLING})");
    client.batch_execute(&begin).await.map_err(|error| failure(&error))
}

/// The error of the server with its DETAIL: the objects that depend on a function.
fn refusal(error: &tokio_postgres::Error) -> Error {
    let detail = error.as_db_error().and_then(DbError::detail);
    match (failure(error), detail) {
        (Error::Database { message, sqlstate, source }, Some(detail)) => {
            let detail = detail.split('\n').collect::<Vec<_>>().join("; ");
            Error::Database { message: format!("{message}: {detail}"), sqlstate, source }
        }
        (error, _) => error,
    }
}
