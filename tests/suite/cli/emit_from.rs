//! `pgio emit --from`: many events, one per line.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgio::cluster::Event as Heard;
use pgio::{AdapterOptions, Cluster, Settings};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::support::attachments::{create_attachment_table, execute, lock_attachment_table};
use crate::support::mixed::mixed_with;
use crate::support::node::{binary, event};
use crate::support::pgio::{Running, pgio, run_with_input};
use crate::support::postgres::{own_server, postgres};
use crate::support::proxy::{Mode, Proxy};
use crate::support::schema;
use crate::support::stopped::Stopped;

const FROM: [&str; 3] = ["emit", "--from", "-"];

#[tokio::test]
async fn a_hundred_thousand_identical_lines_all_arrive() {
    const LINES: usize = 100_000;
    let postgres = postgres().await;
    let mut tail =
        Running::start(&mut pgio(postgres.url(), &["tail", "--raw", "--count", &LINES.to_string()]));
    tail.wait_for_note("listening").await;
    let count = tokio::spawn(async move {
        let mut lines = std::collections::HashMap::new();
        for _ in 0..LINES {
            *lines.entry(tail.line().await.trim_end().to_owned()).or_insert(0) += 1;
        }
        tail.end().await.succeeded();
        lines
    });
    let outcome =
        run_with_input(&mut pgio(postgres.url(), &FROM), "[\"same\",1]\n".repeat(LINES)).await.succeeded();
    assert!(outcome.stderr.starts_with("100,000 sent in "), "{outcome:?}");
    let lines = count.await.unwrap();
    assert_eq!(lines.values().collect::<Vec<_>>(), [&LINES], "{lines:?}");
}

#[tokio::test]
async fn a_dry_run_sends_nothing_and_rooms_have_other_names() {
    let cluster = mixed_with(|options| options.namespace("/")).await;
    for client in &cluster.clients {
        client.join(&["staging"]).await;
    }
    let lines = concat!(
        r#"{"event":"own","rooms":["prod"]}"#,
        "\n",
        r#"["default"]"#,
        "\n",
        r#"{"event":"kept","rooms":["lobby"],"except":["prod"]}"#,
    );
    let map = ["--map-room", "prod=staging"];
    let flags = [&FROM[..], &["--room", "r1"], &map].concat();
    let mut dry = pgio("postgres://u@127.0.0.1:1/d", &[&flags[..], &["--dry-run"]].concat());
    let outcome = run_with_input(&mut dry, lines).await.succeeded();
    let expected =
        "        1  to lobby of / except staging\n        1  to r1 of /\n        1  to staging of /\n";
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        (expected, "dry run: 3 events would be sent\n")
    );
    let mut bad = pgio("postgres://u@127.0.0.1:1/d", &[&flags[..], &["--dry-run", "-o", "json"]].concat());
    let outcome = run_with_input(&mut bad, "[\"ok\"]\nnonsense\n").await;
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.starts_with("error: line 2: "), "{outcome:?}");

    let outcome = run_with_input(&mut pgio(cluster.url(), &flags), lines).await.succeeded();
    let note = "--room was ignored for 2 lines that name rooms; --map-room replaces rooms of lines\n";
    assert!(outcome.stderr.ends_with(note), "{outcome:?}");
    for client in &cluster.clients {
        assert_eq!(client.wait_for(1).await, [event("own", json!([]))]);
    }
    let mut wrong = pgio(cluster.url(), &[&FROM[..], &["--map-room", "prod"]].concat());
    let outcome = run_with_input(&mut wrong, "").await;
    assert_eq!((outcome.status, outcome.stderr.lines().count()), (2, 2), "{outcome:?}");
}

