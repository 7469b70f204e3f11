//! `pgio emit` that keeps running, or that waits for Postgres.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgio::postgres::private::Shutdown;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::attachments::create_attachment_table;
use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio::{Outcome, Running, pgio, run};
use crate::support::postgres::{own_server, postgres};
use crate::support::proxy::{Mode, Proxy};

#[tokio::test]
async fn every_so_often_and_so_many_times() {
    let postgres = postgres().await;
    let mut tail = Running::start(&mut pgio(postgres.url(), &["tail", "-o", "json", "--count", "3"]));
    tail.wait_for_note("listening").await;
    let outcome =
        run(&mut pgio(postgres.url(), &["emit", "--every", "50ms", "--count", "3", "-o", "json", "tick"]))
            .await;
    assert_eq!(outcome.succeeded().json(), [json!({"sent": 1}), json!({"sent": 1}), json!({"sent": 1})]);
    for _ in 0..3 {
        assert_eq!(tail.json().await["event"], "tick");
    }
}

#[tokio::test]
async fn by_a_crontab_expression() {
    let postgres = postgres().await;
    let mut tail = Running::start(&mut pgio(postgres.url(), &["tail", "-o", "json", "--count", "1"]));
    tail.wait_for_note("listening").await;
    let cron = ["emit", "--cron", "* * * * * *", "--tz", "Europe/Madrid", "--count", "1", "each second"];
    run(&mut pgio(postgres.url(), &cron)).await.succeeded();
    assert_eq!(tail.json().await["event"], "each second");

    let never = run(&mut pgio(postgres.url(), &["emit", "--cron", "0 0 30 2 *", "never"])).await;
    assert_eq!(
        (never.status, never.stderr.as_str()),
        (1, "error: the --cron expression has no further time (0 sent)\n")
    );
}

#[tokio::test]
async fn an_event_without_its_acknowledgements_counts_as_sent() {
    let postgres = postgres().await;
    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    let client = server.client("/").await;
    client.silent("q").await;
    let schedule = ["emit", "--every", "100ms", "--count", "2", "--ack", "--timeout", "1s", "q"];
    let outcome = run(&mut pgio(postgres.url(), &schedule)).await;
    assert_eq!(outcome.status, 4, "{outcome:?}");
    assert!(outcome.stderr.starts_with("warning: "), "{outcome:?}");
    assert!(outcome.stderr.ends_with("(2 sent)\n"), "{outcome:?}");
    assert_eq!(client.wait_for(2).await.len(), 2);
}

#[tokio::test]
async fn each_round_checks_the_number_of_servers() {
    let postgres = postgres().await;
    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    let schedule = ["emit", "--every", "200ms", "--require-nodes", "1", "-o", "json", "tick"];
    let mut emit = Running::start(&mut pgio(postgres.url(), &schedule));
    emit.line().await;
    server.stop().await;
    emit.wait_for_note("warning: 0 servers are live in /, and 1 is required").await;
    let _back = peer.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    while tokio::time::timeout(Duration::from_millis(1), emit.line()).await.is_ok() {}
    emit.line().await;
    emit.signal(Signal::SIGINT);
    assert_eq!(emit.end().await.status, 130);
}

#[tokio::test]
async fn a_schedule_goes_on_after_a_restart() {
    let mut server = own_server().await;
    let mut emit =
        Running::start(&mut pgio(&server.url(), &["emit", "--every", "100ms", "-o", "json", "tick"]));
    emit.line().await;
    server.take_down(Shutdown::Fast).await.unwrap();
    emit.wait_for_note("warning: ").await;
    server.start_again().await.unwrap();
    let mut tail = Running::start(&mut pgio(&server.url(), &["tail", "-o", "json", "--count", "1"]));
    assert_eq!(tail.json().await["event"], "tick");
}

