//! Joining, leaving, disconnecting and listing sockets, both ways.

use std::time::Duration;

use pgio::protocol::BroadcastOptions;
use serde_json::json;

use super::Three;
use crate::support::node::AdapterVersion::{V03, V04, V05};
use crate::support::node::event;

#[tokio::test]
async fn node_servers_move_list_and_drop_sockets_of_the_node() {
    for versions in [[V04, V05], [V05, V05], [V03, V03]] {
        let three = Three::start(versions).await;
        let server = &three.servers[0];
        three.ours.emit_with_ack("data", json!([{"name": "ours"}])).await.unwrap();
        let list = async |room: &str| {
            let mut sockets = server.io().to(room).fetch_sockets().await.unwrap();
            sockets.sort_by_key(|socket| socket.id != three.ours.id());
            sockets
        };
        server.io().sockets_join(&["r1", "r2"]).await;
        server.io().to(three.ours.id()).sockets_leave(&["r2"]).await;
        server.io().except(three.ours.id()).sockets_join(&["theirs"]).await;
        let sockets = list("r1").await;
        assert_eq!(sockets.len(), 3);
        assert_eq!((sockets[0].id.as_str(), &sockets[0].data), (three.ours.id(), &json!({"name": "ours"})));
        assert_eq!(sockets[0].rooms, [three.ours.id(), "r1"]);
        assert_eq!(sockets[0].handshake["query"]["transport"], "websocket");
        assert_eq!(sockets[0].handshake["headers"]["upgrade"], "websocket");
        assert_eq!(list("r2").await.len(), 2);
        assert_eq!(list("theirs").await.len(), 2);
        assert_eq!(list(three.ours.id()).await.len(), 1);

        server.io().to("r1").except("theirs").disconnect_sockets(false).await;
        assert_eq!(three.ours.wait_for_disconnect().await, "io server disconnect");
        assert_eq!(list("r1").await.len(), 2);
        assert_eq!(three.theirs[0].lifecycle().await, [event("connect", json!([]))]);
    }
}

#[tokio::test]
async fn close_drops_all_namespaces_of_a_client() {
    let three = Three::start([V05, V05]).await;
    three.servers[0].io().to(three.ours.id()).disconnect_sockets(true).await;
    assert_eq!(three.ours.wait_for_disconnect().await, "io server disconnect");
}

#[tokio::test]
async fn the_node_moves_lists_and_drops_sockets_of_node_servers() {
    for versions in [[V04, V05], [V03, V03]] {
        let three = Three::start(versions).await;
        let io = &three.node.io;
        three.theirs[1].set_data(json!({"name": "second"})).await;
        io.broadcast().join(["r1", "r2"]).await.unwrap();
        io.to(three.theirs[0].id().to_owned()).leave("r2").await.unwrap();
        let list = async |room: &str| {
            let opts = BroadcastOptions::default().to(room);
            let collected =
                three.node.adapter.fetch_remote_sockets("/", opts, Duration::from_secs(20)).await.unwrap();
            assert!(collected.is_complete());
            collected.into_values()
        };
        assert_eq!(list("r1").await.len(), 2);
        let in_r2 = list("r2").await;
        assert_eq!(in_r2.len(), 1);
        assert_eq!(in_r2[0].rooms, [three.theirs[1].id(), "r1", "r2"]);
        assert_eq!(in_r2[0].data.get("name").and_then(|name| name.as_str()), Some("second"));
        let ours = io.within("r2").fetch_sockets().await.unwrap();
        assert_eq!(
            ours.iter().map(|socket| socket.data().id.to_string()).collect::<Vec<_>>(),
            [three.ours.id()]
        );
        let mut rooms = io.broadcast().rooms().await.unwrap();
        rooms.sort();
        assert_eq!(rooms, ["r1", "r2"]);

        io.to("r1").except("r2").disconnect().await.unwrap();
        assert_eq!(three.theirs[0].wait_for_disconnect().await, "io server disconnect");
        assert_eq!(list("r1").await.len(), 1);
        io.to(three.ours.id().to_owned()).disconnect().await.unwrap();
        assert_eq!(three.ours.wait_for_disconnect().await, "io server disconnect");
    }
}

#[tokio::test]
async fn rooms_leave_out_the_ids_of_sockets_and_no_other_name() {
    // Names with the length and the alphabet of a socketioxide id, but no ids.
    const LIKE_IDS: [&str; 2] = ["order-2024-00001", "order-2024-00002"];
    let three = Three::start([V05, V05]).await;
    let io = &three.node.io;
    three.node.join(&three.ours, &[LIKE_IDS[0], "r1"]).await;
    three.theirs[0].join(&[LIKE_IDS[1]]).await;
    // This makes our socket join the room of its own id.
    io.to(three.ours.id().to_owned()).emit("to its id", &1).await.unwrap();
    let other = crate::support::pgio_node::PgioNode::start(three.postgres.url()).await;
    other.wait_for_server_count(4).await;
    for node in [&three.node, &other] {
        let mut rooms = node.io.broadcast().rooms().await.unwrap();
        rooms.sort();
        assert_eq!(rooms, [LIKE_IDS[0], LIKE_IDS[1], "r1"]);
    }
}

#[tokio::test]
async fn a_handshake_has_all_keys_even_if_no_io_is_attached() {
    let three = Three::start([V05, V05]).await;
    let node = crate::support::pgio_node::PgioNode::start_detached(three.postgres.url()).await;
    three.servers[0].wait_for_server_count("/", 4).await;
    let client = node.client(three.servers[0].peer(), "/").await;
    let sockets = three.servers[0].io().to(client.id()).fetch_sockets().await.unwrap();
    let [socket] = &sockets[..] else { panic!("{sockets:?}") };
    let handshake = socket.handshake.as_object().unwrap();
    for key in ["headers", "time", "address", "xdomain", "secure", "issued", "url", "query", "auth"] {
        assert!(handshake.contains_key(key), "{key} in {handshake:?}");
    }
    for key in ["headers", "query", "auth"] {
        assert_eq!(handshake[key], json!({}), "{key}");
    }
}

/// In JavaScript any value can be a room.
#[tokio::test]
async fn rooms_that_are_numbers_or_null_cost_no_message() {
    for versions in [[V04, V05], [V03, V03]] {
        let three = Three::start(versions).await;
        let server = &three.servers[0];
        server.io().sockets_join_number(42).await;
        server.io().in_number(42).except_null().emit("number", json!([1])).await;
        for client in three.clients() {
            assert_eq!(client.wait_for(1).await, [event("number", json!([1]))]);
        }
        let timeout = Duration::from_secs(20);
        let sockets = three.node.adapter.fetch_all_sockets("/", Default::default(), timeout).await.unwrap();
        assert!(sockets.is_complete(), "{sockets:?}");
        let sockets = sockets.into_values();
        assert_eq!(sockets.len(), 3);
        assert!(sockets.iter().all(|socket| socket.rooms.iter().any(|room| room == "42")), "{sockets:?}");
    }
}
