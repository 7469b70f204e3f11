//! The cleanup deletes all old rows and no others, alone or with a second one, while others publish.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::json;

use super::attachments;
use crate::support::attachments::execute;
use crate::support::pgio::{Running, pgio, run_with_input};
use crate::support::postgres::{Postgres, postgres};
use crate::support::sql::query_text;
use crate::support::terminal::Terminal;

/// A table with this number of old rows and of young rows.
async fn filled(old: u32, young: u32) -> Postgres {
    let postgres = postgres().await;
    attachments(postgres.url(), &["init"]).await.succeeded();
    let fill = format!(
        "INSERT INTO socket_io_attachments (created_at, payload)
            SELECT now() - interval '1 hour' - i * interval '1 ms', repeat('x', 100)::bytea
            FROM generate_series(1, {old}) AS i;
        INSERT INTO socket_io_attachments (payload) SELECT 'young' FROM generate_series(1, {young})"
    );
    execute(postgres.url(), &fill).await;
    postgres
}

async fn rows(postgres: &Postgres) -> u64 {
    query_text(postgres.url(), "SELECT count(*) FROM socket_io_attachments").await.parse().unwrap()
}

#[tokio::test]
async fn expired_rows_are_deleted_and_young_rows_stay() {
    let postgres = filled(2500, 10).await;
    let dry = attachments(postgres.url(), &["cleanup", "--dry-run"]).await.succeeded();
    assert_eq!(
        dry.stdout,
        "would delete 2,500 rows (244.14 KiB) older than 30s from socket_io_attachments\n"
    );
    let dry =
        attachments(postgres.url(), &["cleanup", "--dry-run", "--older-than", "2h", "-o", "json"]).await;
    let expected = json!({"table": "socket_io_attachments", "olderThanMs": 7_200_000, "dryRun": true, "byOthers": 0, "rows": 0,
        "bytes": 0});
    assert_eq!(dry.succeeded().json(), [expected]);
    assert_eq!(rows(&postgres).await, 2510);

    let nobody = attachments(postgres.url(), &["cleanup"]).await;
    assert_eq!(nobody.status, 2);
    assert_eq!(
        nobody.stderr.lines().next(),
        Some(
            "error: delete old rows from socket_io_attachments? Without a terminal to confirm on, pass --yes"
        )
    );
    assert_eq!(rows(&postgres).await, 2510);

    let done = attachments(postgres.url(), &["cleanup", "--yes"]).await.succeeded();
    assert!(done.stdout.starts_with("deleted 2,500 rows (244.14 KiB) in "), "{done:?}");
    assert!(done.stderr.is_empty(), "{done:?}");
    assert_eq!(rows(&postgres).await, 10);
    let again = attachments(postgres.url(), &["cleanup", "-y"]).await.succeeded();
    assert_eq!(again.stdout, "no rows older than 30s\n");
    let all =
        attachments(postgres.url(), &["cleanup", "-y", "--older-than", "0", "-o", "json"]).await.succeeded();
    assert_eq!((&all.json()[0]["rows"], &all.json()[0]["dryRun"]), (&json!(10), &json!(false)));
    assert_eq!(rows(&postgres).await, 0);
}

#[tokio::test]
async fn on_a_terminal_it_asks_for_confirmation_and_restores_the_terminal() {
    let postgres = filled(2500, 10).await;
    let ask = || Terminal::start((120, 24), postgres.url(), &[], &["attachments", "cleanup"]);
    let question = "Delete 2,500 rows (244.14 KiB) older than 30s from socket_io_attachments";
    for (keys, status) in [(&["n", "Enter"][..], 1), (&["Enter"], 1), (&["C-c"], 130)] {
        let terminal = ask();
        terminal.wait_for(question).await;
        terminal.reads_keys().await;
        terminal.press(keys);
        terminal.ends_with(status).await;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let terminal = ask();
        terminal.wait_for(question).await;
        terminal.reads_keys().await;
        terminal.signal(signal);
        terminal.ends_with(130).await;
    }
    assert_eq!(rows(&postgres).await, 2510);
    let terminal = ask();
    terminal.wait_for(question).await;
    terminal.reads_keys().await;
    terminal.press(&["y", "Enter"]);
    let screen = terminal.ends_with(0).await;
    assert!(screen.contains("deleted 2,500 rows (244.14 KiB) in "), "{screen}");
    assert_eq!(rows(&postgres).await, 10);
}

