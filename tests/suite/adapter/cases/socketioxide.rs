//! The cases of socketioxide's `e2e/adapter`: three Rust servers with sockets in some rooms, here beside a Node server.
//! They test the calls of `SocketIo` and of its `RemoteSocket`. Its `RemoteSocket` cannot reach the sockets of Node, so
//! `ClusterSocket` does.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use pgio::adapter::ClusterSocket;
use pgio::protocol::BroadcastOptions;
use serde_json::json;
use socketioxide::socket::RemoteSocket;

use crate::support::attachments::create_attachment_table;
use crate::support::node::AdapterVersion::V05;
use crate::support::node::{Client, NodePeer, Server, ServerOptions, event};
use crate::support::pgio_node::{Adapter, PgioNode};
use crate::support::postgres::{Postgres, postgres};

const PATIENCE: Duration = Duration::from_secs(20);

const ROOMS: [&str; 4] = ["room1", "room2", "room4", "room5"];

struct Case {
    _postgres: Postgres,
    nodes: Vec<PgioNode>,
    _server: Server,
    /// One client of each node, and last the client of the Node server. All are in the rooms.
    clients: Vec<Client>,
}

impl Case {
    async fn start() -> Case {
        let postgres = postgres().await;
        create_attachment_table(postgres.url()).await;
        let peer = NodePeer::start().await;
        let server = peer.server(ServerOptions::new(V05, postgres.url())).await;
        let nodes = join_all([0; 3].map(|_| PgioNode::start(postgres.url()))).await;
        for node in &nodes {
            node.wait_for_server_count(4).await;
        }
        server.wait_for_server_count("/", 4).await;
        let mut clients = join_all(nodes.iter().map(|node| node.client(&peer, "/"))).await;
        for (node, client) in nodes.iter().zip(&clients) {
            node.join(client, &ROOMS).await;
        }
        let theirs = server.client("/").await;
        theirs.join(&ROOMS).await;
        clients.push(theirs);
        Case { _postgres: postgres, nodes, _server: server, clients }
    }

    /// The clients of the Rust servers.
    fn ours(&self) -> &[Client] {
        &self.clients[..3]
    }

    /// A client of another server, as the first server finds it.
    async fn remote(&self) -> RemoteSocket<Adapter> {
        let id = self.clients[1].id().to_owned();
        let mut sockets = self.nodes[0].io.to(id).fetch_sockets().await.unwrap();
        assert_eq!(sockets.len(), 1);
        sockets.remove(0)
    }

    /// All clients, as the first server finds them: in the order of the clients.
    async fn all(&self) -> Vec<ClusterSocket> {
        let opts = BroadcastOptions::default();
        let sockets = self.nodes[0].adapter.fetch_all_sockets("/", opts, PATIENCE).await.unwrap();
        assert!(sockets.is_complete());
        let mut sockets = sockets.into_values();
        sockets.sort_by_key(|socket| self.clients.iter().position(|client| client.id() == socket.id));
        assert_eq!(sockets.len(), 4);
        sockets
    }

    /// The rooms of each client, by name, as the first server finds them after all servers have processed its messages.
    async fn rooms(&self) -> Vec<Vec<String>> {
        self.nodes[0].io.emit("end", &1).await.unwrap();
        for client in &self.clients {
            client.wait_for_event("end").await;
            client.drain().await;
        }
        let without_id = |socket: ClusterSocket| {
            let mut rooms = socket.rooms;
            rooms.retain(|room| *room != socket.id);
            rooms.sort();
            rooms
        };
        self.all().await.into_iter().map(without_id).collect()
    }
}

#[tokio::test]
async fn broadcast() {
    let case = Case::start().await;
    for node in &case.nodes {
        node.io.emit("broadcast", "hello").await.unwrap();
    }
    for client in &case.clients {
        let expected = event("broadcast", json!(["hello"]));
        assert_eq!(client.wait_for(3).await, [expected.clone(), expected.clone(), expected]);
    }
}

#[tokio::test]
async fn volatile_broadcast() {
    let case = Case::start().await;
    case.nodes[0].io.volatile().emit("volatile_broadcast", "hello").await.unwrap();
    for client in &case.clients {
        assert_eq!(client.wait_for_event("volatile_broadcast").await.args, [json!("hello")]);
    }
}

#[tokio::test]
async fn broadcast_with_ack() {
    let case = Case::start().await;
    let mut expected = Vec::new();
    for client in &case.clients {
        client.answer("broadcast_with_ack", json!(client.id())).await;
        expected.push(client.id().to_owned());
    }
    expected.sort();
    for node in &case.nodes {
        let acks = node.io.emit_with_ack::<_, String>("broadcast_with_ack", &()).await.unwrap();
        let mut acks: Vec<_> = acks.map(|(_, ack)| ack.unwrap()).collect().await;
        acks.sort();
        assert_eq!(acks, expected);
    }
}

