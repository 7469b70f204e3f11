//! `pgio nodes`.

use std::time::Duration;

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use pgio::postgres::private::Shutdown;
use serde_json::{Value, json};

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::frozen::freeze_server;
use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio::{Running, pgio, run};
use crate::support::pgio_node::PgioNode;
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::{own_server, postgres, url_as};
use crate::support::proxy::{Mode, Proxy};
use crate::support::whole::whole;

/// Asserts that a node has exactly the documented fields.
#[track_caller]
fn check(node: &Value) {
    let keys: Vec<_> = node.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["uid", "namespace", "rttMs", "lastSeen", "sockets", "address", "application"],
        "{node}"
    );
    assert!(node["uid"].as_str().is_some_and(|uid| uid.len() == 16), "{node}");
    assert!(node["rttMs"].as_f64().is_some_and(|millis| millis > 0.0), "{node}");
    let seen: jiff::Timestamp = node["lastSeen"].as_str().unwrap().parse().unwrap();
    assert!(seen.duration_since(jiff::Timestamp::now()).as_secs_f64().abs() < 20.0, "{node}");
}

#[tokio::test]
async fn all_versions_and_pgio_nodes_are_listed_without_joining_the_cluster() {
    let cluster = whole().await;
    let second = cluster.mixed.servers[1].client("/").await;
    let nodes = cluster.run(&["nodes", "-o", "json"]).await.succeeded().json();
    assert_eq!(nodes.len(), 4, "{nodes:?}");
    nodes.iter().for_each(check);
    let mut sockets: Vec<_> = nodes.iter().map(|node| node["sockets"].as_u64().unwrap()).collect();
    sockets.sort();
    assert_eq!(sockets, [1, 1, 1, 2]);
    // The Node servers and the pgio node publish through separate sessions.
    let addresses: BTreeSet<_> = nodes.iter().map(|node| node["address"].as_str().unwrap()).collect();
    assert!(addresses.len() == 4 && addresses.iter().all(|at| at.starts_with("127.0.0.1:")), "{nodes:?}");
    assert!(nodes.is_sorted_by_key(|node| node["uid"].as_str().unwrap().to_owned()));
    second.disconnect().await;

    let both = ["nodes", "-n", "admin", "-n", "/", "-o", "json", "--no-sockets", "--wait", "500ms"];
    let nodes = run(&mut pgio(cluster.url(), &both)).await.succeeded().json();
    let namespaces: Vec<_> = nodes.iter().map(|node| node["namespace"].as_str().unwrap()).collect();
    assert_eq!(namespaces, ["/", "/", "/", "/", "/admin", "/admin", "/admin", "/admin"]);
    assert!(nodes.iter().all(|node| node["sockets"].is_null()), "{nodes:?}");
}

/// A role without pg_read_all_stats sees the servers but not their addresses.
#[tokio::test]
async fn application_names_are_shown_and_addresses_need_a_privilege() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let separator = if postgres.url().contains('?') { '&' } else { '?' };
    let named = format!("{}{separator}application_name=orders", postgres.url());
    let node = PgioServe::start(&named, &[]).await;
    let nodes = run(&mut pgio(postgres.url(), &["nodes", "-o", "json"])).await.succeeded().json();
    assert_eq!((nodes.len(), nodes[0]["application"].as_str()), (1, Some("orders")), "{nodes:?}");
    execute(postgres.url(), "DROP ROLE IF EXISTS watcher; CREATE ROLE watcher LOGIN PASSWORD 'pw'").await;
    let url = url_as("watcher", postgres.url());
    let nodes = run(&mut pgio(&url, &["nodes", "-o", "json"])).await.succeeded().json();
    assert_eq!((nodes.len(), nodes[0]["application"].as_str()), (1, Some("orders")), "{nodes:?}");
    assert!(nodes[0]["address"].is_null(), "{nodes:?}");
    drop(node);
}

#[tokio::test]
async fn a_table_for_eyes_without_colours_in_a_pipe() {
    let cluster = whole().await;
    let table = cluster.run(&["nodes"]).await.succeeded();
    let lines: Vec<_> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{table:?}");
    let titles: Vec<_> = lines[0].split("  ").map(str::trim).filter(|title| !title.is_empty()).collect();
    assert_eq!(titles, ["UID", "NAMESPACE", "RTT", "LAST SEEN", "SOCKETS", "ADDRESS", "APPLICATION"]);
    for line in &lines[1..] {
        assert!(
            line.contains(" ms ") && line.contains(" s ago ") && line.contains(" 1  127.0.0.1:"),
            "{line}"
        );
    }
    assert!(!table.stdout.contains('\x1b') && table.stderr.is_empty(), "{table:?}");
}

