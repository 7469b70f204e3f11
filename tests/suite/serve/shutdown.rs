//! The shutdown of a server.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgio::Emitter;
use serde_json::json;

use crate::support::node::{AdapterVersion, Client, ClientOptions, NodePeer, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

const HEARTBEAT: [&str; 4] = ["--heartbeat-interval", "500ms", "--heartbeat-timeout", "2s"];

#[tokio::test]
async fn sigterm_announces_the_departure_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let postgres = postgres().await;
        let mut serve = PgioServe::start(postgres.url(), &[]).await;
        let node = NodePeer::start().await;
        let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
        server.wait_for_server_count("/", 2).await;
        let peer = NodePeer::start().await;
        let websocket = serve.client(&peer).await;
        let polling = peer.client(ClientOptions::new(&serve.url()).transports(&["polling"])).await;

        let start = Instant::now();
        serve.signal(signal);
        // Much earlier than the heartbeat timeout.
        server.wait_for_server_count("/", 1).await;
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        // Not `io server disconnect`, after which clients do not reconnect by themselves.
        assert_eq!(websocket.wait_for_disconnect().await, json!("transport close"));
        // A client between two polls gets no packet of it.
        let reason = polling.wait_for_disconnect().await;
        assert!(["transport close", "transport error"].contains(&reason.as_str().unwrap()), "{reason}");
        assert_eq!(serve.ended().await.code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn sigkill_is_noticed_within_the_heartbeat_timeout() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &HEARTBEAT).await;
    let node = NodePeer::start().await;
    let options = ServerOptions::new(AdapterVersion::V05, postgres.url())
        .heartbeat(Duration::from_millis(500), Duration::from_secs(2));
    let server = node.server(options).await;
    server.wait_for_server_count("/", 2).await;
    serve.signal(Signal::SIGKILL);
    server.wait_for_server_count("/", 1).await;
}

#[tokio::test]
async fn events_of_clients_are_relayed_before_the_shutdown() {
    let postgres = postgres().await;
    let mut serve = PgioServe::start(postgres.url(), &["--relay=namespace"]).await;
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let listener = server.client("/").await;
    let client = serve.client(&NodePeer::start().await).await;
    for number in 0..100 {
        client.emit("n", json!([number])).await;
    }
    client.emit_with_ack("last", json!([])).await.unwrap();
    serve.signal(Signal::SIGTERM);
    assert_eq!(listener.wait_for(101).await.len(), 101);
    assert!(serve.ended().await.success());
}

#[tokio::test]
async fn clients_get_a_disconnect_packet_even_without_postgres() {
    let mut postgres = crate::support::postgres::own_server().await;
    let mut serve = PgioServe::start(&postgres.url(), &["--grace", "2s"]).await;
    let client = serve.client(&NodePeer::start().await).await;
    postgres.take_down(pgio::postgres::private::Shutdown::Immediate).await.unwrap();
    serve.wait_for_ready(503).await;
    let start = Instant::now();
    serve.signal(Signal::SIGTERM);
    assert_eq!(client.wait_for_disconnect().await, json!("transport close"));
    assert_eq!(serve.ended().await.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nothing_up() {
    let postgres = postgres().await;
    let mut serve = PgioServe::start(postgres.url(), &["--grace", "2s", "--client-buffer", "64MB"]).await;
    let (stuck, good) = one_that_does_not_read_and_one_that_does(&serve, postgres.url()).await;
    assert_eq!(serve.metric("pgio_connections{transport=\"websocket\"}").await, 2.0);

    let start = Instant::now();
    serve.signal(Signal::SIGTERM);
    assert_eq!(good.wait_for_disconnect().await, json!("transport close"));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(serve.ended().await.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    drop(stuck);
}

#[tokio::test]
async fn a_second_ctrl_c_ends_at_once() {
    let postgres = postgres().await;
    let mut serve = PgioServe::start(postgres.url(), &["--grace", "10m", "--client-buffer", "64MB"]).await;
    let (stuck, good) = one_that_does_not_read_and_one_that_does(&serve, postgres.url()).await;
    serve.signal(Signal::SIGINT);
    good.wait_for_disconnect().await;
    serve.signal(Signal::SIGINT);
    assert_eq!(serve.ended().await.code(), Some(130));
    drop(stuck);
}

/// Two clients with more queued bytes than the system's buffers of one connection hold, and fewer than the server's
/// buffer of one client holds.
async fn one_that_does_not_read_and_one_that_does(serve: &PgioServe, url: &str) -> (RawWebsocket, Client) {
    let stuck = RawWebsocket::connect(serve.address()).await;
    let good = serve.client(&NodePeer::start().await).await;
    let padding = "x".repeat(7000);
    let emitter = Emitter::connect(url).await.unwrap();
    emitter.emit_all((0..3000).map(|n| ("n", (n, &padding)))).await.unwrap();
    good.wait_for(3000).await;
    (stuck, good)
}
