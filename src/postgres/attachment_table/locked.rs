//! A table that another session has locked: every wait for it has a deadline.

use tokio_postgres::Error as PgError;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::AttachmentTable;
use crate::Error;
use crate::postgres::attachments::table_failure;

/// Begins a transaction with a lock timeout. The setting ends with the transaction, since a pooler may give the session to
/// another client afterwards.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '5s'";

/// The same, as a column of a query.
#[cfg(feature = "cli")]
pub(super) const LIMIT: &str = "pg_catalog.set_config('lock_timeout', '5s', true)";

/// The query for the blocking session: the one with the strongest lock that conflicts with reading or writing.
const HOLDER: &str = "SELECT pid FROM pg_catalog.pg_locks \
     WHERE locktype = 'relation' AND relation = pg_catalog.to_regclass($1) \
     AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
     AND mode = ANY (ARRAY['AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock']) \
     AND pid IS NOT NULL ORDER BY granted DESC, mode LIMIT 1";

impl AttachmentTable {
    /// Classifies a failed statement. After a lock timeout it looks for the blocking session.
    pub(super) async fn explain(&self, error: &PgError) -> Error {
        if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
            return table_failure(error, &self.name);
        }
        Error::TableLocked { table: self.name.to_string(), pid: self.holder().await }
    }

    /// The pid of the blocking session; `None` if it has just ended, or is a prepared transaction.
    async fn holder(&self) -> Option<i32> {
        let client = self.session.client().await.ok()?;
        let rows = client.query_typed(HOLDER, &[(&self.name.as_sql(), Type::TEXT)]).await.ok()?;
        rows.first()?.try_get(0).ok()
    }
}
