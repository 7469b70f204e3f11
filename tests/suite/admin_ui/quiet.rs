//! The traffic of a node for the UI: a node publishes nothing while no UI is connected.

use std::collections::HashSet;
use std::time::Duration;

use pgio::cluster::{Content, Event, Subscription};
use pgio::protocol::MessageKind;
use pgio::{AdapterOptions, Cluster, Settings};
use tokio::time::{Instant, timeout};

use super::{PATIENCE, Shown};
use crate::support::node::{AdapterVersion, NodePeer};
use crate::support::pgio_serve::until;
use crate::support::postgres::Postgres;

/// Longer than the interval of the statistics.
const WINDOW: Duration = Duration::from_secs(5);

/// The messages that nodes publish in the namespace of the UI.
struct Published {
    heard: Subscription,
    _cluster: Cluster,
}

impl Published {
    async fn watch(postgres: &Postgres) -> Self {
        let settings = Settings::parse(postgres.url()).unwrap();
        let cluster = Cluster::connect(settings, AdapterOptions::default()).await.unwrap();
        let of_nodes = |header: Option<&pgio::protocol::Header>| {
            header.is_some_and(|header| header.uid.is_emitter() && header.kind == MessageKind::Broadcast)
        };
        let heard = cluster.subscribe(["/admin"], of_nodes).await.unwrap();
        Self { heard, _cluster: cluster }
    }

    /// The name of the next event, and its size in bytes on the wire.
    async fn next(&mut self, patience: Duration) -> Option<(String, usize)> {
        let event = timeout(patience, self.heard.next()).await.ok()?;
        let Some(Event::Message(received)) = event else { panic!("{event:?}") };
        let Content::Message(message) = &received.content else { panic!("{received:?}") };
        let pgio::protocol::Body::Broadcast { event, .. } = &message.body else { panic!("{message:?}") };
        Some((event.event().unwrap().into_owned(), received.text.len()))
    }

    /// Waits until nothing was published for a while.
    async fn wait_until_quiet(&mut self) {
        let start = Instant::now();
        while let Some(event) = self.next(WINDOW).await {
            assert!(start.elapsed() < PATIENCE, "still: {event:?}");
        }
    }
}

#[tokio::test]
async fn nothing_is_published_while_no_ui_is_open() {
    let shown = Shown::start(AdapterVersion::V05, "development", &[]).await;
    let mut published = Published::watch(&shown.postgres).await;
    // A client of Node, which the Node server announces, and a client of pgio.
    let _clients = [shown.server.client("/").await, shown.client().await];
    assert_eq!(published.next(WINDOW).await, None);

    let ui = shown.ui().await;
    let (first, bytes) = published.next(WINDOW).await.expect("it is told");
    assert_eq!(first, "server_stats");
    assert!(bytes < 600, "{bytes}");
    shown.client().await;
    assert_eq!(published.next(WINDOW).await.unwrap().0, "socket_connected");
    ui.0.disconnect().await;
    published.wait_until_quiet().await;
    shown.client().await;
    assert_eq!(published.next(WINDOW).await, None);
}

#[tokio::test]
async fn a_ui_of_a_server_in_production_mode_costs_statistics_only() {
    let shown = Shown::start(AdapterVersion::V05, "production", &[]).await;
    let mut published = Published::watch(&shown.postgres).await;
    assert_eq!(published.next(WINDOW).await, None);
    let ui = shown.ui().await;
    ui.wait_for_stats(&shown.serve, |stats| stats["clientsCount"] == 0).await;
    let _client = shown.client().await;
    ui.wait_for_stats(&shown.serve, |stats| stats["clientsCount"] == 1).await;
    for _ in 0..3 {
        assert_eq!(published.next(WINDOW).await.unwrap().0, "server_stats");
    }
    // The server disconnects the UI.
    drop(ui);
    shown.server.of("/admin").local().disconnect_sockets(true).await;
    published.wait_until_quiet().await;
}

#[tokio::test]
async fn changes_of_many_sockets_are_sent_at_a_bounded_rate() {
    const CLIENTS: usize = 1500;
    let arguments = ["-n", "/ours", "--connect-timeout", "60s"];
    let shown = Shown::start_apart(AdapterVersion::V05, "development", &arguments).await;
    // The UI's list does not have these sockets, so the node publishes all of them.
    let peer = NodePeer::start().await;
    let ids = peer.crowd_in(&shown.serve.url(), "/ours", CLIENTS).await.into_iter().collect::<HashSet<_>>();
    let mut published = Published::watch(&shown.postgres).await;
    let ui = shown.ui().await;
    let mut first = None;
    let mut told = 0;
    while told < CLIENTS {
        let (event, _) = published.next(PATIENCE).await.expect("it is told");
        if event == "socket_connected" {
            told += 1;
            let first = first.get_or_insert_with(Instant::now);
            assert!(told <= 1000 || first.elapsed() > Duration::from_millis(700), "{:?}", first.elapsed());
        }
    }
    until("the UI shows all of them", async || {
        let received = ui.0.received().await;
        let connected = received.iter().filter(|one| one.event == "socket_connected");
        let shown: HashSet<_> = connected.map(|one| one.args[0]["id"].as_str().unwrap().to_owned()).collect();
        shown.is_superset(&ids)
    })
    .await;
}
