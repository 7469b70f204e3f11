//! Nothing is left of a node after its drop.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::node::NodePeer;
use crate::support::pgio_node::PgioNode;
use crate::support::postgres::postgres;
use crate::support::sql::query_text;

/// The deadline for the end of the tasks and connections of a dropped node.
const SOON: Duration = Duration::from_secs(1);

async fn sessions(url: &str) -> usize {
    let others = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    query_text(url, others).await.parse().unwrap()
}

async fn assert_that_it_ends(url: &str) {
    let deadline = Instant::now() + SOON;
    while sessions(url).await > 0 {
        assert!(Instant::now() < deadline, "{} sessions are left", sessions(url).await);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_dropped_node_holds_no_connection() {
    let postgres = postgres().await;
    let node = PgioNode::start(postgres.url()).await;
    assert!(sessions(postgres.url()).await > 0);
    drop(node);
    assert_that_it_ends(postgres.url()).await;
}

#[tokio::test]
async fn a_dropped_node_whose_handlers_hold_the_io_holds_no_connection() {
    let postgres = postgres().await;
    let node = PgioNode::start(postgres.url()).await;
    let (slow, asked, any) = (node.io.clone(), node.io.clone(), node.io.clone());
    node.adapter.on_slow_client(move |nsp, _| drop(slow.of(nsp)));
    node.adapter.on_server_side("/", "e", move |_| {
        let io = asked.clone();
        async move {
            io.emit("e", &1).await.ok();
            None
        }
    });
    node.adapter.on_any_server_side(move |_| {
        drop(any.sockets());
        std::future::ready(None)
    });
    drop(node);
    assert_that_it_ends(postgres.url()).await;
}

#[tokio::test]
async fn a_dropped_node_that_had_clients_holds_no_connection() {
    let postgres = postgres().await;
    let node = PgioNode::start(postgres.url()).await;
    let peer = NodePeer::start().await;
    let client = node.client(&peer, "/").await;
    node.join(&client, &["r1"]).await;
    client.disconnect().await;
    while !node.io.sockets().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(node);
    assert_that_it_ends(postgres.url()).await;
}

#[tokio::test]
async fn a_closed_node_whose_handlers_hold_its_handle_holds_no_connection() {
    let postgres = postgres().await;
    let node = PgioNode::start(postgres.url()).await;
    let handle = node.adapter.clone();
    node.adapter.on_any_server_side(move |_| {
        drop(handle.clone());
        std::future::ready(None)
    });
    node.adapter.close().await.unwrap();
    drop(node);
    assert_that_it_ends(postgres.url()).await;
}

#[tokio::test]
async fn a_dropped_node_whose_handlers_hold_a_detached_handle_holds_no_connection() {
    let postgres = postgres().await;
    let node = PgioNode::start(postgres.url()).await;
    let handle = node.adapter.detached();
    node.adapter.on_any_server_side(move |_| {
        drop(handle.clone());
        std::future::ready(None)
    });
    drop(node);
    assert_that_it_ends(postgres.url()).await;
}

#[tokio::test]
async fn handlers_stay_while_any_handle_is_there() {
    let postgres = postgres().await;
    let node = PgioNode::start(postgres.url()).await;
    node.adapter.on_server_side("/", "e", async |_| Some(1.into()));
    let emitter = pgio::Emitter::connect(postgres.url()).await.unwrap();
    let ask = async || {
        let answers = emitter.server_side_emit_with_ack("e", (), Duration::from_millis(700)).await.unwrap();
        answers.into_values().len()
    };
    let kept = node.adapter.clone();
    let (_io, server) = node.without_handle();
    assert_eq!(ask().await, 1);
    drop(kept);
    assert_eq!(ask().await, 0);
    drop(server);
}
