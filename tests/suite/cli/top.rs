//! `pgio top`: counts the messages and shows them, on a terminal and elsewhere. The cluster does not change for it.

use std::time::Duration;

use nix::sys::signal::Signal;
use pgio::postgres::private::Shutdown;
use serde_json::Value;

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::pgio::{Running, pgio, run};
use crate::support::postgres::{own_server, postgres};
use crate::support::terminal::Terminal;
use crate::support::whole::whole;

/// The escape sequence of tmux for cyan.
const CYAN: &str = "38;5;6m";

/// The number of events in each test.
const EVENTS: u64 = 300;

/// Sends events to a room: `EVENTS` counted ones, and one that goes through the attachment table.
async fn send(url: &str, event: &str) {
    let lines = (0..EVENTS).map(|i| format!("[\"{event}\", {i}]\n")).collect::<String>();
    let arguments = ["emit", "--from", "-", "--room", "r1", "-q"];
    crate::support::pgio::run_with_input(&mut pgio(url, &arguments), lines).await.succeeded();
    let large = "x".repeat(20_000);
    run(&mut pgio(url, &["emit", "-q", "--room", "r2", "large\u{1b}[2J", &large])).await.succeeded();
}

/// Waits until the clock in the first line has changed.
async fn wait_for_the_clock(terminal: &Terminal) {
    let time =
        || terminal.screen().lines().next().unwrap_or_default().split(' ').next_back().map(str::to_owned);
    let (before, start) = (time(), std::time::Instant::now());
    while time() == before {
        assert!(start.elapsed() < Duration::from_secs(30), "the clock stands still");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The count of a name in ten minutes, in all namespaces.
fn count_of(object: &Value, name: &str) -> u64 {
    let rows = object["rows"].as_array().unwrap();
    rows.iter().filter(|row| row["name"] == name).map(|row| row["count"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn every_event_is_counted_once_without_joining_the_cluster() {
    let cluster = whole().await;
    let by = |by| Running::start(&mut pgio(cluster.url(), &["top", "-o", "json", "--by", by]));
    let mut tops = [by("event"), by("room"), by("sender")];
    cluster
        .undisturbed(async {
            for top in &mut tops {
                // Everything after the first object is counted.
                assert_eq!(top.json().await["connected"], true);
            }
            send(cluster.url(), "many").await;
            cluster.mixed.servers[0].client("/").await.disconnect().await;
            let names = [("many", "large\\u{1b}[2J"), ("r1", "r2"), ("emitter", "emitter")];
            for (top, (many, large)) in tops.iter_mut().zip(names) {
                let mut events = 0.0;
                loop {
                    let object = top.json().await;
                    let seconds = object["intervalMs"].as_f64().unwrap() / 1000.0;
                    events += object["eventsPerSecond"].as_f64().unwrap() * seconds;
                    assert_eq!(object["missed"], 0);
                    let is_counted = count_of(&object, many) >= EVENTS && count_of(&object, large) >= 1;
                    if is_counted && object["nodes"] == 4 && object["sockets"].is_u64() {
                        assert!(many == "emitter" || count_of(&object, many) == EVENTS, "{object}");
                        assert_eq!(object["other"]["count"], 0);
                        assert!(object["queueUsage"].is_f64() || object["queueUsage"].is_u64(), "{object}");
                        break;
                    }
                }
                assert_eq!(events.round(), (EVENTS + 1) as f64, "each second is shown once");
            }
        })
        .await;
    for top in tops {
        top.signal(Signal::SIGINT);
        assert_eq!(top.end().await.status, 130);
    }
}

#[tokio::test]
async fn a_snapshot_as_text_and_as_json() {
    let cluster = whole().await;
    cluster.join(0, &["r1"]).await;
    let flood = async {
        loop {
            send(cluster.url(), "many").await;
        }
    };
    let snapshots = async {
        let text =
            cluster.run(&["top", "--once", "--interval", "2s", "-n", "/", "-n", "admin"]).await.succeeded();
        let json =
            cluster.run(&["top", "--once", "-o", "json", "--by", "room", "--limit", "1"]).await.succeeded();
        (text, json.json())
    };
    let (text, json) = tokio::select! {
        snapshots = snapshots => snapshots,
        () = flood => unreachable!("it goes on for ever"),
    };
    for expected in
        ["servers      8\n", "sockets      4 (", "namespaces   /, /admin\n", "attachments  ", "WAL/s        "]
    {
        assert!(text.stdout.contains(expected), "{expected}\n{}", text.stdout);
    }
    assert!(text.stdout.contains("\nmany  ") && !text.stdout.contains('\u{1b}'), "{}", text.stdout);
    let [object] = &json[..] else { panic!("{json:?}") };
    assert!(object["eventsPerSecond"].as_f64().unwrap() > 0.0, "{object}");
    assert!(object["attachmentBytesPerSecond"].is_number(), "{object}");
    assert!(object["attachments"]["diskBytes"].as_u64().unwrap() > 0, "{object}");
    assert_eq!((&object["nodes"], &object["sockets"]), (&4.into(), &4.into()));
    assert_eq!((object["rows"].as_array().unwrap().len(), &object["intervalMs"]), (1, &1000.into()));
}

#[tokio::test]
async fn values_without_a_privilege_are_unknown() {
    let postgres = postgres().await;
    // Some hosting providers restrict this function.
    execute(postgres.url(), "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_current_wal_lsn() FROM PUBLIC").await;
    let url = postgres.url_of_role_with("NOSUPERUSER").await;
    let mut top = Running::start(&mut pgio(&url, &["top", "-o", "json", "--no-sockets"]));
    let object = loop {
        let object = top.json().await;
        if object["commitsPerSecond"].is_number() {
            break object;
        }
    };
    assert!(object["walBytesPerSecond"].is_null() && object["attachments"].is_null(), "{object}");
    assert!(object["sockets"].is_null() && object["queueUsage"].is_number(), "{object}");
}

#[tokio::test]
async fn lines_in_a_pipe() {
    let cluster = whole().await;
    let mut top = Running::start(&mut pgio(cluster.url(), &["top", "--interval", "1s"]));
    assert!(top.line().await.starts_with("TIME "));
    let line = top.line().await;
    assert!(line.split_whitespace().count() >= 10, "{line}");
    top.signal(Signal::SIGTERM);
    assert_eq!(top.end().await.status, 130);
}

#[tokio::test]
async fn a_live_view_with_keys_that_gives_the_terminal_back() {
    let cluster = whole().await;
    let terminal = Terminal::start((80, 24), cluster.url(), &[], &["top"]);
    cluster
        .undisturbed(async {
            terminal.wait_for("servers 4   sockets 4 (").await;
            send(cluster.url(), "many").await;
            terminal.wait_for("large\\u{1b}[2J").await;
        })
        .await;
    assert!(terminal.is_taken_over());
    assert!(terminal.screen_with_colours().contains(CYAN), "{}", terminal.screen_with_colours());
    terminal.press(&["/", "m", "a", "n", "Enter"]);
    let screen = terminal.wait_for("filter man").await;
    assert!(screen.contains("\nmany ") && !screen.contains("large"), "{screen}");
    terminal.press(&["Escape"]);
    terminal.wait_for("large").await;
    terminal.press(&["Tab"]);
    let screen = terminal.wait_for("\nr1 ").await;
    assert!(screen.contains("ROOM"), "{screen}");
    terminal.press(&["Space"]);
    terminal.wait_for("PAUSED").await;
    terminal.press(&["?"]);
    terminal.wait_for("rank by event, room or sender").await;
    terminal.press(&["?", "Space"]);
    terminal.resize(150, 40);
    let screen = terminal.wait_for("SERVER").await;
    assert!(screen.lines().count() <= 40, "{screen}");
    // crossterm reads a key that arrives together with a resize only with the next key, so the resize has to be over.
    wait_for_the_clock(&terminal).await;
    terminal.press(&["q"]);
    terminal.ends_with(0).await;

    let told = Terminal::start((80, 24), cluster.url(), &["NO_COLOR=1"], &["top"]);
    told.wait_for("servers 4").await;
    assert!(!told.screen_with_colours().contains(CYAN), "{}", told.screen_with_colours());
    told.signal(Signal::SIGTERM);
    told.ends_with(130).await;
    let interrupted = Terminal::start((80, 24), cluster.url(), &[], &["top"]);
    interrupted.wait_for("servers 4").await;
    interrupted.press(&["C-c"]);
    interrupted.ends_with(130).await;
}

#[tokio::test]
async fn an_interval_has_its_limits() {
    let postgres = postgres().await;
    for (interval, error) in [("1", "unit"), ("1ms", "from 100ms to 10m"), ("1h", "from 100ms to 10m")] {
        let refused = run(&mut pgio(postgres.url(), &["top", "--interval", interval])).await;
        assert!(refused.status == 2 && refused.stderr.contains(error), "{refused:?}");
    }
    let short = ["top", "--once", "--interval", "100ms", "--no-sockets"];
    let outcome = tokio::time::timeout(Duration::from_secs(20), run(&mut pgio(postgres.url(), &short))).await;
    let outcome = outcome.expect("it ends by itself").succeeded();
    assert!(outcome.stdout.contains("servers      0\n"), "{outcome:?}");
}

#[tokio::test]
async fn an_outage_of_postgres_is_reported_beside_the_lines() {
    let mut server = own_server().await;
    create_attachment_table(&server.url()).await;
    let mut top = Running::start(&mut pgio(&server.url(), &["top", "--interval", "200ms"]));
    while !top.line().await.contains(':') {}
    server.take_down(Shutdown::Immediate).await.unwrap();
    top.wait_for_note("warning: lost the connection to Postgres").await;
    // The time, and then unknown events, bytes, acknowledgements, servers and sockets.
    while !top.line().await.contains("         -           -       -      -        -") {}
    server.start_again().await.unwrap();
    top.wait_for_note("warning: reconnected to Postgres").await;
    top.signal(Signal::SIGTERM);
    assert_eq!(top.end().await.status, 130);
}
