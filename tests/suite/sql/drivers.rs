//! Clients in other languages: psql, node-postgres and psycopg, each with its own way to send parameters.

use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::heard::Heard;
use super::install;
use crate::support::node::{binary, event};
use crate::support::pgbouncer::PgBouncer;
use crate::support::pgio::{bare, pgio, run};
use crate::support::postgres::postgres;
use crate::support::sql::Session;
use crate::support::whole::whole;

/// Runs a program to its end with this input.
async fn succeeds(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn script(name: &str) -> String {
    format!("{}/tests/interop/sql/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Each script emits the same events, with the parameters of its driver.
#[tokio::test]
async fn node_postgres_and_psycopg_emit_with_parameters() {
    let cluster = whole().await;
    install(cluster.url(), &[]).await;
    let deep = json!({"EUR": 42.5, "list": [1, null, "hé \u{1d11e}"], "none": {}});
    let expected = [
        event("json", json!([deep])),
        event("several", json!([1, "two", [3]])),
        event("one text", json!(["it's \"quoted\""])),
        event("bytes", json!([binary("AMr+/w==")])),
        event("big", json!(["é".repeat(20_000)])),
        event("nothing", json!([])),
        event("end", json!([])),
    ];
    for (program, script) in [("node", script("emit.js")), ("/usr/bin/python3", script("emit.py"))] {
        succeeds(Command::new(program).arg(script).env("DATABASE_URL", cluster.url()), "").await;
        for (place, client) in cluster.clients().into_iter().enumerate() {
            // The order does not matter: a Node server is slower with an attachment.
            let mut received = client.wait_for(expected.len()).await;
            received.sort_by_key(|event| expected.iter().position(|known| known.event == event.event));
            assert_eq!(received, expected, "{program}, client {place}");
            client.drain().await;
        }
    }
}

#[tokio::test]
async fn the_printed_script_is_an_idempotent_migration_for_psql() {
    let postgres = postgres().await;
    let names = [
        "--schema",
        "My \"Events\" $pgio$",
        "--channel-prefix",
        "it's\\ü",
        "--table-name",
        "\"a b\".\"c'd\"",
        "--payload-threshold",
        "500",
    ];
    let session = Session::open(postgres.url()).await;
    session.execute("SET client_min_messages = error; CREATE SCHEMA \"a b\"").await;
    let printed = run(&mut bare(&[&["sql", "print"], &names[..]].concat())).await.succeeded().stdout;
    let psql = || {
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "-1", "-q", "-v", "ON_ERROR_STOP=1", "-d", postgres.url()]);
        psql
    };
    for _ in 0..2 {
        assert_eq!(succeeds(&mut psql(), &printed).await, "");
    }
    let options = pgio::AdapterOptions::default()
        .channel_prefix("it's\\ü")
        .table_name("\"a b\".\"c'd\"".parse().unwrap())
        .payload_threshold(500);
    let mut heard = Heard::start_with(postgres.url(), options).await;
    let schema = "\"My \"\"Events\"\" $pgio$\"";
    let emit = format!(
        "SELECT {schema}.emit('small', '{{\"a\": 1}}'), {schema}.emit('larger', to_jsonb(repeat('x', 600)));
        SELECT {schema}.emit('end');"
    );
    succeeds(&mut psql(), &emit).await;
    let all = heard.until_end().await;
    let seen: Vec<_> = all.iter().map(|heard| (heard.event.as_str(), heard.is_attached)).collect();
    assert_eq!(seen, [("small", false), ("larger", true)]);
    // With the string syntax from before PostgreSQL 9.1.
    session.execute("SET standard_conforming_strings = off; SET escape_string_warning = off").await;
    session.execute(&printed).await;
    session.execute(&emit).await;
    assert_eq!(heard.until_end().await, all);
}

/// Only a listener needs a dedicated session.
#[tokio::test]
async fn a_pooler_in_transaction_mode_is_no_obstacle() {
    let postgres = postgres().await;
    let bouncer = PgBouncer::start(postgres.url(), "transaction").await;
    install(&bouncer.url(), &[]).await;
    run(&mut pgio(&bouncer.url(), &["sql", "check"])).await.succeeded();
    let mut heard = Heard::start(postgres.url()).await;
    let session = Session::open(&bouncer.url()).await;
    for _ in 0..3 {
        session
            .execute(
                "SELECT socket_io.emit('equal'), socket_io.emit('equal'), socket_io.emit('b', bytea '\\x01')",
            )
            .await;
    }
    session.execute("SELECT socket_io.emit('end')").await;
    let names: Vec<_> = heard.until_end().await.into_iter().map(|heard| heard.event).collect();
    assert_eq!(names, ["equal", "equal", "b"].repeat(3));
    run(&mut pgio(&bouncer.url(), &["sql", "uninstall", "--yes"])).await.succeeded();
}
