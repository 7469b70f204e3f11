//! Node's cluster mode: a primary with `setupPrimary` of adapter 0.5.0, whose workers have
//! `@socket.io/cluster-adapter`. The workers ignore a message without the source that all messages of pgio have.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::attachments::create_attachment_table;
use crate::support::node::AdapterVersion::{V05, Worker};
use crate::support::node::{Client, EmitterOptions, NodePeer, Server, ServerOptions, binary, event};
use crate::support::pgio::{pgio, run};
use crate::support::pgio_node::PgioNode;
use crate::support::postgres::{Postgres, postgres};
use crate::support::sql::Session;

/// A primary with two workers, and a pgio node. Each of the three servers has a client, and counts three servers.
struct NodeCluster {
    postgres: Postgres,
    primary: NodePeer,
    workers: [Server; 2],
    node: PgioNode,
    /// The clients of the workers, in order.
    theirs: Vec<Client>,
    /// The client of the node.
    ours: Client,
}

impl NodeCluster {
    async fn start() -> NodeCluster {
        let postgres = postgres().await;
        create_attachment_table(postgres.url()).await;
        let primary = NodePeer::start().await;
        let workers = primary.workers::<2>(postgres.url()).await;
        let workers =
            workers.each_ref().map(|worker| worker.server(ServerOptions::new(Worker, postgres.url())));
        let workers = join_all(workers).await.try_into();
        let workers: [Server; 2] = workers.unwrap_or_else(|_| unreachable!("one server for each worker"));
        // The workers' own heartbeats make it listen. What comes before that, they miss.
        primary.wait_for_primary(&["/"]).await;
        let node = PgioNode::start(postgres.url()).await;
        for worker in &workers {
            worker.wait_for_server_count("/", 3).await;
        }
        node.wait_for_server_count(3).await;
        let theirs = join_all(workers.iter().map(|worker| worker.client("/"))).await;
        let ours = node.client(&primary, "/").await;
        NodeCluster { postgres, primary, workers, node, theirs, ours }
    }

    /// All three clients.
    fn clients(&self) -> [&Client; 3] {
        [&self.theirs[0], &self.theirs[1], &self.ours]
    }

    fn url(&self) -> &str {
        self.postgres.url()
    }

    /// The ids of all sockets.
    fn ids(&self) -> BTreeSet<&str> {
        self.clients().into_iter().map(Client::id).collect()
    }
}

#[tokio::test]
async fn events_of_pgio_reach_the_clients_of_workers() {
    let cluster = NodeCluster::start().await;
    let io = &cluster.node.io;
    cluster.theirs[0].join(&["r1"]).await;
    io.emit("all", &(1, "two")).await.unwrap();
    io.emit("large", &"x".repeat(9_000)).await.unwrap();
    io.emit("bytes", &serde_bytes::ByteBuf::from([0, 255])).await.unwrap();
    io.except("r1").emit("except", &1).await.unwrap();
    run(&mut pgio(cluster.url(), &["sql", "install"])).await.succeeded();
    let session = Session::open(cluster.url()).await;
    session.execute("SELECT socket_io.emit('sql', '[1]')").await;
    session.execute(r"SELECT socket_io.emit('sql bytes', '\x00ff'::bytea)").await;
    session.execute("SELECT socket_io.emit('durable', '[1]', durable => true)").await;
    for client in cluster.clients() {
        let is_in_room = client.id() == cluster.theirs[0].id();
        let mut expected = vec![
            event("all", json!([1, "two"])),
            event("large", json!(["x".repeat(9_000)])),
            event("bytes", json!([binary("AP8=")])),
            event("sql", json!([1])),
            event("sql bytes", json!([binary("AP8=")])),
            event("durable", json!([1])),
        ];
        expected.extend((!is_in_room).then(|| event("except", json!([1]))));
        // A primary lets events overtake one whose row it still fetches.
        assert_eq!(super::sorted(client.wait_for(expected.len()).await), super::sorted(expected));
    }
    assert!(cluster.primary.primary_errors().await.is_empty());
}