#[tokio::test]
async fn patience_while_postgres_is_down() {
    let mut server = own_server().await;
    let url = server.url();
    server.take_down(Shutdown::Fast).await.unwrap();
    let at_once = run(&mut pgio(&url, &["emit", "x"])).await;
    assert_eq!(at_once.status, 3);
    assert!(at_once.stderr.ends_with(": connection refused\n"), "{at_once:?}");
    let too_short = run(&mut pgio(&url, &["emit", "--retry-for", "300ms", "x"])).await;
    assert_eq!(too_short.status, 3);
    assert!(too_short.stderr.ends_with(": connection refused (gave up after 300ms)\n"), "{too_short:?}");

    let mut patient = Running::start(&mut pgio(&url, &["emit", "--retry-for", "60s", "-o", "json", "x"]));
    patient.wait_for_note("retrying").await;
    server.start_again().await.unwrap();
    assert_eq!(patient.end().await.succeeded().json(), [json!({"sent": 1})]);

    // A permanent error fails at once.
    let wrong = url.replace("pgio:", "nobody:");
    let refused = run(&mut pgio(&wrong, &["emit", "--retry-for", "60s", "x"])).await;
    assert_eq!(refused.status, 3);
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
}

/// As a proxy does whose server is down.
#[tokio::test]
async fn a_connection_that_is_closed_in_the_handshake_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u:p@{}/d?sslmode=disable", listener.local_addr().unwrap());
    let proxy = async {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut startup = [0; 1024];
            assert!(client.read(&mut startup).await.is_ok_and(|bytes| bytes > 0));
        }
    };
    let mut command = pgio(&url, &["emit", "--retry-for", "500ms", "x"]);
    let outcome = tokio::select! {
        outcome = run(&mut command) => outcome,
        () = proxy => unreachable!(),
    };
    assert_eq!(outcome.status, 3);
    assert!(
        outcome.stderr.ends_with(": the server closed the connection (gave up after 500ms)\n"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_signal_ends_a_schedule_with_its_count() {
    let postgres = postgres().await;
    for schedule in [["--every", "1h"], ["--cron", "* * * * * *"]] {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let arguments = [&["emit", "-o", "json"][..], &schedule, &["tick"]].concat();
            let mut emit = Running::start(&mut pgio(postgres.url(), &arguments));
            emit.line().await;
            emit.signal(signal);
            let Outcome { status, stdout, stderr, .. } = emit.end().await;
            let sent = 1 + stdout.lines().count();
            assert_eq!(status, 130);
            assert!(stderr.ends_with(&format!("error: interrupted ({sent} sent)\n")), "{stderr}");
            // A schedule prints the time of its next event.
            assert_eq!(
                stderr.lines().filter(|line| line.starts_with("next at 2")).count(),
                usize::from(schedule[0] == "--cron")
            );
        }
    }
}

/// The number of lines within that time.
async fn count_for(running: &mut Running, time: Duration) -> usize {
    let end = tokio::time::Instant::now() + time;
    let mut lines = 0;
    while tokio::time::timeout_at(end, running.line()).await.is_ok() {
        lines += 1;
    }
    lines
}

#[tokio::test]
async fn a_schedule_keeps_its_rhythm_after_a_silence_of_postgres() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    let client = server.client("/").await;
    client.answer("tick", json!("tock")).await;
    let proxy = Proxy::start(postgres.url()).await;
    let arguments = ["emit", "--every", "1s", "--ack", "--timeout", "1s", "tick"];
    let mut emit = Running::start(&mut pgio(proxy.url(), &arguments));
    assert_eq!(emit.line().await, "tock");

    proxy.set(Mode::Silent);
    emit.wait_for_note("warning: ").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    proxy.set(Mode::Forward);
    let healed = Instant::now();
    emit.line().await;
    // A round that began during the outage, and the next one.
    assert!(healed.elapsed() < Duration::from_secs(8), "{:?}", healed.elapsed());
    let ticks = count_for(&mut emit, Duration::from_secs(5)).await;
    // Neither fewer, nor the missed ones as well. A busy machine delays some.
    assert!((3..=8).contains(&ticks), "{ticks} in 5 s");
}