#[tokio::test]
async fn both_forms_of_lines_and_the_defaults_of_the_flags() {
    let cluster = mixed_with(|options| options.namespace("/").namespace("/admin")).await;
    for client in &cluster.clients {
        client.join(&["r1"]).await;
    }
    let admin = cluster.servers[1].client("/admin").await;
    let lines = [
        r#"["short", 1, {"$binary":"AQI="}]"#,
        "",
        r#"{"time":"2026-01-31T12:00:00.123Z","namespace":"/","uid":"u","type":"broadcast","event":"line","args":["<>"],"rooms":[],"except":["r1"],"flags":{},"requestId":null,"attachment":null}"#,
        r#"{"type":"heartbeat","uid":"u","namespace":"/"}"#,
        r#"{"namespace":"/admin","event":"admin"}"#,
    ];
    let mut command = pgio(cluster.url(), &["emit", "--from", "-", "--room", "r1", "-o", "json"]);
    let outcome = run_with_input(&mut command, lines.join("\r\n")).await.succeeded();
    assert_eq!(outcome.json(), [json!({"sent": 3, "bad": 0, "skipped": 1})]);
    let mut end = pgio(cluster.url(), &FROM);
    run_with_input(&mut end, r#"["end"]"#).await.succeeded();
    for client in &cluster.clients {
        let mut events = client.wait_for(2).await;
        events.sort_by_key(|event| event.event.clone());
        assert_eq!(events, [event("end", json!([])), event("short", json!([1, binary("AQI=")]))]);
    }
    // No client is in the room of --room, which the line does not override.
    admin.join(&["r1"]).await;
    let mut again = pgio(cluster.url(), &["emit", "--from", "-", "--room", "r1"]);
    run_with_input(&mut again, r#"{"namespace":"/admin","event":"admin"}"#).await.succeeded();
    assert_eq!(admin.wait_for(1).await, [event("admin", json!([]))]);
}

#[tokio::test]
async fn an_invalid_line_ends_the_replay_with_a_summary() {
    let postgres = postgres().await;
    let lines = "[\"a\"]\n[\"b\"]\n{\"event\":\n[\"c\"]\n";
    let outcome = run_with_input(&mut pgio(postgres.url(), &FROM), lines).await;
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.starts_with("error: line 3: not JSON"), "{outcome:?}");
    assert!(outcome.stderr.ends_with("(2 sent)\n"), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1);

    let mut keep_going = pgio(postgres.url(), &["emit", "--from", "-", "--keep-going", "-o", "json"]);
    let lines =
        "[\"a\"]\nnonsense\n[\"disconnect\"]\n{\"namespace\":\"/a\\u0000b\",\"event\":\"e\"}\n[\"c\"]\n";
    let outcome = run_with_input(&mut keep_going, lines).await;
    assert_eq!(outcome.status, 1);
    assert_eq!(outcome.json(), [json!({"sent": 2, "bad": 3, "skipped": 0})]);
    for line in [
        "warning: line 2: not JSON",
        "warning: line 3: event name \"disconnect\" is reserved",
        "warning: line 4: namespace",
    ] {
        assert!(outcome.stderr.contains(line), "{outcome:?}");
    }
    assert!(outcome.stderr.ends_with("error: 3 invalid lines of 5 skipped\n"), "{outcome:?}");
}

#[tokio::test]
async fn bytes_that_are_no_utf8_are_a_bad_line() {
    let postgres = postgres().await;
    let outcome = run_with_input(&mut pgio(postgres.url(), &FROM), b"[\"a\"]\n[\"\xff\"]\n".as_slice()).await;
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.starts_with("error: line 2: byte 3 is not UTF-8"), "{outcome:?}");

    let lines = b"[\"a\"]\n[\"\xff\"]\n[\"c\"]\n".as_slice();
    for (more, sent) in [(&["--keep-going"][..], 2), (&["--keep-going", "--dry-run"], 0)] {
        let arguments = [&FROM[..], more, &["-o", "json"]].concat();
        let outcome = run_with_input(&mut pgio(postgres.url(), &arguments), lines).await;
        assert_eq!(outcome.status, 1);
        assert_eq!(outcome.json()[0]["sent"], sent, "{outcome:?}");
        assert_eq!(outcome.json()[0]["bad"], 1, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_tail_feeds_another_cluster() {
    let (here, there) = (postgres().await, postgres().await);
    for url in [here.url(), there.url()] {
        create_attachment_table(url).await;
    }
    let mut arriving =
        Running::start(&mut pgio(there.url(), &["tail", "-n", "/", "-n", "b", "-o", "json", "--count", "3"]));
    arriving.wait_for_note("listening").await;
    let mut tail =
        Running::start(&mut pgio(here.url(), &["tail", "-n", "/", "-n", "b", "-o", "json", "--count", "3"]));
    tail.wait_for_note("listening").await;
    let mut bridge = Running::start(pgio(there.url(), &FROM).stdin(Stdio::piped()));
    let mut into = bridge.stdin();
    let lines = r#"["one", {"deep": [{"$binary":"AP8="}]}]
{"namespace":"/b","event":"two","rooms":["x","y"],"except":["z"],"flags":{"volatile":true,"compress":false}}
["three"]"#;
    run_with_input(&mut pgio(here.url(), &FROM), lines).await.succeeded();
    let mut sent = Vec::new();
    for _ in 0..3 {
        let line = tail.line().await;
        into.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        sent.push(serde_json::from_str(&line).unwrap());
        schema::check("event-line", &sent[sent.len() - 1]);
    }
    drop(into);
    bridge.end().await.succeeded();
    for sent in sent {
        let mut arrived = arriving.json().await;
        for own in ["time", "attachment"] {
            arrived[own] = sent[own].clone();
        }
        assert_eq!(arrived, sent);
    }
}

#[tokio::test]
async fn events_that_wait_for_room_in_the_queue_are_all_sent() {
    // 50 MB, more than the queue holds.
    const LINES: usize = 500;
    let server = own_server().await;
    create_attachment_table(&server.url()).await;
    let url = format!("{}?application_name=stopping", server.url());
    let mut emit =
        Running::start(pgio(&url, &["emit", "--from", "-", "-o", "json", "-v"]).stdin(Stdio::piped()));
    let mut into = emit.stdin();
    let stopped = Stopped::once_connected(&server.url(), "stopping").await;
    let (written, mut progress) = tokio::sync::watch::channel(0);
    let writer = tokio::spawn(async move {
        let line = |bytes| format!("[\"n\",\"{}\"]\n", "x".repeat(bytes));
        // The server has 37 s to answer this one, so pgio does not give up a slow machine.
        into.write_all(line(4_000_000).as_bytes()).await.unwrap();
        let line = line(100_000);
        for _ in 1..LINES {
            into.write_all(line.as_bytes()).await.unwrap();
            written.send_modify(|lines| *lines += 1);
        }
    });
    // The server goes on when the queue is full, so that pgio reads no more.
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), progress.changed()).await {}
    let lines = *progress.borrow();
    assert!((100..LINES).contains(&lines), "{lines} lines were read while the queue was full");
    drop(stopped);
    writer.await.unwrap();
    assert_eq!(emit.end().await.succeeded().json(), [json!({"sent": LINES, "bad": 0, "skipped": 0})]);
}

#[tokio::test]
async fn a_failure_ends_the_pause_before_the_next_event() {
    let server = own_server().await;
    let url = format!("{}?application_name=stopping", server.url());
    let mut emit =
        Running::start(pgio(&url, &["emit", "--from", "-", "--rate", "1/h"]).stdin(Stdio::piped()));
    let mut into = emit.stdin();
    let stopped = Stopped::once_connected(&server.url(), "stopping").await;
    into.write_all(b"[\"a\"]\n[\"b\"]\n").await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stopping'";
    execute(&server.url(), end).await;
    drop(stopped);
    let outcome = emit.end().await;
    assert!(outcome.status == 3 && outcome.stderr.contains("lost the connection"), "{outcome:?}");
}

#[tokio::test]
async fn rate_and_speed_hold_events_back() {
    let postgres = postgres().await;
    let start = Instant::now();
    let mut slow = pgio(postgres.url(), &["emit", "--from", "-", "--rate", "20/s"]);
    run_with_input(&mut slow, "[\"a\"]\n".repeat(5)).await.succeeded();
    assert!(start.elapsed() >= Duration::from_millis(200));
    let start = Instant::now();
    let mut replay = pgio(postgres.url(), &["emit", "--from", "-", "--speed", "2"]);
    let lines = "{\"time\":\"2026-01-31T12:00:00Z\",\"event\":\"a\"}\n{\"time\":\"2026-01-31T12:00:00.500Z\",\"event\":\"b\"}\n";
    run_with_input(&mut replay, lines).await.succeeded();
    assert!(start.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn an_interrupt_prints_a_summary() {
    let postgres = postgres().await;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut tail = Running::start(&mut pgio(postgres.url(), &["tail"]));
        tail.wait_for_note("listening").await;
        let mut emit = Running::start(pgio(postgres.url(), &FROM).stdin(Stdio::piped()));
        let mut stdin = emit.stdin();
        stdin.write_all(b"[\"a\"]\n[\"b\"]\n").await.unwrap();
        for _ in 0..2 {
            tail.line().await;
        }
        emit.signal(signal);
        let outcome = emit.end().await;
        assert_eq!((outcome.status, outcome.stderr.as_str()), (130, "error: interrupted (2 sent)\n"));
    }
}

#[tokio::test]
async fn an_interrupt_waits_for_events_in_flight_and_a_second_one_does_not() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    for (signal, again) in [(Signal::SIGINT, false), (Signal::SIGINT, true), (Signal::SIGTERM, true)] {
        let mut tail = Running::start(&mut pgio(postgres.url(), &["tail"]));
        tail.wait_for_note("listening").await;
        let mut emit = Running::start(pgio(postgres.url(), &FROM).stdin(Stdio::piped()));
        let mut stdin = emit.stdin();
        stdin.write_all(b"[\"a\"]\n").await.unwrap();
        tail.line().await;
        let lock = lock_attachment_table(postgres.url()).await;
        stdin.write_all(b"[\"b\",{\"$binary\":\"AA==\"}]\n").await.unwrap();
        lock.wait_for_others().await;
        emit.signal(signal);
        emit.wait_for_note("waiting for Postgres").await;
        let summary = if again {
            emit.signal(signal);
            "error: interrupted (1 sent, 1 unknown)"
        } else {
            lock.release().await;
            "error: interrupted (2 sent)"
        };
        let outcome = emit.end().await;
        assert_eq!((outcome.status, outcome.stderr.lines().last()), (130, Some(summary)));
    }
}

#[tokio::test]
async fn with_retry_for_a_restart_of_postgres_loses_nothing() {
    let mut server = own_server().await;
    let mut emit = Running::start(
        pgio(&server.url(), &["emit", "--from", "-", "--retry-for", "60s", "-o", "json"])
            .stdin(Stdio::piped()),
    );
    let mut stdin = emit.stdin();
    let mut tail = Running::start(&mut pgio(&server.url(), &["tail", "-o", "json"]));
    tail.wait_for_note("listening").await;
    stdin.write_all(b"[\"before\"]\n").await.unwrap();
    assert_eq!(tail.json().await["event"], "before");
    server.take_down(pgio::postgres::private::Shutdown::Immediate).await.unwrap();
    tail.wait_for_note("reconnecting").await;
    stdin.write_all(b"[\"after\",1]\n[\"after\",2]\n").await.unwrap();
    emit.wait_for_note("retrying").await;
    server.start_again().await.unwrap();
    drop(stdin);
    assert_eq!(emit.end().await.succeeded().json(), [json!({"sent": 3, "bad": 0, "skipped": 0})]);
    tail.wait_for_note("reconnected after").await;
}

#[tokio::test]
async fn breaks_in_the_middle_of_batches_cost_neither_order_nor_events() {
    const LINES: usize = 60_000;
    let postgres = postgres().await;
    let proxy = Proxy::start(postgres.url()).await;
    let cluster = Cluster::connect(Settings::parse(postgres.url()).unwrap(), AdapterOptions::default());
    let cluster = cluster.await.unwrap();
    let mut heard = cluster.subscribe(["/"], |_| true).await.unwrap();
    let mut emit = Running::start(
        pgio(proxy.url(), &["emit", "--from", "-", "--retry-for", "30s"]).stdin(Stdio::piped()),
    );
    let mut stdin = emit.stdin();
    let feed = tokio::spawn(async move {
        for n in 0..LINES {
            stdin.write_all(format!("[\"n\",{n}]\n").as_bytes()).await.unwrap();
        }
    });
    let (mut expected, mut again, mut breaks) = (0, 0, 0);
    while expected < LINES {
        let next = timeout(Duration::from_secs(30), heard.next()).await.expect("it goes on").unwrap();
        let Heard::Message(received) = next else { panic!("{next:?}") };
        let number = received.text.split_once("[\"n\",").unwrap().1.split_once(']').unwrap().0;
        let number: usize = number.parse().unwrap();
        assert!(number <= expected, "{number} came before {expected}");
        again += usize::from(number < expected);
        expected = expected.max(number + 1);
        if expected > (breaks + 1) * LINES / 4 && breaks < 3 {
            breaks += 1;
            proxy.set(Mode::Reset);
            tokio::time::sleep(Duration::from_millis(5)).await;
            proxy.set(Mode::Forward);
        }
    }
    feed.await.unwrap();
    let outcome = emit.end().await.succeeded();
    assert!(outcome.stderr.contains("60,000 sent"), "{}", outcome.stderr);
    // If the server can report what it has committed, nothing is sent twice. Otherwise the program reports how many may
    // be.
    let told = outcome.stderr.lines().find(|line| line.contains("may have been sent twice"));
    let told = told.map_or(0, |line| {
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        digits.parse::<usize>().unwrap()
    });
    println!("{again} came again, {told} were announced");
    assert!(again <= told, "{again} came again: {}", outcome.stderr);
}

#[tokio::test]
async fn without_retrying_a_loss_ends_it_with_status_3() {
    let mut server = own_server().await;
    let mut emit = Running::start(pgio(&server.url(), &FROM).stdin(Stdio::piped()));
    let mut tail = Running::start(&mut pgio(&server.url(), &["tail"]));
    tail.wait_for_note("listening").await;
    let mut stdin = emit.stdin();
    stdin.write_all(b"[\"before\"]\n").await.unwrap();
    tail.line().await;
    server.take_down(pgio::postgres::private::Shutdown::Immediate).await.unwrap();
    stdin.write_all(b"[\"after\"]\n").await.unwrap();
    drop(stdin);
    let outcome = emit.end().await;
    assert_eq!(outcome.status, 3, "{outcome:?}");
    // It is a race whether the event was in flight when the connection broke.
    let ends = ["(1 sent)\n", "(1 sent, 1 unknown)\n"];
    assert!(ends.iter().any(|end| outcome.stderr.ends_with(end)), "{outcome:?}");
}
