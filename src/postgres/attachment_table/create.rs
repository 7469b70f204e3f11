//! Creates the attachment table, or adds missing indexes.

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

/// The advisory lock for the creation of the table.
const CREATE_LOCK: i64 = LOCK_SPACE;
/// The advisory lock for changes of an existing table. Other locks of pgio end in an object id, which is never 1.
const CHANGE_LOCK: i64 = LOCK_SPACE + 1;

/// The interval between two checks whether another session has finished its change.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long a change may wait for its table lock. Publishers queue behind it.
const LOCK_TIMEOUT: &str = "2s";

/// The number of retries after another session changed the table concurrently.
const ATTEMPTS: usize = 5;

/// Whether Postgres writes the rows to its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Yes.
    Logged,
    /// No: half the work. The table is empty after a crash of the server, and always on its standbys. That is acceptable
    /// for rows that live for seconds.
    Unlogged,
}

/// A change of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The table was created, with its indexes.
    Table(Storage),
    /// An index was added on this column.
    Index(&'static str),
    /// The replica identity was set to the unique index on `id`.
    ReplicaIdentity,
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
    /// Creates the table, with an index on `created_at`, if it does not exist. Returns whether it was created. Any number
    /// of processes may call this concurrently. An existing table is never changed.
    ///
    /// # Errors
    /// [`Error::TableShape`](crate::Error::TableShape) if there is a table with other columns,
    /// [`Error::TableDefinition`](crate::Error::TableDefinition) if the schema or the privilege to create tables in it is
    /// missing.
    pub async fn create_if_missing(&self) -> Result<bool> {
        match self.shape().await? {
            Some(shape) => shape.definition.check(&self.name).map(|()| false),
            None => self.create(Storage::Logged).await,
        }
    }

    /// Creates the table if it does not exist. Otherwise it adds missing indexes, without blocking publishers, sets the replica
    /// identity if this role owns the table, and changes the storage if one is given, which blocks publishers of attachments
    /// until it is done. Any number of processes may call this concurrently. Returns the changes.
    ///
    /// # Errors
    /// [`Error::TableShape`](crate::Error::TableShape) if there is a table with other columns,
    /// [`Error::TableDefinition`](crate::Error::TableDefinition) if the schema or a privilege is missing.
    pub async fn init(&self, storage: Option<Storage>) -> Result<Vec<Change>> {
        let new_storage = storage.unwrap_or(Storage::Logged);
        let mut changes = Vec::new();
        let shape = match self.shape().await? {
            Some(shape) => shape.definition.check(&self.name).map(|()| shape)?,
            None => {
                if self.create(new_storage).await? {
                    changes.push(Change::Table(new_storage));
                }
                self.existing_shape().await?
            }
        };
        if !is_complete(&shape, storage) {
            let lock = self.acquire_setup_lock().await?;
            self.complete(storage, &mut changes).await?;
            lock.end().await?;
        }
        Ok(changes)
    }

    async fn create(&self, storage: Storage) -> Result<bool> {
        for _ in 1..ATTEMPTS {
            match self.try_create(storage).await {
                // A server has created the table concurrently, without our lock.
                Err(TryError::Postgres(error)) if is_about_existing(&error) => {}
                outcome => return outcome.map_err(|error| error.classify(self)),
            }
        }
        self.try_create(storage).await.map_err(|error| error.classify(self))
    }

    async fn try_create(&self, storage: Storage) -> Result<bool, TryError> {
        let table = self.name.as_sql();
        let unlogged = if storage == Storage::Unlogged { "UNLOGGED " } else { "" };
        // A dedicated connection: the transaction ends with it in any case.
        let session = Session::open(self.settings.clone()).await?;
        let client = session.client().await?;
        client.batch_execute("BEGIN").await?;
        client
            .query_typed("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[(&CREATE_LOCK, Type::INT8)])
            .await?;
        let missing = "SELECT pg_catalog.to_regclass($1) IS NULL";
        let missing = client.query_typed(missing, &[(&table, Type::TEXT)]).await?;
        if !missing.first().map_or(Ok(false), |row| row.try_get(0))? {
            return Ok(false);
        }
        // The primary key is also the replica identity, without which a publication makes every DELETE fail.
        let create = format!(
            "CREATE {unlogged}TABLE {table} \
             (id bigserial PRIMARY KEY, created_at timestamptz DEFAULT NOW(), payload bytea); \
             CREATE INDEX ON {table} (created_at); COMMIT"
        );
        client.batch_execute(&create).await?;
        Ok(true)
    }

    /// Waits until no other pgio process changes the table. It polls: a session that waits in the server holds a snapshot,
    /// and CREATE INDEX CONCURRENTLY waits for every transaction with a snapshot.
    async fn acquire_setup_lock(&self) -> Result<SetupLock> {
        let session = Session::open(self.settings.clone()).await?;
        let client = session.client().await?;
        loop {
            // A transaction lock, since a pooler may give the session to another client afterwards. A simple query, since
            // the portal of an extended query would keep its snapshot until the end of the transaction.
            let begin = format!(
                "BEGIN; SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true); \
                 SELECT pg_catalog.pg_try_advisory_xact_lock({CHANGE_LOCK})"
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
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Fails if another session keeps the table locked, since building an index would wait for it forever.
    async fn ensure_unlocked(&self, client: &Client) -> Result<()> {
        let table = self.name.as_sql();
        let lock = format!("{}; LOCK TABLE {table} IN ROW EXCLUSIVE MODE", locked::BEGIN);
        let (tried, ended) =
            future::join(client.batch_execute(&lock), client.batch_execute("ROLLBACK")).await;
        match tried {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Err(self.explain(&error).await)
            }
            // The change itself reports any other error better.
            _ => ended.map_err(|error| failure(&error)),
        }
    }

    /// Makes the changes. Only the holder of the setup lock calls this.
    async fn complete(&self, storage: Option<Storage>, changes: &mut Vec<Change>) -> Result<()> {
        let table = self.name.as_sql();
        let shape = self.existing_shape().await?;
        let client = self.session.client().await?;
        let fail = |error: PgError| definition_failure(&error, &self.name);
        self.ensure_unlocked(&client).await?;
        for column in shape.unindexed() {
            if !is_building_an_index(&client, &shape).await {
                for broken in shape.broken_indexes(column) {
                    let (schema, index) =
                        (quote_identifier(&shape.definition.schema), quote_identifier(broken));
                    let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{index}");
                    client.batch_execute(&drop).await.map_err(fail)?;
                }
            }
            // A plain CREATE INDEX would block every publisher until it is done.
            let unique = if column == "id" { "UNIQUE " } else { "" };
            let create = format!("CREATE {unique}INDEX CONCURRENTLY ON {table} ({column})");
            client.batch_execute(&create).await.map_err(fail)?;
            changes.push(Change::Index(column));
        }
        // With a lock timeout, since all other users of the table queue behind such a statement.
        let alter = async |change: &str| {
            let alter = format!(
                "SELECT pg_catalog.set_config('lock_timeout', '{LOCK_TIMEOUT}', true); \
                 ALTER TABLE {table} {change}"
            );
            client.batch_execute(&alter).await.map_err(fail)
        };
        // With the new indexes.
        let shape = self.existing_shape().await?;
        if let Some(index) = shape.missing_identity() {
            alter(&format!("REPLICA IDENTITY USING INDEX {}", quote_identifier(index))).await?;
            changes.push(Change::ReplicaIdentity);
        }
        if let Some(storage) = storage.filter(|storage| *storage != shape.storage()) {
            alter(&format!("SET {}", storage.as_sql())).await?;
            changes.push(Change::Storage(storage));
        }
        Ok(())
    }
}

/// The exclusive right to change the table.
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
    fn classify(self, table: &AttachmentTable) -> Error {
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
    shape.unindexed().next().is_none()
        && shape.missing_identity().is_none()
        && storage.is_none_or(|storage| storage == shape.storage())
}

/// Whether the error means that the object already exists.
fn is_about_existing(error: &PgError) -> bool {
    let codes = [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT, SqlState::UNIQUE_VIOLATION];
    error.code().is_some_and(|code| codes.contains(code))
}

/// Whether another session builds an index on the table, which looks like an invalid index until it is finished.
async fn is_building_an_index(client: &Client, shape: &Shape) -> bool {
    let building = "SELECT FROM pg_catalog.pg_stat_progress_create_index WHERE relid = $1";
    let rows = client.query_typed(building, &[(&shape.definition.oid, Type::OID)]).await;
    // Servers before version 12 do not have this view.
    rows.is_ok_and(|rows| !rows.is_empty())
}
