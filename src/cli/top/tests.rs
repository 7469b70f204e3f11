//! Tests the drawing on terminals of two sizes.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw;
use super::picture::{Picture, Ranked};
use super::view::{Sort, View};
use crate::Namespace;
use crate::cli::observer::{Database, Link, NodeView};
use crate::cli::traffic::tests::{broadcast, received};
use crate::cli::traffic::{By, Traffic};
use crate::cluster::NodeName;
use crate::postgres::health::TableGauge;

fn ranked(name: Option<&str>, per_second: f64) -> Ranked {
    Ranked {
        namespace: "/".into(),
        name: name.map(|name| crate::safe_text::line(name).into_owned()),
        per_second,
        bytes_per_second: per_second * 1000.0,
        messages: (per_second * 60.0) as u64,
        bytes: (per_second * 60_000.0) as u64,
        trend: (0..60).map(|second| second * per_second as u64 / 60).collect(),
    }
}

fn picture() -> Picture {
    let mut traffic = Traffic::new();
    for second in 0..100 {
        for _ in 0..=second % 20 {
            traffic.count(second, &received("a", broadcast("chat", &["r"]), None));
        }
    }
    let (events, bytes) = traffic.before(100, 600).map(|one| (one.events(), one.bytes())).unzip();
    let node = |uid: &str, sockets| NodeView {
        name: NodeName { nsp: Namespace::default(), uid: uid.into() },
        round_trip: Some(Duration::from_micros(1200)),
        last_heard: Instant::now(),
        sockets,
        client: None,
    };
    let mut rows = vec![
        ranked(Some("chat.message"), 812.0),
        ranked(Some("\u{1b}[2J\u{202e}evil"), 40.0),
        ranked(Some(&"漢字".repeat(40)), 3.5),
        ranked(None, 1.0),
    ];
    rows.extend((0..60).map(|i| ranked(Some(&format!("event{i:02}")), 0.5)));
    Picture {
        time: Timestamp::UNIX_EPOCH,
        server: "app at 10.0.0.5:5432 as alice".into(),
        namespaces: vec!["/".into(), "/admin".into()],
        second: 100,
        seconds: 1,
        link: Link::default(),
        recent: traffic.before(100, 1).next().unwrap(),
        events,
        bytes,
        nodes: vec![node("0123456789abcdef", Some(1234)), node("fedcba9876543210", None)],
        sockets: Some(1234),
        sockets_age: Some(Duration::from_secs(3)),
        database: Database {
            queue_usage: Some(0.0),
            commits_per_second: Some(120.4),
            wal_per_second: None,
            activity: None,
            table: Some(TableGauge {
                rows: 12,
                bytes: 3_400_000,
                disk_bytes: 5_000_000,
                oldest: Some(Duration::from_secs(12)),
                ..TableGauge::default()
            }),
        },
        by: By::Event,
        rows,
        other: ranked(None, 7.0),
    }
}

fn draw(size: (u16, u16), picture: &Picture, view: &mut View) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw::frame(frame, picture, view)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |row| (0..size.0).map(|column| buffer[(column, row)].symbol()).collect::<String>();
    let lines: Vec<_> = (0..size.1).map(line).map(|line| line.trim_end().to_owned()).collect();
    println!("{}", lines.join("\n"));
    lines
}

fn view() -> View {
    View::new(By::Event, Sort::Rate, false)
}

#[track_caller]
fn shows(lines: &[String], text: &str) -> usize {
    let found = lines.iter().position(|line| line.contains(text));
    found.unwrap_or_else(|| panic!("no {text:?} in\n{}", lines.join("\n")))
}

#[test]
fn the_usual_terminal_shows_what_matters() {
    let lines = draw((80, 24), &picture(), &mut view());
    assert!(lines[0].starts_with("pgio top  app at 10.0.0.5:5432 as alice  / /admin"), "{}", lines[0]);
    for text in [
        "events/s          20",
        "servers 2   sockets 1,234 (3s ago)",
        "missed 0",
        "commits/s 120   WAL/s -",
        "queue 0.0%   attachments 12 rows, 3.24 MiB, 4.77 MiB on disk, oldest 12s",
        "(others)",
        "? help   q quit",
    ] {
        shows(&lines, text);
    }
    let order = ["chat.message", "\\u{1b}[2J\\u{202e}evil ", "漢 字", "(no name)", "event00"];
    assert!(order.map(|name| shows(&lines, name)).is_sorted());
    assert!(lines[1].contains('█') && !lines.iter().any(|line| line.contains("SERVER")));
}

#[test]
fn a_large_terminal_shows_servers_and_higher_charts() {
    let lines = draw((160, 50), &picture(), &mut view());
    for text in ["SERVER", "0123456789abcdef", "1.2 ms", "max"] {
        shows(&lines, text);
    }
    let unknown = &lines[shows(&lines, "fedcba9876543210")];
    assert!(unknown.ends_with('-'), "{unknown}");
    assert!(lines[1..9].iter().all(|line| line.contains(['█', '▇', '▄', '▂', '▁', '▃', '▅', '▆'])));
}

#[test]
fn sorting_filter_pause_help_and_a_lost_connection_are_seen() {
    let mut picture = picture();
    let mut view = view();
    (view.sort, view.is_reversed) = (Sort::Name, true);
    let lines = draw((80, 24), &picture, &mut view);
    assert!(shows(&lines, "event58") > shows(&lines, "event59"), "{lines:#?}");
    (view.filter, view.is_typing, view.is_paused) = ("EVENT1".into(), true, true);
    let lines = draw((80, 24), &picture, &mut view);
    shows(&lines, "filter EVENT1▏");
    shows(&lines, "PAUSED");
    assert!(!lines.iter().any(|line| line.contains("chat.message") || line.contains("(others)")));
    view.filter = "nothing like that".into();
    shows(&draw((80, 24), &picture, &mut view), "no name matches the filter");
    view.has_help = true;
    picture.link.lost = Some("connection\nlost".into());
    let lines = draw((80, 24), &picture, &mut view);
    shows(&lines, " Keys ");
    shows(&lines, "connection\\nlost");
}

#[test]
fn scrolling_ends_at_the_last_row_and_no_size_is_too_small() {
    let picture = picture();
    let mut view = view();
    view.scrolled = usize::MAX / 2;
    let lines = draw((80, 24), &picture, &mut view);
    shows(&lines, "event59");
    assert_eq!(view.scrolled, picture.rows.len() - view.page);
    for size in [(1, 1), (10, 5), (40, 10), (300, 100)] {
        view.has_help = true;
        draw(size, &picture, &mut view);
    }
}

#[test]
fn an_object_for_programs_is_complete() {
    let picture = picture();
    let object = picture.object(Sort::Rate, 2);
    assert_eq!(object["eventsPerSecond"], 20.0);
    assert_eq!(object["types"]["broadcast"], 20);
    assert_eq!(object["rows"].as_array().unwrap().len(), 2);
    assert_eq!((&object["moreRows"], &object["walBytesPerSecond"]), (&62.into(), &serde_json::Value::Null));
}
