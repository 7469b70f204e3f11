//! Rooms that some clients may not join.

use serde_json::json;

use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_private_messages_of_a_client_on_another_server_stay_private() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "*"]).await;
    let second = PgioServe::start(postgres.url(), &[]).await;
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 3).await;
    let peer = NodePeer::start().await;
    let spy = serve.client(&peer).await;
    for victim in [server.client("/").await, second.client(&peer).await] {
        let answer = spy.emit_with_ack("join", json!([["r1", victim.id()]])).await.unwrap();
        assert!(
            answer["error"].as_str().is_some_and(|error| error.contains("looks like a socket id")),
            "{answer}"
        );
        server.io().to(victim.id()).emit("private", json!([])).await;
        victim.wait_for_event("private").await;
    }
    server.io().emit("end", json!([])).await;
    spy.wait_for_event("end").await;
    assert_eq!(spy.received().await.len(), 1);
}

/// The acknowledgement of a change of rooms lists all rooms, so a few bytes could cause many.
#[tokio::test]
async fn long_acknowledgements_count_for_the_rate_of_a_client() {
    let postgres = postgres().await;
    let flags = ["--allow-join", "*", "--client-bytes", "100000", "--client-rate", "100000"];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let mut client = RawWebsocket::connect(serve.address()).await;
    let rooms: Vec<_> = (0..100).map(|number| format!("{number:0>200}")).collect();
    client.send(&format!("421{}", json!(["join", rooms]))).await;
    assert!(client.read_text().await.starts_with("431[[\"000"));
    let mut bytes = 0;
    loop {
        client.send("422[\"leave\",[]]").await;
        let answer = client.read_text().await;
        if answer.contains("rate limit exceeded") {
            break;
        }
        bytes += answer.len();
        assert!(bytes < 20 << 20, "no limit");
    }
}

/// A list of 90,000 names in one event must not keep a thread of the server busy.
#[tokio::test]
async fn a_list_of_more_rooms_than_a_client_may_join_is_refused_at_once() {
    let postgres = postgres().await;
    let serve =
        PgioServe::start(postgres.url(), &["--allow-join", "*", "--max-rooms-per-client", "10"]).await;
    let mut client = RawWebsocket::connect(serve.address()).await;
    let rooms: Vec<_> = (0..11).map(|number| number.to_string()).collect();
    for event in ["join", "leave"] {
        client.send(&format!("421{}", json!([event, rooms]))).await;
        assert_eq!(client.read_text().await, r#"431[{"error":"a client may be in at most 10 rooms"}]"#);
    }
    client.send(&format!("421{}", json!(["join", vec!["r1"; 1000]]))).await;
    assert_eq!(client.read_text().await, r#"431[["r1"]]"#);
}
