//! Many events, many clients, and one slow client.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pgio::Emitter;
use serde_json::json;

use crate::support::node::{AdapterVersion, ClientOptions, NodePeer, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::portions::Numbered;
use crate::support::postgres::postgres;
use crate::support::raw_polling::RawPolling;
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
    // The clients share two processes, which may need long to connect all of them.
    let serve = PgioServe::start(postgres.url(), &["--connect-timeout", "30s"]).await;
    let peers = join_all((0..2).map(|_| NodePeer::start())).await;
    let clients = join_all((0..CLIENTS).map(|n| serve.client(&peers[n % 2]))).await;
    join_all(clients.iter().map(|client| client.count())).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.emit_all((0..COUNT).map(|n| ("n", n))).await.unwrap();
    for tally in join_all(clients.iter().map(|client| client.wait_for_tally("n", COUNT, PATIENCE))).await {
        assert_eq!((tally.count, tally.first_break), (COUNT, None));
    }
    serve.wait_for_metric("pgio_events_sent_total", (CLIENTS as u64 * COUNT) as f64).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected_and_others_are_unaffected() {
    const COUNT: u64 = 20_000;
    const PADDING: usize = 4000;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let peer = NodePeer::start().await;
    let good = peer.client(ClientOptions::new(&serve.url())).await;
    good.count().await;
    let mut slow = RawWebsocket::connect(serve.address()).await;
    assert_eq!(serve.metric("pgio_connections{transport=\"websocket\"}").await, 2.0);

    // In portions that fit into the buffer of the good client.
    Numbered { count: COUNT, portion: 1000, padding: PADDING }.emit(postgres.url(), &[&good]).await;
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
    assert!(slow.read_to_end().await < (COUNT as usize) * PADDING);
    assert!(start.elapsed() < Duration::from_secs(10), "the connection was left open");
}

#[tokio::test]
async fn a_client_that_does_not_poll_is_cut_off_as_well() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--client-buffer", "256kB"]).await;
    let idle = RawPolling::connect(&serve).await;
    let good = serve.client(&NodePeer::start().await).await;
    good.count().await;

    Numbered { count: 3000, portion: 500, padding: 0 }.emit(postgres.url(), &[&good]).await;
    serve.wait_for_metric("pgio_connections{transport=\"polling\"}", 0.0).await;
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_slow\"}").await, 1.0);
    assert!(idle.is_closed().await);
}
