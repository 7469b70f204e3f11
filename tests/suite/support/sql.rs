//! Queries of a test, independent of pgio.

use std::ops::Deref;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

/// The first column of the first row, as text. Empty if it is NULL.
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

/// A session of an application without pgio.
pub struct Session {
    client: Client,
    _driver: AbortOnDropHandle<()>,
}

impl Session {
    pub async fn open(url: &str) -> Session {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres is up");
        let driver = tokio::spawn(async move { connection.await.expect("the connection holds") });
        Session { client, _driver: AbortOnDropHandle::new(driver) }
    }

    /// Executes statements that have to succeed.
    pub async fn execute(&self, statements: &str) {
        self.client
            .batch_execute(statements)
            .await
            .unwrap_or_else(|error| panic!("{statements}: {}", text(&error)));
    }

    /// Executes one statement with parameters.
    pub async fn execute_typed(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) {
        let done = self.client.query(statement, parameters).await;
        done.unwrap_or_else(|error| panic!("{statement}: {}", text(&error)));
    }

    /// Executes statements that have to fail. Returns the error code, and the message with the detail.
    pub async fn refuses(&self, statements: &str) -> (String, String) {
        let Err(error) = self.client.batch_execute(statements).await else {
            panic!("{statements}: it succeeds")
        };
        (error.code().expect("an error of the server").code().to_owned(), text(&error))
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.detail().unwrap_or_default()),
        None => error.to_string(),
    }
}
