//! Creates the table, completes an existing one, and reports what cannot be done.

use std::time::Duration;

use futures_util::future::join_all;
use pgio::postgres::{AttachmentTable, Change, Storage, TableName};
use pgio::{AdapterOptions, Cluster, Settings};
use serde_json::json;
use tokio_postgres::NoTls;

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::pgio::{Outcome, Running, pgio, run};
use crate::support::postgres::{Postgres, own_server, postgres, url_as};
use crate::support::sql::query_text;

const INIT: [&str; 2] = ["attachments", "init"];

async fn init(url: &str, arguments: &[&str]) -> Outcome {
    run(&mut pgio(url, &[&INIT, arguments].concat())).await
}

/// The columns on which the table has a complete index, in order.
async fn indexed(postgres: &Postgres, table: &str) -> String {
    let query = format!(
        "SELECT string_agg(attname, ',' ORDER BY attname) FROM pg_index \
         JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] \
         WHERE indrelid = '{table}'::regclass AND indisvalid"
    );
    query_text(postgres.url(), &query).await
}

async fn persistence(postgres: &Postgres, table: &str) -> String {
    let query = format!("SELECT relpersistence FROM pg_class WHERE oid = '{table}'::regclass");
    query_text(postgres.url(), &query).await
}

#[tokio::test]
async fn the_table_is_created_and_used() {
    let postgres = postgres().await;
    let created = init(postgres.url(), &[]).await.succeeded();
    assert_eq!(created.stdout, "created socket_io_attachments, with an index on created_at\n");
    assert_eq!(indexed(&postgres, "socket_io_attachments").await, "created_at,id");
    let query = "SELECT string_agg(format_type(atttypid, NULL), ',' ORDER BY attnum) FROM pg_attribute \
        WHERE attrelid = 'socket_io_attachments'::regclass AND attnum > 0";
    let types = query_text(postgres.url(), query).await;
    assert_eq!(types, "bigint,timestamp with time zone,bytea");
    run(&mut pgio(postgres.url(), &["emit", "x", r#"{"$binary":"AQ=="}"#])).await.succeeded();

    let again = init(postgres.url(), &[]).await.succeeded();
    assert_eq!(again.stdout, "socket_io_attachments is complete already\n");
    let count = query_text(postgres.url(), "SELECT count(*) FROM socket_io_attachments").await;
    assert_eq!(count, "1");
}

#[tokio::test]
async fn json_reports_the_changes() {
    let postgres = postgres().await;
    let created = init(postgres.url(), &["-o", "json"]).await.succeeded().json();
    let expected = json!({"table": "socket_io_attachments", "created": true, "indexed": [], "unlogged": false,
        "changed": true});
    assert_eq!(created, [expected]);
    let again = init(postgres.url(), &["-o", "json"]).await.succeeded().json();
    assert_eq!((&again[0]["created"], &again[0]["changed"]), (&json!(false), &json!(false)));
}

#[tokio::test]
async fn twenty_at_once_create_one() {
    // A separate server, whose log shows that no session met an error.
    let server = own_server().await;
    let url = server.url();
    let outcomes = join_all((0..20).map(|_| init(&url, &["-o", "json"]))).await;
    let created: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.succeeded().json()[0]["created"] == true).collect();
    assert_eq!(created.iter().filter(|created| **created).count(), 1, "{created:?}");
    let log = std::fs::read_to_string(server.log_file()).unwrap();
    assert!(!log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn twenty_at_once_complete_one() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    execute(
        postgres.url(),
        "INSERT INTO socket_io_attachments (payload) SELECT 'x' FROM generate_series(1, 10000)",
    )
    .await;
    let outcomes = join_all((0..20).map(|_| init(postgres.url(), &["-o", "json"]))).await;
    let added: usize = outcomes
        .into_iter()
        .map(|outcome| outcome.succeeded().json()[0]["indexed"].as_array().unwrap().len())
        .sum();
    assert_eq!(added, 1);
    assert_eq!(indexed(&postgres, "socket_io_attachments").await, "created_at,id");
}

/// Twenty connected sessions, so that their statements interleave.
async fn init_twenty(url: &str) -> Vec<Change> {
    let settings = Settings::parse(url).unwrap();
    let tables = (0..20).map(|_| AttachmentTable::connect(settings.clone(), TableName::default()));
    let tables: Vec<_> = join_all(tables).await.into_iter().map(Result::unwrap).collect();
    let changes = join_all(tables.iter().map(|table| table.init(None))).await;
    changes.into_iter().flat_map(Result::unwrap).collect()
}

#[tokio::test]
async fn twenty_in_the_same_moment() {
    let server = own_server().await;
    assert_eq!(init_twenty(&server.url()).await, [Change::Table(Storage::Logged)]);
    execute(&server.url(), "DROP INDEX socket_io_attachments_created_at_idx").await;
    assert_eq!(init_twenty(&server.url()).await, [Change::Index("created_at")]);
    let settings = Settings::parse(&server.url()).unwrap();
    execute(&server.url(), "DROP TABLE socket_io_attachments").await;
    let cluster = Cluster::connect(settings, AdapterOptions::default()).await.unwrap();
    let created = join_all((0..20).map(|_| cluster.create_attachment_table())).await;
    assert_eq!(created.into_iter().filter(|created| *created.as_ref().unwrap()).count(), 1);
    let log = std::fs::read_to_string(server.log_file()).unwrap();
    assert!(!log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn the_storage_is_changed_on_request_only() {
    let postgres = postgres().await;
    let created = init(postgres.url(), &["--unlogged"]).await.succeeded();
    assert_eq!(created.stdout, "created socket_io_attachments, unlogged, with an index on created_at\n");
    init(postgres.url(), &[]).await.succeeded();
    assert_eq!(persistence(&postgres, "socket_io_attachments").await, "u");
    let logged = init(postgres.url(), &["--logged"]).await.succeeded();
    assert_eq!(logged.stdout, "made socket_io_attachments logged\n");
    assert_eq!(persistence(&postgres, "socket_io_attachments").await, "p");
    let unlogged = init(postgres.url(), &["--unlogged", "-o", "json"]).await.succeeded().json();
    assert_eq!((&unlogged[0]["unlogged"], &unlogged[0]["changed"]), (&json!(true), &json!(true)));
    let again = init(postgres.url(), &["--unlogged"]).await.succeeded();
    assert_eq!(again.stdout, "socket_io_attachments is complete already\n");
}

#[tokio::test]
async fn names_with_schema_and_quotes() {
    let postgres = postgres().await;
    let missing = init(postgres.url(), &["--table-name", "app.files"]).await;
    assert_eq!(missing.status, 1, "{missing:?}");
    let expected =
        "error: cannot set up the attachment table app.files: schema \"app\" does not exist\nhint: ";
    assert!(missing.stderr.starts_with(expected), "{missing:?}");

    execute(postgres.url(), "CREATE SCHEMA app").await;
    init(postgres.url(), &["--table-name", "app.files"]).await.succeeded();
    assert_eq!(indexed(&postgres, "app.files").await, "created_at,id");
    let odd = "app.\"Pictures \"\"of\"\" cats\"";
    init(postgres.url(), &["--table-name", odd]).await.succeeded();
    assert_eq!(indexed(&postgres, odd).await, "created_at,id");
    let again = init(postgres.url(), &["--table-name", odd]).await.succeeded();
    assert_eq!(again.stdout, format!("{odd} is complete already\n"));
}

#[tokio::test]
async fn an_invalid_index_of_an_interrupted_build_is_replaced() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let broken = "CREATE INDEX half_done ON socket_io_attachments (created_at);
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half_done'::regclass";
    execute(postgres.url(), broken).await;
    let outcome = init(postgres.url(), &[]).await.succeeded();
    let expected = "added an index on created_at to socket_io_attachments\n\
        set the replica identity of socket_io_attachments to its index on id\n";
    assert_eq!(outcome.stdout, expected);
    let left = "SELECT count(*) FROM pg_index WHERE indrelid = 'socket_io_attachments'::regclass";
    assert_eq!(query_text(postgres.url(), left).await, "2");
    assert_eq!(indexed(&postgres, "socket_io_attachments").await, "created_at,id");
}

#[tokio::test]
async fn an_index_is_added_while_others_publish() {
    let postgres = postgres().await;
    execute(
        postgres.url(),
        "CREATE TABLE socket_io_attachments (id bigserial, created_at timestamptz DEFAULT now(), payload bytea)",
    )
    .await;
    let (publisher, connection) = tokio_postgres::connect(postgres.url(), NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let unfinished = "BEGIN; INSERT INTO socket_io_attachments (payload) VALUES ('x')";
    publisher.batch_execute(unfinished).await.unwrap();
    let building = Running::start(&mut pgio(postgres.url(), &INIT));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE%' AND wait_event_type = 'Lock' \
        AND datname = current_database()";
    while query_text(postgres.url(), waiting).await != "1" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // No other statement queues behind the waiting one.
    run(&mut pgio(postgres.url(), &["emit", "x", r#"{"$binary":"AQ=="}"#])).await.succeeded();
    publisher.batch_execute("COMMIT").await.unwrap();
    let expected = "added an index on id to socket_io_attachments\n\
        added an index on created_at to socket_io_attachments\n\
        set the replica identity of socket_io_attachments to its index on id\n";
    assert_eq!(building.end().await.succeeded().stdout, expected);
    drop(publisher);
    driver.await.unwrap().unwrap();
}

/// A publication of all tables makes every DELETE of a table without a replica identity fail.
#[tokio::test]
async fn a_published_table_can_be_cleaned_up() {
    let postgres = postgres().await;
    let url = postgres.url();
    execute(url, "CREATE PUBLICATION everything FOR ALL TABLES").await;
    let clean_up = async |table: &str| {
        execute(url, &format!("INSERT INTO {table} (created_at) VALUES (now() - interval '1 h')")).await;
        let arguments = ["attachments", "cleanup", "--yes", "--older-than", "1m", "--table-name", table];
        run(&mut pgio(url, &arguments)).await
    };
    init(url, &["--table-name", "created"]).await.succeeded();
    clean_up("created").await.succeeded();
    run(&mut pgio(url, &["sql", "install", "--table-name", "installed"])).await.succeeded();
    clean_up("installed").await.succeeded();
    let cluster = AdapterOptions::default().table_name("of_library".parse().unwrap());
    let cluster = Cluster::connect(Settings::parse(url).unwrap(), cluster).await.unwrap();
    cluster.create_attachment_table().await.unwrap();
    clean_up("of_library").await.succeeded();

    create_attachment_table(url).await;
    execute(url, "CREATE INDEX ON socket_io_attachments (created_at)").await;
    let refused = clean_up("socket_io_attachments").await;
    assert!(refused.stderr.contains("does not have a replica identity"), "{refused:?}");
    let outcome = init(url, &[]).await.succeeded();
    assert_eq!(outcome.stdout, "set the replica identity of socket_io_attachments to its index on id\n");
    assert_eq!(init(url, &[]).await.stdout, "socket_io_attachments is complete already\n");
    clean_up("socket_io_attachments").await.succeeded();
    // Another role cannot change it, and needs no error.
    execute(url, "ALTER TABLE socket_io_attachments REPLICA IDENTITY NOTHING").await;
    let weak = postgres.url_of_role_with("SET work_mem = '4MB'").await;
    assert_eq!(init(&weak, &[]).await.stdout, "socket_io_attachments is complete already\n");
}

#[tokio::test]
async fn tables_that_are_something_else() {
    let postgres = postgres().await;
    let cases = [
        (
            "CREATE TABLE t (id int, created_at timestamp, payload text)",
            "id is integer, not bigint; created_at is \
            timestamp without time zone, not timestamp with time zone; payload is text, not bytea",
            "ALTER TABLE t ALTER id TYPE bigint; ",
        ),
        (
            "CREATE TABLE t (id bigint, created_at timestamptz, payload bytea)",
            "id has no default (a sequence); created_at has no default (now())",
            "ADD GENERATED BY DEFAULT AS IDENTITY",
        ),
        (
            "CREATE TABLE t (id bigserial)",
            "it has no column created_at; it has no column payload",
            "ADD created_at timestamp with time zone DEFAULT now(); ALTER TABLE t ADD payload bytea",
        ),
        (
            "CREATE TABLE t (id bigserial, created_at timestamptz DEFAULT now(), payload bytea, \"the owner\" text NOT NULL)",
            "it has a column \"the owner\", which no attachment table has",
            "hint: undo that if it is the table of the servers, else choose another --table-name for all of them\n",
        ),
        (
            "CREATE VIEW t AS SELECT 1 AS id",
            "it is not a table",
            "hint: undo that if it is the table of the servers, else choose another --table-name for all of them\n",
        ),
    ];
    for (create, reason, remedy) in cases {
        execute(postgres.url(), create).await;
        let outcome = init(postgres.url(), &["--table-name", "t"]).await;
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert!(
            outcome.stderr.contains(&format!("error: the attachment table t cannot be used: {reason}\n")),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains(remedy), "{outcome:?}");
        // After the remedy, no difference is left.
        let remedies = outcome.stderr.lines().nth(1).unwrap().trim_start_matches("hint: as its owner: ");
        let sql = remedies.replace(", then pgio attachments init", "");
        if sql.starts_with("ALTER") {
            execute(postgres.url(), &sql).await;
            init(postgres.url(), &["--table-name", "t"]).await.succeeded();
        }
        execute(
            postgres.url(),
            if create.contains("VIEW") { "DROP VIEW t" } else { "DROP TABLE IF EXISTS t" },
        )
        .await;
    }
}

#[tokio::test]
async fn without_the_right_to_create() {
    let server = own_server().await;
    execute(&server.url(), "CREATE ROLE guest LOGIN PASSWORD 'pw'").await;
    let guest = url_as("guest", &server.url());
    let outcome = init(&guest, &[]).await;
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("permission denied for schema public\nhint: "), "{outcome:?}");

    init(&server.url(), &[]).await.succeeded();
    let outcome = init(&guest, &["--unlogged"]).await;
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("must be owner of table socket_io_attachments\nhint: "), "{outcome:?}");
}