#[tokio::test]
async fn fewer_than_required_is_status_4() {
    let cluster = whole().await;
    let enough = cluster.run(&["nodes", "--min", "4", "-n", "/", "-n", "/admin", "-q"]).await.succeeded();
    assert_eq!(enough.stderr, "");
    let too_few = ["nodes", "--min", "5", "--wait", "300ms", "-o", "json"];
    let too_few = run(&mut pgio(cluster.url(), &too_few)).await;
    assert_eq!((too_few.status, too_few.json().len()), (4, 4), "{too_few:?}");
    assert_eq!(too_few.stderr, "error: 4 servers are live in /, and 5 are required\n");
}

#[tokio::test]
async fn an_empty_cluster() {
    let postgres = postgres().await;
    let empty = run(&mut pgio(postgres.url(), &["nodes", "--wait", "100ms"])).await.succeeded();
    assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("", "no server is live in /\n"));
    let probe = run(&mut pgio(postgres.url(), &["nodes", "--wait", "100ms", "--min", "1"])).await;
    assert_eq!(
        (probe.status, probe.stderr.as_str()),
        (4, "error: 0 servers are live in /, and 1 is required\n")
    );
}

/// A watch whose output is read line by line.
fn watch(url: &str, arguments: &[&str]) -> Running {
    Running::start(&mut pgio(url, &[&["nodes", "--watch"], arguments].concat()))
}

/// The next change of that kind.
async fn next(watch: &mut Running, change: &str) -> Value {
    loop {
        let line = watch.json().await;
        if line["change"] == change {
            return line;
        }
    }
}

#[tokio::test]
async fn a_watch_shows_joins_and_departures_and_is_no_member() {
    let cluster = whole().await;
    let mut watch = watch(cluster.url(), &["-o", "json", "--every", "200ms"]);
    cluster
        .undisturbed(async {
            let (mut joined, mut counted) = (BTreeSet::new(), BTreeSet::new());
            while joined.len() < 4 || counted.len() < 4 {
                let line = watch.json().await;
                let uid = line["uid"].as_str().unwrap().to_owned();
                assert_eq!(line["namespace"], "/");
                // A server with several connections may list its sockets before it answers the heartbeat.
                match (line["change"].as_str(), line["sockets"].as_u64()) {
                    (Some("joined"), None) => assert!(joined.insert(uid), "twice: {line}"),
                    (Some("joined"), Some(1)) => assert!(joined.insert(uid.clone()) && counted.insert(uid)),
                    (Some("sockets"), Some(1)) => assert!(counted.insert(uid), "twice: {line}"),
                    _ => panic!("{line}"),
                }
            }
            assert_eq!(joined, counted);
        })
        .await;
    let more = cluster.mixed.servers[0].client("/").await;
    assert_eq!(next(&mut watch, "sockets").await["sockets"], 2);
    more.disconnect().await;
    assert_eq!(next(&mut watch, "sockets").await["sockets"], 1);

    watch.signal(Signal::SIGINT);
    assert_eq!(watch.end().await.status, 130);
}

#[tokio::test]
async fn a_watch_shows_joins_and_departures_without_a_request() {
    let postgres = postgres().await;
    let mut watch = watch(postgres.url(), &["-o", "json", "--every", "1h", "--no-sockets"]);
    let peer = NodePeer::start().await;
    for version in [AdapterVersion::V04, AdapterVersion::V05] {
        let server = peer.server(ServerOptions::new(version, postgres.url())).await;
        let joined = watch.json().await;
        server.stop().await;
        let left = watch.json().await;
        assert_eq!((&joined["change"], &left["change"]), (&json!("joined"), &json!("left")));
        assert_eq!((&left["uid"], &left["reason"]), (&joined["uid"], &json!("closed")));
        assert_eq!((&left["sockets"], &left["namespace"]), (&json!(null), &json!("/")));
        // An emitter does not count as a node, whatever it publishes: the next change is that of the next server.
        for kind in [1, 2] {
            let said = json!({ "uid": "emitter", "nsp": "/", "type": kind });
            execute(postgres.url(), &format!("SELECT pg_notify('socket.io#/', '{said}')")).await;
        }
    }
}

