//! Detection of the cleaners of the table: `stats` observes servers of all versions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pgio::AdapterOptions;
use serde_json::{Value, json};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::attachments;
use crate::support::attachments::create_attachment_table;
use crate::support::mixed::mixed_with;
use crate::support::node::{PATIENCE, Parser};
use crate::support::pgio_node::PgioNode;
use crate::support::pgio_serve::until;
use crate::support::postgres::postgres;

/// A session that stays open as long as both parts exist. This is its last statement.
async fn session(url: &str, application: &str, statement: &str) -> (Client, AbortOnDropHandle<()>) {
    let mut config: Config = url.parse().unwrap();
    let (client, connection) = config.application_name(application).connect(NoTls).await.unwrap();
    let driver = AbortOnDropHandle::new(tokio::spawn(async move { connection.await.unwrap() }));
    client.batch_execute(statement).await.unwrap();
    (client, driver)
}

async fn cleaners(url: &str, wait: &str) -> Vec<Value> {
    let stats = attachments(url, &["stats", "--wait", wait, "-o", "json"]).await.succeeded().json();
    stats[0]["cleaners"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_next_cleaner_comes_first() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let nobody = attachments(postgres.url(), &["stats"]).await.succeeded().stdout;
    assert!(
        nobody.contains("\ncleanup    unknown: no cleanup is visible now (--wait 35s watches for longer)\n"),
        "{nobody}"
    );
    let nobody = attachments(postgres.url(), &["stats", "--wait", "50ms"]).await.succeeded().stdout;
    assert!(nobody.contains("\ncleanup    unknown: no cleanup was visible within 50ms\n"), "{nobody}");

    let cleanup = |table: &str, interval: &str| {
        format!("DELETE FROM {table} WHERE created_at < now() - interval '{interval} milliseconds'")
    };
    let other = "CREATE TABLE other (created_at timestamptz); ";
    let _sessions = [
        session(postgres.url(), "late", &cleanup("socket_io_attachments", "7200000")).await,
        session(postgres.url(), "soon", &cleanup("public.socket_io_attachments", "3600000.5")).await,
        session(postgres.url(), "over", &cleanup("socket_io_attachments", "1")).await,
        session(postgres.url(), "once", "DELETE FROM socket_io_attachments").await,
        session(postgres.url(), "elsewhere", &format!("{other}{}", cleanup("other", "3600000"))).await,
        session(postgres.url(), "gone", &cleanup("other", "3600000")).await,
    ];
    let seen = cleaners(postgres.url(), "0s").await;
    let names: Vec<_> = seen.iter().map(|cleaner| &cleaner["application"]).collect();
    assert_eq!(names, ["soon", "late"], "{seen:?}");
    assert_eq!(seen[0]["intervalMs"], 3_600_000);
    let due = seen[0]["dueInMs"].as_u64().unwrap();
    assert!((3_500_000..=3_600_000).contains(&due), "{seen:?}");
    seen[0]["last"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();

    let text = attachments(postgres.url(), &["stats"]).await.succeeded().stdout;
    let lines: Vec<_> = text.lines().skip_while(|line| !line.starts_with("cleanup ")).collect();
    let pid = &seen[0]["pid"];
    assert!(lines[0].starts_with("cleanup    next in "), "{text}");
    assert!(lines[0].ends_with(&format!(", every 1h: pid {pid} (soon) at 127.0.0.1")), "{text}");
    assert!(lines[1].starts_with("           then in 2h, every 2h: pid "), "{text}");
    assert_eq!(lines[2], "");
}

#[tokio::test]
async fn servers_of_all_versions_are_seen_at_work() {
    // Each server has another interval, which identifies it.
    let intervals = [("0.3", 1000), ("0.4", 1100), ("0.5", 1200)];
    let mixed = mixed_with(|options| {
        let version = json!(options)["version"].clone();
        let (_, interval) = intervals.into_iter().find(|(known, _)| version == *known).unwrap();
        options.option("cleanupInterval", interval)
    })
    .await;
    let options = AdapterOptions::default().cleanup_interval(Duration::from_millis(1300));
    let _node = PgioNode::start_with(mixed.url(), options, Parser::Default, |builder| builder).await;
    // 0.5 never counts 0.3.1, whose messages have no `nsp`.
    let counts = [4, 4, 3];
    until("all servers know each other", async || mixed.server_counts().await == counts).await;

    let start = Instant::now();
    let mut seen = BTreeSet::new();
    // A server that sends another statement at once is detected at a later try.
    while seen.len() < 4 && start.elapsed() < PATIENCE {
        for cleaner in cleaners(mixed.url(), "2s").await {
            assert!(cleaner["dueInMs"].as_u64() <= cleaner["intervalMs"].as_u64(), "{cleaner}");
            seen.insert(cleaner["intervalMs"].as_u64().unwrap());
        }
    }
    assert_eq!(seen, BTreeSet::from([1000, 1100, 1200, 1300]));
    assert_eq!(mixed.server_counts().await, counts);
}
