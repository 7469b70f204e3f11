//! `pgio server-emit`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::node::{binary, event};
use crate::support::pgio::{pgio, run};
use crate::support::postgres::postgres;
use crate::support::whole::{Whole, whole};

/// Makes all four servers answer, each with a different value.
async fn answer(cluster: &Whole, name: &str) {
    let answers = [json!("one"), json!({"n": 2}), binary("AQI=")];
    for (server, answer) in cluster.mixed.servers.iter().zip(answers) {
        server.answer("/", name, answer).await;
    }
    cluster.node.adapter.on_server_side("/", name, async |_| Some(pgio::Value::from("ours")));
}

#[tokio::test]
async fn every_server_gets_the_event_and_counts_no_member() {
    let cluster = whole().await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    cluster.node.adapter.on_any_server_side(move |event| {
        let args = pgio::Value::from(event.args).to_string();
        told.send((event.namespace.to_string(), event.event, args)).unwrap();
        std::future::ready(None)
    });
    let quiet = cluster.run(&["server-emit", "config", r#"{"limit":10}"#, "<>", "-5"]).await.succeeded();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let expected = [event("config", json!([{"limit": 10}, "<>", -5]))];
    for server in &cluster.mixed.servers {
        assert_eq!(server.wait_for("/", 1).await, expected);
    }
    let at_ours = heard.recv().await.unwrap();
    assert_eq!(at_ours, ("/".into(), "config".into(), r#"[{"limit":10},"<>",-5]"#.into()));
    // No client receives it.
    run(&mut pgio(cluster.url(), &["emit", "end"])).await.succeeded();
    for client in cluster.clients() {
        assert_eq!(client.wait_for(1).await, [event("end", json!([]))]);
    }
}

#[tokio::test]
async fn text_files_and_several_namespaces() {
    let cluster = whole().await;
    let both = ["server-emit", "--string", "x", "42", "@x", "-n", "/", "-n", "admin", "-o", "json"];
    let sent = cluster.run(&both).await.succeeded();
    assert_eq!(sent.json(), [json!({"sent": 2})]);
    for nsp in ["/", "/admin"] {
        let expected = [event("x", json!(["42", "@x"]))];
        assert_eq!(cluster.mixed.servers[2].wait_for(nsp, 1).await, expected);
    }
    cluster.run(&["server-emit", "bytes", r#"{"$binary":"AQI="}"#]).await.succeeded();
    for server in &cluster.mixed.servers {
        assert_eq!(server.wait_for("/", 2).await[1], event("bytes", json!([binary("AQI=")])));
    }
}

#[tokio::test]
async fn one_answer_a_node() {
    let cluster = whole().await;
    answer(&cluster, "version").await;
    let nodes = run(&mut pgio(cluster.url(), &["nodes", "-o", "json"])).await.succeeded().json();
    let uids: BTreeSet<_> = nodes.iter().map(|node| node["uid"].to_string()).collect();
    let answers = cluster.run(&["server-emit", "--ack", "version", "-o", "json"]).await.succeeded();
    let answers: BTreeMap<String, Value> = answers
        .json()
        .into_iter()
        .map(|line| {
            assert_eq!(line.as_object().unwrap().keys().collect::<Vec<_>>(), ["node", "answer"]);
            (line["node"].to_string(), line["answer"].clone())
        })
        .collect();
    assert_eq!(answers.keys().cloned().collect::<BTreeSet<_>>(), uids);
    let mut values: Vec<_> = answers.values().map(Value::to_string).collect();
    values.sort();
    assert_eq!(values, [r#""one""#, r#""ours""#, r#"{"$binary":"AQI="}"#, r#"{"n":2}"#]);

    let text = cluster.run(&["server-emit", "--ack", "version"]).await.succeeded().stdout;
    assert!(!text.contains('\x1b'), "{text:?}");
    for line in text.lines() {
        let (node, answer) = line.split_once("  ").unwrap();
        let expected = &answers[&json!(node).to_string()];
        assert_eq!(answer, expected.as_str().map_or(expected.to_string(), str::to_owned));
    }
}

#[tokio::test]
async fn servers_without_an_answer_are_named() {
    let cluster = whole().await;
    answer(&cluster, "q").await;
    cluster.mixed.servers[1].silent("/", "q").await;
    let partial = cluster.run(&["server-emit", "--ack", "q", "--timeout", "1s", "-o", "json"]).await;
    assert_eq!((partial.status, partial.json().len()), (4, 3), "{partial:?}");
    assert!(
        partial.stderr.starts_with("error: 1 of 4 servers of / did not answer within 1s: "),
        "{partial:?}"
    );
}

#[tokio::test]
async fn hostile_answers_cannot_break_the_terminal() {
    let cluster = whole().await;
    answer(&cluster, "q").await;
    cluster.mixed.servers[0].answer("/", "q", json!("\u{1b}[2J\r\nx\u{202e}")).await;
    let text = cluster.run(&["server-emit", "--ack", "q"]).await.succeeded().stdout;
    assert_eq!(text.lines().count(), 4);
    assert!(text.contains(r"  \u{1b}[2J\u{d}\nx\u{202e}"), "{text:?}");
    assert!(!text.contains(['\x1b', '\r', '\u{202e}']), "{text:?}");
}

#[tokio::test]
async fn invalid_requests_are_refused() {
    let postgres = postgres().await;
    for (arguments, status, expected) in [
        (&["server-emit", "--ack", "q"][..], 4, "error: no server is live in /"),
        (&["server-emit", "connection"], 1, "error: event name \"connection\" is reserved by Socket.IO"),
        (&["server-emit"], 2, "error: the following required arguments were not provided: <EVENT>"),
        (&["server-emit", "q", "--timeout", "1s"], 2, "error: "),
    ] {
        let outcome = run(&mut pgio(postgres.url(), arguments)).await;
        assert_eq!((outcome.status, outcome.stdout.as_str()), (status, ""), "{outcome:?}");
        assert!(outcome.stderr.starts_with(expected), "{outcome:?}");
    }
}
