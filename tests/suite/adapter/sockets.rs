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
            let opts = BroadcastOptions { rooms: vec![room.to_owned()], ..BroadcastOptions::default() };
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
