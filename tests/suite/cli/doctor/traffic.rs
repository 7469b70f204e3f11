//! Faults of the notifications: poolers, stuck listeners, channel names that are too long, prefixes that differ.

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::NoTls;

use super::doctor;
use crate::support::attachments::{create_attachment_table, execute};
use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgbouncer::PgBouncer;
use crate::support::pgio::{Running, pgio, run};
use crate::support::postgres::{own_server, postgres, url_as};
use crate::support::sql::query_text;

#[tokio::test]
async fn a_pooler_in_transaction_mode() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let bouncer = PgBouncer::start(postgres.url(), "transaction").await;
    let diagnosis = doctor(&bouncer.url(), &[]).await;
    diagnosis.check("pooler", "fail", "in transaction mode", "pool_mode = session");
    diagnosis.check("delivery", "fail", "did not arrive", "connect to Postgres directly");
    // Only these two.
    assert!(diagnosis.stderr.starts_with("error: 2 of "), "{diagnosis:?}");
    let sessions = PgBouncer::start(postgres.url(), "session").await;
    let diagnosis = doctor(&sessions.url(), &[]).await;
    diagnosis.check("pooler", "ok", "", "");
    diagnosis.check("delivery", "ok", "", "");
}

#[tokio::test]
async fn the_table_can_be_looked_after_through_a_pooler() {
    let postgres = postgres().await;
    let bouncer = PgBouncer::start(postgres.url(), "transaction").await;
    let url = bouncer.url();
    let attachments = async |arguments: &[&str]| {
        run(&mut pgio(&url, &[&["attachments"], arguments].concat())).await.succeeded().stdout
    };
    assert!(attachments(&["init"]).await.starts_with("created "));
    execute(postgres.url(), "DROP INDEX socket_io_attachments_created_at_idx").await;
    assert!(attachments(&["init"]).await.starts_with("added an index on created_at"));
    run(&mut pgio(&url, &["emit", "x", r#"{"$binary":"AQ=="}"#])).await.succeeded();
    assert!(attachments(&["list"]).await.contains(" x\n"));
    assert!(attachments(&["show", "1"]).await.contains(" x <1 byte 01>"));
    assert!(attachments(&["stats"]).await.contains("rows       1 "));
    assert!(attachments(&["cleanup", "--yes", "--older-than", "0"]).await.starts_with("deleted 1 row ("));
    // The session goes back to the pool without locks.
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
        (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(query_text(postgres.url(), locks).await, "0");
}

#[tokio::test]
async fn a_listener_that_is_stuck() {
    // A separate server, since all databases of a server share the queue.
    let server = own_server().await;
    let url = server.url();
    let (stuck, connection) =
        tokio_postgres::connect(&format!("{url}?application_name=stuck%20chat"), NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    stuck.batch_execute("LISTEN \"socket.io#/\"").await.unwrap();
    stuck.batch_execute("BEGIN").await.unwrap();
    let pid = stuck.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
    execute(
        &url,
        "SELECT pg_notify('socket.io#/', repeat('x', 7000) || i) FROM generate_series(1, 2000) AS i",
    )
    .await;
    let old = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stuck chat' \
        AND clock_timestamp() - xact_start > interval '2 s'";
    while query_text(&url, old).await != "1" {
        sleep(Duration::from_millis(50)).await;
    }
    let diagnosis = doctor(&url, &[]).await;
    let culprit = format!("pid {pid} (\"stuck chat\", pgio@pgio, idle in a transaction for ");
    diagnosis.check("queue", "warn", &culprit, &format!("pg_terminate_backend({pid})"));
    diagnosis.check("queue", "warn", "the notification queue is 0.2% full", "");

    // A role without the privilege to see the state of other sessions gets a note.
    execute(&url, "CREATE ROLE guest LOGIN PASSWORD 'pw'").await;
    let guest = url_as("guest", &url);
    let blind = doctor(&guest, &[]).await;
    assert!(
        blind.finding("queue").2.is_empty() || blind.finding("queue").2.contains("pg_monitor"),
        "{blind:?}"
    );

    stuck.batch_execute("COMMIT").await.unwrap();
    doctor(&url, &[]).await.check("queue", "ok", "", "");
    drop(stuck);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_queue_is_looked_at_whatever_fails_before() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    // Enough for the first session, but not for the listening one.
    let url = postgres.url_of_role_with("CONNECTION LIMIT 1").await;
    let diagnosis = doctor(&url, &[]).await;
    diagnosis.check("delivery", "fail", "too many connections for role", "");
    // The results depend on the tests that share the server.
    assert!(diagnosis.has("queue") && diagnosis.has("table"), "{diagnosis:?}");
}

#[tokio::test]
async fn channels_that_are_too_long() {
    let postgres = postgres().await;
    let long = "n".repeat(60);
    let diagnosis = doctor(postgres.url(), &["-n", "fine", "-n", &long]).await;
    diagnosis.check("channels", "fail", "has 71 bytes, and Postgres takes 63", "shorten the namespace");

    // A Node server does not notice.
    let peer = NodePeer::start().await;
    create_attachment_table(postgres.url()).await;
    let options = ServerOptions::new(AdapterVersion::V05, postgres.url()).namespace(&format!("/{long}"));
    let _server = peer.server(options).await;
    let diagnosis = doctor(postgres.url(), &[]).await;
    diagnosis.check("listeners", "fail", "71 bytes; Postgres truncates it to 63", "shorten the namespace");
}

#[tokio::test]
async fn servers_with_another_prefix() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    doctor(postgres.url(), &[]).await.check(
        "prefix",
        "ok",
        "no session was seen listening on socket.io#/",
        "",
    );
    let peer = NodePeer::start().await;
    for version in AdapterVersion::ALL {
        peer.server(ServerOptions::new(version, postgres.url()).channel_prefix("chat")).await;
    }
    let diagnosis = doctor(postgres.url(), &[]).await;
    diagnosis.check(
        "prefix",
        "warn",
        "the prefix socket.io, but servers listen with chat",
        "--channel-prefix",
    );
    doctor(postgres.url(), &["--channel-prefix", "chat"]).await.check("prefix", "ok", "3 listening", "");

    // A pgio listener is still visible after it has tested its connection.
    let mut tail = Running::start(&mut pgio(postgres.url(), &["tail", "--for", "30s"]));
    tail.wait_for_note("listening on").await;
    sleep(Duration::from_secs(6)).await;
    let diagnosis = doctor(postgres.url(), &[]).await;
    diagnosis.check(
        "prefix",
        "warn",
        "1 listening with the prefix socket.io; servers with chat",
        "two clusters",
    );
}

/// A role sees the statements of its own sessions only, so it cannot find the servers of another role.
#[tokio::test]
async fn sessions_that_the_role_may_not_see() {
    let postgres = postgres().await;
    execute(postgres.url(), "DROP ROLE IF EXISTS blinkered; CREATE ROLE blinkered LOGIN PASSWORD 'pw'").await;
    let blinkered = url_as("blinkered", postgres.url());
    assert!(!doctor(&blinkered, &[]).await.has("listeners"));
    let (_other, connection) = tokio_postgres::connect(postgres.url(), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let diagnosis = doctor(&blinkered, &[]).await;
    diagnosis.check("listeners", "warn", "1 session of other users", "GRANT pg_read_all_stats TO blinkered");
    execute(postgres.url(), diagnosis.finding("listeners").2).await;
    assert!(!doctor(&blinkered, &[]).await.has("listeners"));
    connection.abort();
    execute(postgres.url(), "DROP OWNED BY blinkered; DROP ROLE blinkered").await;
}
