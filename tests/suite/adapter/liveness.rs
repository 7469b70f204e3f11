//! The members that nodes count, when a node leaves and when Postgres is down.

use std::time::Duration;

use pgio::AdapterOptions;
use serde_json::json;

use super::Three;
use crate::support::attachments::{create_attachment_table, execute};
use crate::support::node::AdapterVersion::{V03, V04, V05};
use crate::support::node::{NodePeer, Parser, ServerOptions, event};
use crate::support::pgio_node::PgioNode;
use crate::support::postgres::{own_server, postgres};

#[tokio::test]
async fn a_closed_node_departs_at_once() {
    let three = Three::start([V04, V05]).await;
    three.node.adapter.close().await.unwrap();
    for server in &three.servers {
        server.wait_for_server_count("/", 2).await;
    }
    // A stopped node answers no requests, since an answer would be a sign of life. By then all live nodes have
    // answered.
    three.servers[0].roll_call("/").await;
    three.servers[0].io().emit("after", json!([])).await;
    three.ours.wait_for_event("after").await;
    let emitter = pgio::Emitter::new(three.node.adapter.cluster().clone());
    assert_eq!(emitter.fetch_sockets().await.unwrap().into_values().len(), 2);
    for server in &three.servers {
        assert_eq!(server.server_count("/").await, 2);
    }
    assert!(three.node.io.emit("too late", &1).await.is_err());
    let three = Three::start([V04, V05]).await;
    let [first, _second] = three.servers;
    first.stop().await;
    three.node.wait_for_server_count(2).await;
}

#[tokio::test]
async fn heartbeats_keep_a_node_alive_and_their_absence_ends_it() {
    let postgres = postgres().await;
    let (interval, timeout) = (Duration::from_millis(200), Duration::from_millis(1000));
    let options = AdapterOptions::default().heartbeat_interval(interval).heartbeat_timeout(timeout);
    let node =
        PgioNode::start_with(postgres.url(), options.clone(), Parser::Default, |builder| builder).await;
    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(V05, postgres.url()).heartbeat(interval, timeout)).await;
    server.wait_for_server_count("/", 2).await;
    node.wait_for_server_count(2).await;
    // Many times the timeout, as both nodes see it.
    for _ in 0..15 {
        let _ = server.io().fetch_sockets().await.unwrap();
        assert_eq!((server.server_count("/").await, node.server_count().await), (2, 2));
        tokio::time::sleep(interval).await;
    }
    peer.kill().await;
    node.wait_for_server_count(1).await;
}

#[tokio::test]
async fn messages_of_a_0_3_server_are_received_and_answered() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(V03, postgres.url())).await;
    let node = PgioNode::start(postgres.url()).await;
    server.roll_call("/").await;
    server.wait_for_server_count("/", 2).await;
    node.wait_for_server_count(2).await;
    let (theirs, ours) = (server.client("/").await, node.client(&peer, "/").await);
    server.io().emit("from 0.3", json!([1])).await;
    node.io.emit("from pgio", &2).await.unwrap();
    for client in [&theirs, &ours] {
        client.wait_for_event("from 0.3").await;
        client.wait_for_event("from pgio").await;
    }
    assert_eq!(server.io().fetch_sockets().await.unwrap().len(), 2);
    ours.answer("q", json!("ours")).await;
    theirs.answer("q", json!("theirs")).await;
    let answers = server.io().timeout(Duration::from_secs(20)).emit_with_ack("q", json!([])).await.unwrap();
    assert_eq!(answers.len(), 2);
}

#[tokio::test]
async fn nonsense_on_the_channel_is_skipped() {
    let three = Three::start([V05, V05]).await;
    for payload in [
        "",
        "nonsense",
        "{}",
        r#"{"uid":"x","type":99,"nsp":"/"}"#,
        r#"{"uid":"x","type":3,"nsp":"/"}"#,
        r#"{"uid":"x","type":3,"nsp":"/","attachmentId":"999999"}"#,
        r#"{"uid":"x","type":3,"nsp":"/","data":{"packet":{"data":{}}}}"#,
    ] {
        execute(three.postgres.url(), &format!("SELECT pg_notify('socket.io#/', '{payload}')")).await;
    }
    three.servers[0].io().emit("after", json!([])).await;
    assert_eq!(three.ours.wait_for(1).await, [event("after", json!([]))]);
}

#[tokio::test]
async fn the_node_outlives_a_restart_of_postgres() {
    use pgio::postgres::private::Shutdown;
    let mut postgres = own_server().await;
    create_attachment_table(&postgres.url()).await;
    let node = PgioNode::start(&postgres.url()).await;
    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let (theirs, ours) = (server.client("/").await, node.client(&peer, "/").await);

    postgres.take_down(Shutdown::Immediate).await.unwrap();
    // The node serves its own clients meanwhile, and the sender gets an error, since the other clients receive nothing.
    assert!(node.io.emit("while away", &1).await.is_err());
    ours.wait_for_event("while away").await;
    assert!(!node.adapter.is_listening());

    postgres.start_again().await.unwrap();
    server.wait_until_listening_after(1).await;
    while node.io.emit("back", &2).await.is_err() {
        tokio::task::yield_now().await;
    }
    theirs.wait_for_event("back").await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !node.adapter.is_listening() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.io().emit("heard again", json!([])).await;
    ours.wait_for_event("heard again").await;
}
