//! Questions to the database that a test asks on its own.

use tokio_postgres::{NoTls, SimpleQueryMessage};

/// The first column of the first row, as text; empty where it is NULL.
pub async fn query_text(url: &str, query: &str) -> String {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres is up");
    let ask = async move {
        // Owns the client, and so ends the connection.
        client.simple_query(query).await
    };
    let (connection, answer) = tokio::join!(connection, ask);
    connection.expect("the connection holds");
    let answer = answer.expect("the query is right");
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.expect("a row").get(0).unwrap_or_default().to_owned()
}
