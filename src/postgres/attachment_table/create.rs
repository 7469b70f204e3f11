//! Creates the attachment table, or adds what is missing.

use std::time::Duration;

use futures_util::future;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error as PgError, SimpleQueryMessage};

use super::{AttachmentTable, LOCK_SPACE, Shape, definition_failure, locked};
use crate::postgres::table::quote_identifier;
use crate::postgres::{Session, failure};
use crate::{Error, Result};

/// The lock of those who create the table.
const CREATING: i64 = LOCK_SPACE;
/// The lock of those who change a table that is there. Object ids, which other locks of ours end in, are never 1.
const CHANGING: i64 = LOCK_SPACE + 1;

/// How often to ask whether another one has finished changing the table.
const LOOK: Duration = Duration::from_millis(50);

/// How long publishers may have to wait behind a change that waits for its turn itself.
const LOCK_TIMEOUT: &str = "2s";

/// The number of retries after another session changed the table concurrently.
const ROUNDS: usize = 5;

/// Whether Postgres writes the rows to its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// It does.
    Logged,
    /// It does not: half the work, and the table is empty after a crash of the server, and always on its standbys. That
    /// is no loss for rows that live for seconds.
    Unlogged,
}

/// Something that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The table was created, with its indexes.
    Table(Storage),
    /// An index was added on this column.
    Index(&'static str),
    /// The table was rewritten.
    Storage(Storage),
}

impl Storage {
    fn as_sql(self) -> &'static str {
        match self {
            Self::Logged => "LOGGED",
            Self::Unlogged => "UNLOGGED",
        }
    }
}

impl AttachmentTable {
    /// Creates the table, with an index on `created_at`, where there is none; tells whether it did. Any number may do
    /// this at once. A table that is there is never changed.
    ///
    /// # Errors
    /// [`Error::TableShape`](crate::Error::TableShape) where there is a table with other columns,
    /// [`Error::TableDefinition`](crate::Error::TableDefinition) where the schema is missing, or the right to create
    /// tables in it.
    pub async fn create_if_missing(&self) -> Result<bool> {
        match self.shape().await? {
            Some(shape) => shape.check(&self.name).map(|()| false),
            None => self.create(Storage::Logged).await,
        }
    }

    /// Creates the table where there is none; otherwise adds the indexes that are missing, while publishing goes on, and
    /// moves the table to that storage if one is given, which makes publishers of attachments wait until it is done.
    /// Any number may do this at once. Tells what was changed.
    ///
    /// # Errors
    /// [`Error::TableShape`](crate::Error::TableShape) where there is a table with other columns,
    /// [`Error::TableDefinition`](crate::Error::TableDefinition) where the schema is missing, or a right.
    pub async fn init(&self, storage: Option<Storage>) -> Result<Vec<Change>> {
        let new_storage = storage.unwrap_or(Storage::Logged);
        let mut changes = Vec::new();
        let shape = match self.shape().await? {
            Some(shape) => shape.check(&self.name).map(|()| shape)?,
            None => {
                if self.create(new_storage).await? {
                    changes.push(Change::Table(new_storage));
                }
                self.existing_shape().await?
            }
        };
        if !is_complete(&shape, storage) {
            let turn = self.wait_for_setup_lock().await?;
            self.complete(storage, &mut changes).await?;
            turn.end().await?;
        }
        Ok(changes)
    }

    async fn create(&self, storage: Storage) -> Result<bool> {
        for _ in 1..ROUNDS {
            match self.try_create(storage).await {
                // A server has created the table itself at this moment, without our lock.
                Err(TryError::Postgres(error)) if is_about_existing(&error) => {}
                outcome => return outcome.map_err(|error| error.meaning(self)),
            }
        }
        self.try_create(storage).await.map_err(|error| error.meaning(self))
    }