#[tokio::test]
async fn batches_of_every_size_and_rows_of_one_moment() {
    let postgres = filled(0, 5).await;
    for size in ["1", "7", "100000"] {
        let fill = "INSERT INTO socket_io_attachments (created_at, payload)
            SELECT now() - interval '1 hour', 'x' FROM generate_series(1, 50)";
        execute(postgres.url(), fill).await;
        let cleanup = ["cleanup", "--yes", "--no-pause", "--batch-size", size, "-o", "json"];
        let done = attachments(postgres.url(), &cleanup).await.succeeded().json();
        assert_eq!((&done[0]["rows"], &done[0]["bytes"]), (&json!(50), &json!(50)), "{size}");
        assert_eq!(rows(&postgres).await, 5);
    }
    for bad in ["0", "-1", "x", "1000001"] {
        assert_eq!(attachments(postgres.url(), &["cleanup", "--yes", "--batch-size", bad]).await.status, 2);
    }
    assert_eq!(attachments(postgres.url(), &["cleanup", "--yes", "--older-than", "old"]).await.status, 2);
}

#[tokio::test]
async fn two_at_once_delete_each_row_once() {
    let postgres = filled(20_000, 10).await;
    let cleanup = ["cleanup", "--yes", "--batch-size", "200", "-o", "json"];
    let (one, other) =
        tokio::join!(attachments(postgres.url(), &cleanup), attachments(postgres.url(), &cleanup));
    let count =
        |outcome: crate::support::pgio::Outcome| outcome.succeeded().json()[0]["rows"].as_u64().unwrap();
    let (one, other) = (count(one), count(other));
    assert_eq!(one + other, 20_000);
    assert!(one > 0 && other > 0, "{one} and {other}");
    assert_eq!(rows(&postgres).await, 10);
}

#[tokio::test]
async fn rows_in_the_hands_of_others_are_not_waited_for() {
    let postgres = filled(1000, 0).await;
    let (other, connection) = tokio_postgres::connect(postgres.url(), tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let hold = "BEGIN; SELECT FROM socket_io_attachments WHERE id <= 100 FOR UPDATE";
    other.batch_execute(hold).await.unwrap();
    let done = attachments(postgres.url(), &["cleanup", "--yes", "-o", "json"]).await.succeeded().json();
    assert_eq!((&done[0]["rows"], &done[0]["byOthers"]), (&json!(900), &json!(100)));
    other.batch_execute("ROLLBACK").await.unwrap();
    let done = attachments(postgres.url(), &["cleanup", "--yes", "-o", "json"]).await.succeeded().json();
    assert_eq!(done[0]["rows"], 100);
    drop(other);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn publishing_goes_on_and_loses_nothing() {
    let postgres = filled(50_000, 0).await;
    let events: String = (0..5000).map(|i| format!("[\"e\", {i}, {{\"$binary\":\"AQ==\"}}]\n")).collect();
    let mut emit = pgio(postgres.url(), &["emit", "--from", "-", "--rate", "2500/s"]);
    let cleanup = ["cleanup", "--yes", "-o", "json"];
    let (published, cleaned) =
        tokio::join!(run_with_input(&mut emit, events), attachments(postgres.url(), &cleanup));
    published.succeeded();
    assert_eq!(cleaned.succeeded().json()[0]["rows"], 50_000);
    assert_eq!(rows(&postgres).await, 5000);
}

#[tokio::test]
async fn an_interrupted_cleanup_prints_its_progress() {
    let postgres = filled(20_000, 0).await;
    let mut command = pgio(postgres.url(), &["attachments", "cleanup", "--yes", "--batch-size", "1"]);
    let running = Running::start(command.stdin(Stdio::null()));
    while rows(&postgres).await == 20_000 {}
    running.signal(Signal::SIGINT);
    let outcome = running.end().await;
    assert_eq!(outcome.status, 130, "{outcome:?}");
    let deleted = 20_000 - rows(&postgres).await;
    let rows = if deleted == 1 { "row" } else { "rows" };
    assert!(
        outcome.stderr.starts_with(&format!("error: interrupted (deleted {deleted} {rows} (")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn without_an_index_it_warns() {
    let postgres = postgres().await;
    crate::support::attachments::create_attachment_table(postgres.url()).await;
    let done = attachments(postgres.url(), &["cleanup", "--yes"]).await.succeeded();
    assert!(done.stderr.starts_with("warning: there is no index on created_at"), "{done:?}");
}

/// Many small rows leave free space in the table as well.
#[tokio::test]
async fn many_rows_leave_a_table_that_is_worth_a_vacuum() {
    let postgres = filled(0, 0).await;
    let fill = async |rows: u32| {
        let sql = format!(
            "INSERT INTO socket_io_attachments (created_at, payload) \
             SELECT now() - interval '1 hour', '\\x80' FROM generate_series(1, {rows})"
        );
        execute(postgres.url(), &sql).await;
        attachments(postgres.url(), &["cleanup", "--yes", "--no-pause"]).await.succeeded().stderr
    };
    assert_eq!(fill(1000).await, "");
    let note = fill(250_000).await;
    assert!(note.contains("VACUUM FULL socket_io_attachments returns it to the disk"), "{note}");
}
