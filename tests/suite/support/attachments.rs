//! The attachment table, which the Node packages require.

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use super::pgio_serve::until;

/// Creates `socket_io_attachments`, as in the documentation of the Node adapter.
pub async fn create_attachment_table(url: &str) {
    let table = "CREATE TABLE IF NOT EXISTS socket_io_attachments (
        id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)";
    execute(url, table).await;
}

/// Executes statements on a separate connection.
pub async fn execute(url: &str, statements: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres is up");
    let execute = async move {
        // Owns the client, and so ends the connection.
        client.batch_execute(statements).await
    };
    let (connection, executed) = tokio::join!(connection, execute);
    executed.expect("the statements are right");
    connection.expect("the connection holds");
}

/// The table, locked by a separate transaction. Other sessions have to wait for it.
pub struct LockedTable {
    client: Client,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
}

/// Locks the attachment table.
pub async fn lock_attachment_table(url: &str) -> LockedTable {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres is up");
    let connection = tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE socket_io_attachments").await.expect("it can be locked");
    LockedTable { client, connection }
}

impl LockedTable {
    /// Waits until another session waits for the table.
    pub async fn wait_for_others(&self) {
        let waiting = "SELECT count(*) FROM pg_locks
            WHERE relation = 'socket_io_attachments'::regclass AND NOT granted";
        let count = async || self.client.query_one(waiting, &[]).await.expect("it is right").get::<_, i64>(0);
        until("somebody waits for the table", async || count().await > 0).await;
    }

    /// The server process that holds the lock.
    pub async fn pid(&self) -> i32 {
        self.client.query_one("SELECT pg_backend_pid()", &[]).await.expect("it is right").get(0)
    }

    /// Releases the lock.
    pub async fn release(self) {
        drop(self.client);
        self.connection.await.expect("no panic").expect("the connection holds");
    }
}
