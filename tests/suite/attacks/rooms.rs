//! Rooms that some clients may not join.

use serde_json::json;

use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;

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
