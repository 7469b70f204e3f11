//! The attachment table, which the Node packages expect to find.

use tokio_postgres::NoTls;

/// Creates `socket_io_attachments`, as the documentation of the Node adapter tells its users to.
pub async fn create_attachment_table(url: &str) {
    let table = "CREATE TABLE IF NOT EXISTS socket_io_attachments (
        id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)";
    execute(url, table).await;
}

/// Executes statements on a connection of their own.
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
