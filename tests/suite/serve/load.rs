//! Many events, many clients, and one that cannot keep up.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pgio::Emitter;
use serde_json::json;

use crate::support::node::{AdapterVersion, ClientOptions, NodePeer, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_burst_of_a_node_server_arrives_whole_and_in_order() {
    const COUNT: u64 = 50_000;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let node = NodePeer::start().await;
    let options = ServerOptions::new(AdapterVersion::V05, postgres.url()).pool_size(2);
    let server = node.server(options).await;
    server.wait_for_server_count("/", 2).await;
    let client = serve.client(&NodePeer::start().await).await;
    client.count().await;
    server.io().burst("n", COUNT).await;
    let tally = client.wait_for_tally("n", COUNT, PATIENCE).await;
    assert_eq!((tally.count, tally.first_break), (COUNT, None));
    assert_eq!(serve.metric("pgio_slow_clients_total").await, 0.0);
}

#[tokio::test]
async fn five_hundred_clients_get_a_thousand_events_each() {
    const CLIENTS: usize = 500;
    const COUNT: u64 = 1000;
    let postgres = postgres().await;
    // The clients share two processes, which may take long to connect all of them.
    let serve = PgioServe::start(postgres.url(), &["--connect-timeout", "30s"]).await;
    let peers = join_all((0..2).map(|_| NodePeer::start())).await;
    let clients = join_all((0..CLIENTS).map(|n| serve.client(&peers[n % 2]))).await;
    join_all(clients.iter().map(|client| client.count())).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.emit_all((0..COUNT).map(|n| ("n", n))).await.unwrap();
    for tally in join_all(clients.iter().map(|client| client.wait_for_tally("n", COUNT, PATIENCE))).await {
        assert_eq!((tally.count, tally.first_break), (COUNT, None));
    }
    assert_eq!(serve.metric("pgio_events_sent_total").await, (CLIENTS as u64 * COUNT) as f64);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_nobody_else_notices() {
    const COUNT: u64 = 20_000;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let peer = NodePeer::start().await;
    let good = peer.client(ClientOptions::new(&serve.url())).await;
    good.count().await;
    let mut slow = RawWebsocket::connect(serve.address()).await;
    assert_eq!(serve.metric("pgio_connections{transport=\"websocket\"}").await, 2.0);

    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let padding = "x".repeat(4000);
    // In portions that the good one's buffer can hold.
    for portion in 0..COUNT / 1000 {
        let numbers = portion * 1000..(portion + 1) * 1000;
        emitter.emit_all(numbers.clone().map(|n| ("n", (n, &padding)))).await.unwrap();
        good.wait_for_tally("n", numbers.end, PATIENCE).await;
    }
    let tally = good.wait_for_tally("n", COUNT, PATIENCE).await;
    assert_eq!((tally.count, tally.first_break), (COUNT, None));

    serve.wait_for_metric("pgio_connections{transport=\"websocket\"}", 1.0).await;
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_slow\"}").await, 1.0);
    let line = serve.wait_for_log("disconnecting a client").await;
    assert_eq!(
        (&line["fields"]["reason"], &line["fields"]["address"]),
        (&json!("too_slow"), &json!("127.0.0.1"))
    );
    let start = Instant::now();
    assert!(slow.read_to_end().await < (COUNT as usize) * padding.len());
    assert!(start.elapsed() < Duration::from_secs(10), "the connection was left open");
}

#[tokio::test]
async fn a_client_that_does_not_poll_is_cut_off_as_well() {
    const COUNT: u64 = 3000;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--client-buffer", "256kB"]).await;
    let get = "GET /socket.io/?EIO=4&transport=polling";
    let (_, open) = serve.request(&format!("{get} HTTP/1.0\r\n\r\n")).await;
    let sid = open.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    let post =
        format!("POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.0\r\ncontent-length: 2\r\n\r\n40");
    assert_eq!(serve.request(&post).await.1, "ok");
    serve.wait_for_metric("pgio_connections{transport=\"polling\"}", 1.0).await;
    let good = serve.client(&NodePeer::start().await).await;
    good.count().await;

    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    for portion in 0..COUNT / 500 {
        let numbers = portion * 500..(portion + 1) * 500;
        emitter.emit_all(numbers.clone().map(|n| ("n", n))).await.unwrap();
        good.wait_for_tally("n", numbers.end, PATIENCE).await;
    }
    serve.wait_for_metric("pgio_connections{transport=\"polling\"}", 0.0).await;
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_slow\"}").await, 1.0);
    let (head, _) = serve.request(&format!("{get}&sid={sid} HTTP/1.0\r\n\r\n")).await;
    assert!(head.contains(" 400 "), "{head}");
}

#[tokio::test]
async fn a_client_that_emits_faster_than_the_cluster_takes_is_cut_off() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--relay=namespace", "--client-buffer", "64KiB"]).await;
    let mut fast = RawWebsocket::connect(serve.address()).await;
    let event = format!("42[\"e\",\"{}\"]", "x".repeat(8000));
    for _ in 0..2000 {
        fast.send(&event).await;
    }
    fast.read_to_end().await;
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_fast\"}").await, 1.0);
    let other = serve.client(&NodePeer::start().await).await;
    other.emit_with_ack("e", json!([])).await.unwrap();
}