    async fn try_create(&self, storage: Storage) -> Result<bool, TryError> {
        let table = self.name.as_sql();
        let unlogged = if storage == Storage::Unlogged { "UNLOGGED " } else { "" };
        // A connection for this only: whatever happens, the transaction ends with it.
        let session = Session::open(self.settings.clone()).await?;
        let client = session.client().await?;
        client.batch_execute("BEGIN").await?;
        client.query_typed("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[(&CREATING, Type::INT8)]).await?;
        let missing = "SELECT pg_catalog.to_regclass($1) IS NULL";
        let missing = client.query_typed(missing, &[(&table, Type::TEXT)]).await?;
        if !missing.first().map_or(Ok(false), |row| row.try_get(0))? {
            return Ok(false);
        }
        let create = format!(
            "CREATE {unlogged}TABLE {table} \
             (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea); \
             CREATE INDEX ON {table} (created_at); COMMIT"
        );
        client.batch_execute(&create).await?;
        Ok(true)
    }

    /// Waits until no other one of us changes the table. Asks again and again: who waits in the server holds a
    /// snapshot, and CREATE INDEX CONCURRENTLY waits for every such transaction.
    async fn wait_for_setup_lock(&self) -> Result<SetupLock> {
        let session = Session::open(self.settings.clone()).await?;
        let client = session.client().await?;
        loop {
            // The lock of a transaction, since a session may be another one's in the next moment behind a pooler. A
            // simple query, as the portal of any other one would keep its snapshot until the end of the transaction.
            let begin = format!(
                "BEGIN; SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true); \
                 SELECT pg_catalog.pg_try_advisory_xact_lock({CHANGING})"
            );
            let answers = client.simple_query(&begin).await.map_err(|error| failure(&error))?;
            let is_locked = answers.iter().any(|answer| match answer {
                SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
                _ => false,
            });
            if is_locked {
                return Ok(SetupLock { session });
            }
            client.batch_execute("ROLLBACK").await.map_err(|error| failure(&error))?;
            sleep(LOOK).await;
        }
    }

    /// Fails where another session keeps the table locked: building an index would wait for it for ever.
    async fn must_be_unlocked(&self, client: &Client) -> Result<()> {
        let table = self.name.as_sql();
        let lock = format!("{}; LOCK TABLE {table} IN ROW EXCLUSIVE MODE", locked::BEGIN);
        let (tried, ended) =
            future::join(client.batch_execute(&lock), client.batch_execute("ROLLBACK")).await;
        match tried {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Err(self.explain(&error).await)
            }
            // Whatever else is wrong, the change itself says it better.
            _ => ended.map_err(|error| failure(&error)),
        }
    }

    /// Makes the changes. Only the holder of the setup lock calls this.
    async fn complete(&self, storage: Option<Storage>, changes: &mut Vec<Change>) -> Result<()> {
        let table = self.name.as_sql();
        let shape = self.existing_shape().await?;
        let client = self.session.client().await?;
        let fail = |error: PgError| definition_failure(&error, &self.name);
        self.must_be_unlocked(&client).await?;
        for column in shape.unindexed() {
            if !is_building_an_index(&client, &shape).await {
                for broken in shape.broken_indexes(column) {
                    let (schema, index) = (quote_identifier(&shape.schema), quote_identifier(broken));
                    let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{index}");
                    client.batch_execute(&drop).await.map_err(fail)?;
                }
            }
            // A plain CREATE INDEX would keep every publisher waiting for as long as it takes.
            let unique = if column == "id" { "UNIQUE " } else { "" };
            let create = format!("CREATE {unique}INDEX CONCURRENTLY ON {table} ({column})");
            client.batch_execute(&create).await.map_err(fail)?;
            changes.push(Change::Index(column));
        }
        if let Some(storage) = storage.filter(|storage| *storage != shape.storage()) {
            // Queues for the table no longer than that, as all who use it queue behind.
            let alter = format!(
                "SELECT pg_catalog.set_config('lock_timeout', '{LOCK_TIMEOUT}', true); \
                 ALTER TABLE {table} SET {}",
                storage.as_sql()
            );
            client.batch_execute(&alter).await.map_err(fail)?;
            changes.push(Change::Storage(storage));
        }
        Ok(())
    }
}

/// The right to change the table.
struct SetupLock {
    session: Session,
}

impl SetupLock {
    async fn end(self) -> Result<()> {
        let client = self.session.client().await?;
        client.batch_execute("COMMIT").await.map_err(|error| failure(&error))
    }
}

/// Why an attempt failed, before the error is classified.
enum TryError {
    Known(Error),
    Postgres(PgError),
}

impl TryError {
    fn meaning(self, table: &AttachmentTable) -> Error {
        match self {
            Self::Known(error) => error,
            Self::Postgres(error) => definition_failure(&error, &table.name),
        }
    }
}

impl From<Error> for TryError {
    fn from(error: Error) -> Self {
        Self::Known(error)
    }
}

impl From<PgError> for TryError {
    fn from(error: PgError) -> Self {
        Self::Postgres(error)
    }
}

fn is_complete(shape: &Shape, storage: Option<Storage>) -> bool {
    shape.unindexed().next().is_none() && storage.is_none_or(|storage| storage == shape.storage())
}

/// Whether the server says that this is there already, in one of the many ways in which it does.
fn is_about_existing(error: &PgError) -> bool {
    let codes = [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT, SqlState::UNIQUE_VIOLATION];
    error.code().is_some_and(|code| codes.contains(code))
}

/// Whether another session builds an index on the table, which looks like an invalid index until it is finished.
async fn is_building_an_index(client: &Client, shape: &Shape) -> bool {
    let building = "SELECT FROM pg_catalog.pg_stat_progress_create_index WHERE relid = $1";
    let rows = client.query_typed(building, &[(&shape.oid, Type::OID)]).await;
    // Servers before 12 cannot tell.
    rows.is_ok_and(|rows| !rows.is_empty())
}
