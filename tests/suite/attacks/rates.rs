//! Clients that emit much, and peers whose messages take much memory.

use pgio::{Emitter, Value};
use serde_json::json;

use crate::support::node::NodePeer;
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

const REFUSED: &str = "[{\"error\":\"rate limit exceeded: too many events\"}]";

#[tokio::test]
async fn a_client_that_floods_is_refused_and_then_disconnected() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--relay=namespace", "--client-rate", "10"]).await;
    let good = serve.client(&NodePeer::start().await).await;
    let mut flood = RawWebsocket::connect(serve.address()).await;
    for n in 0..50 {
        flood.send(&format!("421{n}[\"e\",{n}]")).await;
    }
    // The burst of five seconds' worth passes, and what the rate allows meanwhile.
    assert!(flood.hears("43149[]").await);
    for n in 50..150 {
        flood.send(&format!("421{n}[\"e\",{n}]")).await;
    }
    assert!(flood.hears(REFUSED).await);
    for n in 150..600 {
        flood.send(&format!("421{n}[\"e\",{n}]")).await;
    }
    flood.read_to_end().await;
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_fast\"}").await, 1.0);
    assert!(good.emit_with_ack("end", json!([])).await.is_ok());
    let received = good.received().await.len();
    assert!((50..300).contains(&received), "{received}");
    assert_eq!(good.lifecycle().await.len(), 1);
}

#[tokio::test]
async fn the_bytes_of_a_client_are_limited_as_well() {
    let postgres = postgres().await;
    let flags = ["--relay=namespace", "--client-bytes", "100kB", "--max-payload", "100kB"];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let mut client = RawWebsocket::connect(serve.address()).await;
    let padding = "x".repeat(50_000);
    for n in 0..9 {
        client.send(&format!("421{n}[\"e\",\"{padding}\"]")).await;
        assert!(client.hears(&format!("431{n}[]")).await);
    }
    for n in 9..30 {
        client.send(&format!("421{n}[\"e\",\"{padding}\"]")).await;
    }
    assert!(client.hears(REFUSED).await);
    client.read_to_end().await;
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_fast\"}").await, 1.0);
}

/// The names of the rooms are published with each event.
#[tokio::test]
async fn the_rooms_of_the_sender_count_as_bytes() {
    let postgres = postgres().await;
    let flags = ["--relay", "--allow-join", "*", "--client-bytes", "10kB", "--max-payload", "10kB"];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let mut client = RawWebsocket::connect(serve.address()).await;
    let rooms: Vec<_> = (0..20).map(|n| format!("{n:0>240}")).collect();
    client.send(&format!("421[\"join\",{}]", json!(rooms))).await;
    assert!(client.hears("431[").await);
    // The burst is fifty thousand bytes, and each event takes five thousand.
    for n in 0..100 {
        client.send(&format!("422{n}[\"e\"]")).await;
    }
    assert!(client.hears(REFUSED).await);
    client.read_to_end().await;
    let published = serve.metric("pgio_messages_published_total{type=\"broadcast\"}").await;
    assert!((1.0..60.0).contains(&published), "{published}");
}

#[tokio::test]
async fn a_message_of_a_peer_that_takes_much_memory_is_skipped() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--max-attachment", "1MB"]).await;
    serve.wait_for_ready(200).await;
    let client = serve.client(&NodePeer::start().await).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let binary = |bytes: usize| Value::Binary(vec![7; bytes].into());
    // One is too large to be fetched, the other is small until it is decoded.
    emitter.emit("bad", binary(2_000_000)).await.unwrap();
    let nested = Value::Array(vec![Value::Array(Vec::new()); 200_000]);
    emitter.emit("bad", (nested, binary(1))).await.unwrap();
    // Messages that are too large only together are read one after the other.
    for n in 0..5 {
        emitter.emit("good", (n, binary(600_000))).await.unwrap();
    }
    let received = client.wait_for(5).await;
    let numbers: Vec<_> =
        received.iter().map(|event| (event.event.as_str(), event.args[0].clone())).collect();
    assert_eq!(numbers, (0..5).map(|n| ("good", json!(n))).collect::<Vec<_>>());
    assert_eq!(serve.metric("pgio_messages_malformed_total").await, 2.0);
}
