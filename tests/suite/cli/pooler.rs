//! A pooler in transaction mode drops notifications: commands report that, and do not take the cluster for empty.

use nix::sys::signal::Signal;

use crate::support::pgbouncer::PgBouncer;
use crate::support::pgio::{Running, pgio, run};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;

const DEAF: &str = "notifications are not delivered: Postgres accepts them, but this session receives none.";

#[tokio::test]
async fn an_unreadable_answer_does_not_count_as_absent() {
    let postgres = postgres().await;
    let _serve = PgioServe::start(postgres.url(), &[]).await;
    let pooler = PgBouncer::start(postgres.url(), "transaction").await;
    for command in [
        "nodes",
        "nodes --min 1",
        "nodes --watch",
        "nodes --watch --every 1s -o json",
        "sockets",
        "rooms",
        "server-emit --ack ready",
        "emit --ack ready",
        "emit --require-nodes 1 ready",
        "top --once",
        "top --once --no-sockets -o json",
    ] {
        let arguments: Vec<_> = command.split(' ').collect();
        let outcome = run(&mut pgio(&pooler.url(), &arguments)).await;
        assert_eq!((outcome.status, outcome.stdout.as_str()), (3, ""), "{command}: {outcome:?}");
        assert!(outcome.stderr.contains(&format!("error: {DEAF}")), "{command}: {outcome:?}");
        assert!(outcome.stderr.contains("pgio doctor"), "{command}: {outcome:?}");
    }
}

#[tokio::test]
async fn without_notifications_a_live_view_ends_and_a_monitor_reports_it() {
    let postgres = postgres().await;
    let pooler = PgBouncer::start(postgres.url(), "transaction").await;
    let top = run(&mut pgio(&pooler.url(), &["top", "-o", "json"])).await;
    assert!(top.status == 3 && top.stderr.contains(DEAF), "{top:?}");
    let arguments = ["monitor", "--listen", "127.0.0.1:0", "-o", "json"];
    let mut monitor = Running::start(&mut pgio(&pooler.url(), &arguments));
    monitor.json().await;
    monitor.wait_for_note(DEAF).await;
    monitor.signal(Signal::SIGTERM);
    assert_eq!(monitor.end().await.status, 0);
}

#[tokio::test]
async fn a_tail_without_notifications_warns_once() {
    let postgres = postgres().await;
    let deaf = PgBouncer::start(postgres.url(), "transaction").await;
    let hearing = PgBouncer::start(postgres.url(), "session").await;
    let tail = async |pooler: &PgBouncer| {
        run(&mut pgio(&pooler.url(), &["tail", "--for", "12s"])).await.succeeded().stderr
    };
    let (deaf, hearing) = tokio::join!(tail(&deaf), tail(&hearing));
    assert_eq!(deaf.matches(DEAF).count(), 1, "{deaf}");
    // A cluster without messages is no reason for the error.
    assert!(!hearing.contains(DEAF), "{hearing}");
}
