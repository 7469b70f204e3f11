//! `--table-name` names a table of another application: pgio reads, writes and deletes nothing in it.

use std::time::Duration;

use pgio::{AdapterOptions, Cluster, Emitter, Error, PostgresAdapterCtr, Settings};
use serde_bytes::ByteBuf;

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::pgio::{pgio, run};
use crate::support::pgio_serve::fails;
use crate::support::postgres::postgres;
use crate::support::sql::query_text;

/// Tables that a cluster could use by mistake, each with rows that are old enough for the cleanup, and the expected
/// error.
const TABLES: [(&str, &str, &str); 4] = [
    (
        "orders",
        "CREATE TABLE orders (id bigserial PRIMARY KEY, created_at timestamptz DEFAULT now(), total numeric)",
        "it has no column payload; it has a column \"total\", which no attachment table has",
    ),
    (
        "outbox",
        "CREATE TABLE outbox (id bigserial PRIMARY KEY, created_at timestamptz DEFAULT now(), payload bytea, topic text)",
        "it has a column \"topic\", which no attachment table has",
    ),
    (
        "files",
        "CREATE TABLE files (id bigserial PRIMARY KEY, created_at timestamptz DEFAULT now(), payload bytea);
         CREATE TABLE owners (file bigint REFERENCES files ON DELETE CASCADE)",
        "a foreign key of owners references it",
    ),
    (
        "recent",
        "CREATE TABLE hidden (id bigserial, created_at timestamptz DEFAULT now(), payload bytea);
         CREATE VIEW recent AS SELECT * FROM hidden",
        "it is not a table",
    ),
];

const COMMANDS: [&[&str]; 11] = [
    &["emit", "x", r#"{"$binary":"AQ=="}"#],
    &["emit", "--ack", "--timeout", "1s", "x"],
    &["tail", "--for", "1s"],
    &["nodes", "--wait", "100ms"],
    &["sockets"],
    &["rooms"],
    &["attachments", "init"],
    &["attachments", "list"],
    &["attachments", "show", "1"],
    &["attachments", "stats"],
    &["attachments", "cleanup", "--yes", "--older-than", "1ms"],
];

#[tokio::test]
async fn every_command_refuses_a_table_of_somebody_else() {
    let postgres = postgres().await;
    let url = postgres.url();
    for (table, create, reason) in TABLES {
        execute(url, create).await;
        let fill = format!(
            "INSERT INTO {table} (created_at) SELECT now() - interval '1 h' FROM generate_series(1, 3)"
        );
        execute(url, &fill).await;
        let expected = format!(
            "error: the attachment table {table} cannot be used: {reason}\nhint: undo that if it is the table of the servers, else choose another --table-name for all of them\n"
        );
        let table_name = ["--table-name", table];
        for command in COMMANDS {
            let outcome = run(&mut pgio(url, &[command, &table_name].concat())).await;
            assert_eq!((outcome.status, &*outcome.stderr), (1, &*expected), "{command:?}");
        }
        for more in [&["--no-init"][..], &[]] {
            let serve =
                [&["--database-url", url, "--cleanup-interval", "50ms"], &table_name[..], more].concat();
            assert_eq!(fails(&serve).await, (1, expected.clone()));
        }
        assert_eq!(query_text(url, &format!("SELECT count(*) FROM {table}")).await, "3", "{table}");
    }
}

#[tokio::test]
async fn the_library_refuses_it_before_the_first_statement() {
    let postgres = postgres().await;
    let (table, create, _) = TABLES[1];
    execute(postgres.url(), create).await;
    execute(postgres.url(), "INSERT INTO outbox (created_at, payload) VALUES (now() - interval '1 h', 'x')")
        .await;
    let options = AdapterOptions::default()
        .table_name(table.parse().unwrap())
        .cleanup_interval(Duration::from_millis(1));
    let refused =
        |outcome: Result<(), Error>| assert!(matches!(outcome, Err(Error::TableShape { .. })), "{outcome:?}");

    refused(PostgresAdapterCtr::connect(postgres.url(), options.clone()).await.map(drop));
    let cluster = Cluster::connect(Settings::parse(postgres.url()).unwrap(), options).await.unwrap();
    refused(cluster.check_attachment_table().await);
    refused(cluster.create_attachment_table().await.map(drop));
    refused(cluster.clean_up_attachments().await.map(drop));
    refused(cluster.subscribe(["/"], |_| true).await.map(drop));
    let emitter = Emitter::new(cluster);
    // Messages that need no table are published, even in one batch with messages that need it.
    let (inline, attached) =
        tokio::join!(emitter.emit("inline", 1), emitter.emit("attached", ByteBuf::from([1])));
    inline.unwrap();
    refused(attached);
    assert_eq!(query_text(postgres.url(), "SELECT count(*) FROM outbox").await, "1");

    // The owner repairs the table, and no program has to restart.
    execute(postgres.url(), "ALTER TABLE outbox DROP topic").await;
    emitter.emit("attached", ByteBuf::from([1])).await.unwrap();
}

#[tokio::test]
async fn the_table_of_the_node_documentation_is_taken() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let cluster =
        Cluster::connect(Settings::parse(postgres.url()).unwrap(), AdapterOptions::default()).await.unwrap();
    cluster.check_attachment_table().await.unwrap();
    assert!(!cluster.create_attachment_table().await.unwrap());
    cluster.clean_up_attachments().await.unwrap();
    for command in COMMANDS {
        // There is no server to acknowledge, and no row 1.
        let outcome = run(&mut pgio(postgres.url(), command)).await;
        assert!(
            outcome.status == 0 || !outcome.stderr.contains("attachment table"),
            "{command:?}: {outcome:?}"
        );
    }
}