#[tokio::test]
async fn pgio_and_workers_ask_each_other() {
    let cluster = NodeCluster::start().await;
    let adapter = &cluster.node.adapter;
    adapter.on_server_side("/", "who", async |_| Some("pgio".into()));
    for (worker, name) in cluster.workers.iter().zip(["w1", "w2"]) {
        worker.answer("/", "who", json!(name)).await;
    }
    let timeout = Duration::from_secs(20);
    let answers = adapter.server_side_emit_with_ack("/", "who", (1, "two"), timeout).await.unwrap();
    assert!(answers.is_complete());
    let answers: BTreeSet<_> = answers.into_values().iter().map(ToString::to_string).collect();
    assert_eq!(answers, BTreeSet::from([r#""w1""#.into(), r#""w2""#.into()]));
    for worker in &cluster.workers {
        assert_eq!(worker.wait_for("/", 1).await, [event("who", json!([1, "two"]))]);
    }
    let answers = cluster.workers[0].io().server_side_emit_with_ack("who", json!([])).await.unwrap();
    assert_eq!(answers.len(), 2);
    assert!(answers.contains(&json!("pgio")) && answers.contains(&json!("w2")), "{answers:?}");

    let sockets = adapter.fetch_all_sockets("/", Default::default(), timeout).await.unwrap();
    assert!(sockets.is_complete());
    let sockets = sockets.into_values();
    assert_eq!(sockets.iter().map(|socket| socket.id.as_str()).collect::<BTreeSet<_>>(), cluster.ids());
    let sockets = cluster.workers[1].io().fetch_sockets().await.unwrap();
    assert_eq!(sockets.iter().map(|socket| socket.id.as_str()).collect::<BTreeSet<_>>(), cluster.ids());

    for (client, answer) in cluster.theirs.iter().zip([json!("one"), json!({"n": 2})]) {
        client.answer("q", answer).await;
    }
    cluster.ours.answer("q", json!("three")).await;
    let acks = run(&mut pgio(cluster.url(), &["emit", "--ack", "-o", "json", "q", "?"])).await.succeeded();
    let answers: BTreeSet<_> = acks.json().iter().map(|line| line["answer"].to_string()).collect();
    assert_eq!(answers, BTreeSet::from([r#""one""#.into(), r#"{"n":2}"#.into(), r#""three""#.into()]));
    let timeout = Duration::from_secs(20);
    let acks = cluster.workers[0].io().timeout(timeout).emit_with_ack("q", json!(["?"])).await.unwrap();
    assert_eq!(acks.len(), 3);
    // The command is no server.
    for worker in &cluster.workers {
        assert_eq!(worker.server_count("/").await, 3);
    }
}

/// The README says so, since a cluster that mixes them loses events without an error.
#[tokio::test]
async fn plain_servers_and_the_npm_emitter_do_not_reach_workers() {
    let cluster = NodeCluster::start().await;
    let peer = NodePeer::start().await;
    let plain = peer.server(ServerOptions::new(V05, cluster.url())).await;
    let emitter = peer.emitter(EmitterOptions::new(cluster.url())).await;
    let client = plain.client("/").await;
    plain.io().emit("plain", json!([])).await;
    emitter.io().emit("npm", json!([])).await;
    cluster.node.io.emit("end", &1).await.unwrap();
    for client in &cluster.theirs {
        assert_eq!(client.wait_for(1).await, [event("end", json!([1]))]);
    }
    assert_eq!(cluster.ours.wait_for_event("npm").await, event("npm", json!([])));
    cluster.workers[0].io().emit("of a worker", json!([])).await;
    assert_eq!(client.wait_for_event("of a worker").await, event("of a worker", json!([])));
    emitter.stop().await;
}
