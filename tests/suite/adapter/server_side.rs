//! Events between servers, both ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::Three;
use crate::support::attachments::{create_attachment_table, execute};
use crate::support::node::AdapterVersion::{V03, V04, V05};
use crate::support::node::{binary, event};
use crate::support::pgio_node::PgioNode;
use crate::support::pgio_serve::until;
use crate::support::postgres::postgres;

#[tokio::test]
async fn servers_and_the_node_ask_each_other() {
    for versions in [[V04, V05], [V03, V03]] {
        let three = Three::start(versions).await;
        let adapter = &three.node.adapter;
        adapter.on_server_side("/", "who", async |event| {
            assert_eq!(event.args.len(), 2);
            Some(pgio::Value::Binary(vec![1].into()))
        });
        three.servers[0].answer("/", "who", json!("v04")).await;
        three.servers[1].answer("/", "who", json!("v05")).await;
        let answers =
            three.servers[1].io().server_side_emit_with_ack("who", json!([1, "two"])).await.unwrap();
        assert_eq!(answers.len(), 2);
        assert!(answers.contains(&json!("v04")) && answers.contains(&binary("AQ==")), "{answers:?}");

        let timeout = Duration::from_secs(20);
        let answers = adapter.server_side_emit_with_ack("/", "who", (1, "two"), timeout).await.unwrap();
        assert!(answers.is_complete());
        let mut names: Vec<_> = answers.into_values().iter().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["\"v04\"", "\"v05\""]);

        adapter.server_side_emit("/", "told", json!({"a": 1})).await.unwrap();
        assert_eq!(three.servers[0].wait_for("/", 3).await[2], event("told", json!([{"a": 1}])));

        // One server does not answer: the answers so far are returned at the timeout, with the name of the server.
        three.servers[0].silent("/", "who").await;
        let partial =
            adapter.server_side_emit_with_ack("/", "who", (1, 2), Duration::from_millis(500)).await.unwrap();
        assert_eq!((partial.answers.len(), partial.silent.len()), (1, 1));
    }
}

#[tokio::test]
async fn a_request_ends_when_its_last_awaited_peer_leaves() {
    let three = Three::start([V05, V05]).await;
    let [silent, other] = three.servers;
    silent.silent("/", "who").await;
    other.answer("/", "who", json!(1)).await;
    let ask = three.node.adapter.server_side_emit_with_ack("/", "who", (), Duration::from_secs(600));
    let leave = async {
        silent.wait_for("/", 1).await;
        silent.stop().await;
    };
    let (answers, ()) = tokio::join!(ask, leave);
    let answers = answers.unwrap();
    assert_eq!((answers.answers.len(), answers.is_complete()), (1, true));
}

#[tokio::test]
async fn servers_do_not_wait_for_a_node_that_leaves_and_time_out_on_a_silent_one() {
    let three = Three::start([V05, V05]).await;
    three.servers[0].answer("/", "who", json!("first")).await;
    // Nothing answers here: this is a missing answer, not an empty one.
    let heard = std::sync::Arc::new(tokio::sync::Notify::new());
    let notify = heard.clone();
    three.node.adapter.on_any_server_side(move |_| {
        notify.notify_one();
        std::future::ready(None)
    });
    let ask = three.servers[1].io().server_side_emit_with_ack("who", json!([]));
    let leave = async {
        heard.notified().await;
        three.node.adapter.close().await.unwrap();
    };
    let (answers, ()) = tokio::join!(ask, leave);
    assert_eq!(answers.unwrap(), ["first"]);
}

#[tokio::test]
async fn a_node_without_the_namespace_cannot_speak_there() {
    let three = Three::start([V05, V05]).await;
    assert!(three.node.adapter.server_side_emit("/nowhere", "e", ()).await.is_err());
}

/// More events than handlers may run at the same time. Those that have ended no longer count.
#[tokio::test]
async fn a_burst_of_events_reaches_the_handler_whole() {
    const EVENTS: usize = 20_000;
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let node = PgioNode::start(postgres.url()).await;
    let handled = Arc::new(AtomicUsize::new(0));
    let counter = handled.clone();
    node.adapter.on_server_side("/", "tick", move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        std::future::ready(None)
    });
    execute(postgres.url(), &burst(EVENTS)).await;
    until("all events are handled", async || handled.load(Ordering::Relaxed) == EVENTS).await;
}

/// As in Node, where listeners are called one after another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_are_called_in_the_order_of_the_events() {
    const EVENTS: usize = 2_000;
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let node = PgioNode::start(postgres.url()).await;
    let (started, mut order) = tokio::sync::mpsc::channel(EVENTS);
    node.adapter.on_server_side("/", "tick", move |event| {
        let started = started.clone();
        async move {
            started.send(event.args[0].as_i64().unwrap()).await.unwrap();
            // Those that wait do not hold up the next ones.
            std::future::pending().await
        }
    });
    execute(postgres.url(), &burst(EVENTS)).await;
    for expected in 1..=EVENTS as i64 {
        let number = tokio::time::timeout(Duration::from_secs(30), order.recv()).await;
        assert_eq!(number.expect("all events are handled"), Some(expected));
    }
}

/// The statement that sends the server-side event `tick` so many times, with a number.
fn burst(events: usize) -> String {
    format!(
        r#"SELECT count(pg_notify('socket.io#/', '{{"uid":"x","type":9,"nsp":"/","data":{{"packet":["tick",' || n || ']}}}}'))
           FROM generate_series(1, {events}) n"#
    )
}