#[tokio::test]
async fn fetch_sockets() {
    let case = Case::start().await;
    let mut expected: Vec<_> = case.ours().iter().map(|client| client.id().to_owned()).collect();
    expected.sort();
    for node in &case.nodes {
        let sockets = node.io.fetch_sockets().await.unwrap();
        assert!(sockets.iter().all(|socket| socket.data().ns == "/"));
        let mut ids: Vec<_> = sockets.iter().map(|socket| socket.data().id.to_string()).collect();
        ids.sort();
        assert_eq!(ids, expected);
    }
    case.all().await;
}

#[tokio::test]
async fn disconnect_socket() {
    let case = Case::start().await;
    case.nodes[0].io.disconnect().await.unwrap();
    for client in &case.clients {
        assert_eq!(client.wait_for_disconnect().await, "io server disconnect");
    }
}

#[tokio::test]
async fn join_room() {
    let case = Case::start().await;
    case.nodes[0].io.clone().join("room7").await.unwrap();
    assert_eq!(case.rooms().await, [["room1", "room2", "room4", "room5", "room7"]; 4]);
}

#[tokio::test]
async fn leave_room() {
    let case = Case::start().await;
    case.nodes[0].io.clone().leave("room4").await.unwrap();
    assert_eq!(case.rooms().await, [["room1", "room2", "room5"]; 4]);
}

#[tokio::test]
async fn rooms() {
    let case = Case::start().await;
    for node in &case.nodes {
        let mut rooms = node.io.rooms().await.unwrap();
        rooms.sort();
        assert_eq!(rooms, ROOMS);
    }
}

#[tokio::test]
async fn emit_from_remote_sock() {
    let case = Case::start().await;
    case.remote().await.emit("emit", "hello").await.unwrap();
    assert_eq!(case.clients[1].wait_for(1).await, [event("emit", json!(["hello"]))]);
    for socket in case.all().await {
        socket.emit("emit", ("hello", &socket.id)).await.unwrap();
        socket.emit("none", ()).await.unwrap();
    }
    case.nodes[0].io.emit("end", &1).await.unwrap();
    for (n, client) in case.clients.iter().enumerate() {
        let mut expected = vec![
            event("emit", json!(["hello", client.id()])),
            event("none", json!([])),
            event("end", json!([1])),
        ];
        if n == 1 {
            expected.insert(0, event("emit", json!(["hello"])));
        }
        assert_eq!(client.wait_for(expected.len()).await, expected);
    }
}

#[tokio::test]
async fn emit_with_ack_from_remote_sock() {
    let case = Case::start().await;
    for client in &case.clients {
        client.answer("emit", json!(client.id())).await;
    }
    let ack = case.remote().await.emit_with_ack::<_, String>("emit", "hello").await.unwrap().await.unwrap();
    assert_eq!(ack, case.clients[1].id());
}

#[tokio::test]
async fn join_room_from_remote_sock() {
    let case = Case::start().await;
    case.remote().await.join("room7").await.unwrap();
    for (socket, room) in case.all().await.iter().zip(["a", "b", "c", "d"]) {
        socket.join([room, "all"]).await.unwrap();
    }
    let expected = [
        vec!["a", "all", "room1", "room2", "room4", "room5"],
        vec!["all", "b", "room1", "room2", "room4", "room5", "room7"],
        vec!["all", "c", "room1", "room2", "room4", "room5"],
        vec!["all", "d", "room1", "room2", "room4", "room5"],
    ];
    assert_eq!(case.rooms().await, expected);
}

#[tokio::test]
async fn leave_room_from_remote_sock() {
    let case = Case::start().await;
    case.remote().await.leave("room4").await.unwrap();
    for (socket, room) in case.all().await.iter().zip(ROOMS) {
        socket.leave(room).await.unwrap();
    }
    let expected = [
        vec!["room2", "room4", "room5"],
        vec!["room1", "room5"],
        vec!["room1", "room2", "room5"],
        vec!["room1", "room2", "room4"],
    ];
    assert_eq!(case.rooms().await, expected);
}

#[tokio::test]
async fn get_rooms_remote_sock() {
    let case = Case::start().await;
    let mut rooms = case.remote().await.rooms().await.unwrap();
    rooms.sort();
    assert_eq!(rooms, ROOMS);
    assert_eq!(case.rooms().await, [ROOMS; 4]);
}

#[tokio::test]
async fn disconnect_remote_sock() {
    let case = Case::start().await;
    let sockets = case.all().await;
    case.remote().await.disconnect().await.unwrap();
    assert_eq!(case.clients[1].wait_for_disconnect().await, "io server disconnect");
    for n in [0, 3] {
        sockets[n].disconnect(false).await.unwrap();
        assert_eq!(case.clients[n].wait_for_disconnect().await, "io server disconnect");
    }
    case.nodes[0].io.emit("end", &1).await.unwrap();
    case.clients[2].wait_for_event("end").await;
    assert_eq!(case.clients[2].lifecycle().await, [event("connect", json!([]))]);
}
