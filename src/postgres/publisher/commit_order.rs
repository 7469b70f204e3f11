//! The order of transactions when one is sent before the commit of the one before is answered (pipelining).
//!
//! Each transaction of a flood writes its number to a setting of the session, and a rollback takes that back. The next
//! transaction begins with a comparison: if the setting is not the number of the one before, the server rejects the whole
//! transaction. So it cannot be committed before the one that has to be retried.
//!
//! A pooler in transaction mode may run the next transaction in another session, without that setting. Then no transaction
//! is sent ahead any more.

use std::fmt::{self, Display};

use tokio_postgres::Error as PgError;
use tokio_postgres::error::SqlState;

/// Numbers the transactions of one publisher.
pub(super) struct CommitOrder {
    publisher: u64,
    last: u64,
    may_send_ahead: bool,
}

/// The number of a transaction, unique among all publishers: several may share a session of a pooler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TransactionNumber {
    publisher: u64,
    transaction: u64,
}

impl Default for CommitOrder {
    fn default() -> Self {
        Self { publisher: fastrand::u64(..), last: 0, may_send_ahead: true }
    }
}

impl CommitOrder {
    /// The number of the next transaction.
    pub(super) fn next(&mut self) -> TransactionNumber {
        self.last += 1;
        TransactionNumber { publisher: self.publisher, transaction: self.last }
    }

    /// Whether a transaction may be sent ahead.
    pub(super) fn may_send_ahead(&self) -> bool {
        self.may_send_ahead
    }

    /// The server rejected a transaction though the one before was committed: they do not share a session.
    pub(super) fn stop_sending_ahead(&mut self) {
        tracing::debug!("transactions do not share a session, so none is sent ahead any more");
        self.may_send_ahead = false;
    }
}

impl Display for TransactionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.publisher, self.transaction)
    }
}

impl TransactionNumber {
    /// Begins a transaction that the server rejects unless this one is committed. The text of the error is for the
    /// server's log.
    pub(super) fn begin_after(self) -> String {
        format!(
            "BEGIN; SELECT CASE current_setting('pgio.committed', true) WHEN '{self}' THEN '1' \
             ELSE 'pgio: the transaction before was rolled back' END::integer"
        )
    }

    /// The last statement before the commit. It fails if an error has aborted the transaction: the server would answer
    /// COMMIT without an error.
    pub(super) fn mark(self) -> String {
        format!("SELECT set_config('pgio.committed', '{self}', false)")
    }
}

/// Whether this error is that of [`TransactionNumber::begin_after`]. Only for the answer to that statement.
pub(super) fn is_out_of_order(error: &PgError) -> bool {
    error.code() == Some(&SqlState::INVALID_TEXT_REPRESENTATION)
}