#[tokio::test]
async fn a_watch_notices_silence() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let peer = NodePeer::start().await;
    let _server = peer.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    let mut text = watch(postgres.url(), &["--every", "200ms", "--heartbeat-timeout", "1s"]);
    let mut json = watch(postgres.url(), &["-o", "json", "--every", "200ms", "--heartbeat-timeout", "1s"]);
    let uid = next(&mut json, "joined").await["uid"].as_str().unwrap().to_owned();
    assert!(text.line().await.contains(&format!(" joined {uid} in /")));
    peer.kill().await;
    let left = next(&mut json, "left").await;
    assert_eq!((left["uid"].as_str(), left["reason"].as_str()), (Some(uid.as_str()), Some("silent")));
    loop {
        let line = text.line().await;
        assert!(!line.contains('\x1b'), "{line:?}");
        if line.contains(" left ") {
            let silence = line.split_once(&format!(" left {uid} in / (silent for ")).unwrap().1;
            let seconds: u64 = silence.strip_suffix("s)").unwrap().parse().unwrap();
            // Longer by the time until the next check, and never shorter.
            assert!(seconds >= 1, "{line}");
            break;
        }
    }
}

#[tokio::test]
async fn a_watch_outlives_a_restart_of_postgres() {
    let mut server = own_server().await;
    create_attachment_table(&server.url()).await;
    let node = PgioNode::start(&server.url()).await;
    let mut watch = watch(&server.url(), &["-o", "json", "--every", "200ms"]);
    let joined = next(&mut watch, "joined").await;
    server.take_down(Shutdown::Immediate).await.unwrap();
    let lost = next(&mut watch, "lost").await;
    assert!(lost["error"].as_str().unwrap().starts_with("lost the connection to Postgres"), "{lost}");
    server.start_again().await.unwrap();
    assert!(next(&mut watch, "restored").await["awayMs"].is_u64());
    watch.wait_for_note("warning: reconnected after ").await;
    // No node has left: the watch continues with the same node and sees its changes.
    let client = node.client(&NodePeer::start().await, "/").await;
    loop {
        let line = watch.json().await;
        assert_eq!((&line["uid"], &line["change"]), (&joined["uid"], &json!("sockets")), "{line}");
        if line["sockets"] == 1 {
            break;
        }
    }
    client.disconnect().await;
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.end().await.status, 130);
}

/// Nothing is heard of the servers then, and they have not left.
#[tokio::test]
async fn a_watch_tells_that_postgres_stands_still() {
    let server = own_server().await;
    let _node = PgioNode::start(&server.url()).await;
    let mut watch = watch(&server.url(), &["-o", "json", "--every", "200ms"]);
    next(&mut watch, "joined").await;
    let frozen = freeze_server(&server);
    let lost = next(&mut watch, "lost").await;
    assert!(lost["error"].as_str().unwrap().contains("Postgres does not answer"), "{lost}");
    drop(frozen);
    loop {
        match watch.json().await {
            line if line["change"] == "restored" => break,
            line => assert_ne!(line["change"], "left", "{line}"),
        }
    }
}

#[tokio::test]
async fn a_watch_ends_at_a_signal_in_the_middle_of_a_round() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let _node = PgioNode::start(postgres.url()).await;
    let proxy = Proxy::start(postgres.url()).await;
    let mut watch = watch(proxy.url(), &["-o", "json", "--every", "50ms"]);
    next(&mut watch, "joined").await;
    proxy.set(Mode::Silent);
    // At nearly all times, a round waits for Postgres.
    tokio::time::sleep(Duration::from_millis(500)).await;
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.end().await.status, 130);
}

#[tokio::test]
async fn a_watch_ends_quietly_with_its_reader() {
    let cluster = whole().await;
    let mut watch = watch(cluster.url(), &["-o", "json", "--every", "100ms"]);
    next(&mut watch, "joined").await;
    let clients = async {
        loop {
            let client = cluster.mixed.servers[0].client("/").await;
            client.disconnect().await;
        }
    };
    tokio::select! {
        (status, stderr) = watch.end_without_reader() => assert_eq!((status, stderr.as_str()), (0, "")),
        () = clients => {}
    }
}
