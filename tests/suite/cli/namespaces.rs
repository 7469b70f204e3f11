//! Globs for namespaces, and `pgio namespaces`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::attachments::create_attachment_table;
use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio::{Running, pgio, run};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::whole::whole;

/// The namespaces, the number of servers of each, and the sources of that information.
fn listed(lines: &[Value]) -> Vec<(&str, usize, Vec<&str>)> {
    let told = |line: &Value| line["foundBy"].as_array().unwrap().len();
    let row = |line| {
        let line: &Value = line;
        let by = (0..told(line)).map(|index| line["foundBy"][index].as_str().unwrap()).collect();
        (line["namespace"].as_str().unwrap(), line["servers"].as_array().unwrap().len(), by)
    };
    lines.iter().map(row).collect()
}

#[tokio::test]
async fn namespaces_of_node_servers_and_pgio_nodes_are_found_without_joining_the_cluster() {
    let cluster = whole().await;
    let many = ["-n", "/org/1", "-n", "/org/2", "-n", "/org/3"];
    let serve = PgioServe::start(cluster.url(), &many).await;
    let lines = cluster.run(&["namespaces", "-o", "json"]).await.succeeded().json();
    let rows = listed(&lines);
    let counts: Vec<_> = rows.iter().map(|(nsp, servers, _)| (*nsp, *servers)).collect();
    assert_eq!(counts, [("/", 4), ("/admin", 4), ("/org/1", 1), ("/org/2", 1), ("/org/3", 1)]);
    assert_eq!(rows[1].2, ["sessions", "nodes"], "of Node servers the last LISTEN");
    // Only an answer reveals the other namespaces of a session.
    assert_eq!(rows[2].2, ["nodes"]);

    let some = cluster.run(&["namespaces", "-n", "org/*", "-n", "nosuch", "-o", "json"]).await.succeeded();
    let names: Vec<_> = listed(&some.json()).into_iter().map(|(nsp, ..)| nsp.to_owned()).collect();
    assert_eq!(names, ["/nosuch", "/org/1", "/org/2", "/org/3"]);
    let table = cluster.run(&["namespaces", "--limit", "1"]).await.succeeded();
    let titles: Vec<_> = table.stdout.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["NAMESPACE", "SERVERS", "UIDS", "FOUND", "BY"]);
    assert_eq!(table.stderr, "4 more namespaces; 5 in all\n");

    let nodes = cluster.run(&["nodes", "-n", "*", "-o", "json", "--no-sockets"]).await.succeeded().json();
    let of: BTreeSet<_> = nodes.iter().map(|node| node["namespace"].as_str().unwrap()).collect();
    assert_eq!((nodes.len(), of.len()), (11, 5), "{nodes:?}");
    drop(serve);
}

#[tokio::test]
async fn rooms_and_sockets_of_all_namespaces() {
    let cluster = whole().await;
    cluster.join(0, &["r1"]).await;
    let admin = cluster.mixed.servers[2].client("/admin").await;
    admin.join(&["staff"]).await;
    let rooms = cluster.run(&["rooms", "-n", "*", "-o", "json"]).await.succeeded().json();
    let named = |room: &Value| (room["namespace"].clone(), room["room"].clone());
    let named: Vec<_> = rooms.iter().map(named).collect();
    assert_eq!(named, [(json!("/"), json!("r1")), (json!("/admin"), json!("staff"))]);
    let sockets = cluster.run(&["sockets", "-n", "/a*", "-o", "json"]).await.succeeded().json();
    assert_eq!((sockets.len(), &sockets[0]["namespace"]), (1, &json!("/admin")));
    let once = ["top", "-n", "*", "--once", "-o", "json", "--no-sockets"];
    let top = cluster.run(&once).await.succeeded().json();
    assert_eq!(top[0]["namespaces"], json!(["/", "/admin"]));
}

#[tokio::test]
async fn a_glob_without_a_match_is_noted() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let run = async |arguments: &[&str]| run(&mut pgio(postgres.url(), arguments)).await;
    let nothing = run(&["rooms", "-n", "*"]).await.succeeded();
    assert_eq!(
        (nothing.stdout.as_str(), nothing.stderr.as_str()),
        ("", "no namespace matches *: none was found\n")
    );
    let _serve = PgioServe::start(postgres.url(), &["-n", "/", "-n", "/chat"]).await;
    for command in ["rooms", "sockets", "nodes", "namespaces"] {
        let nothing = run(&[command, "-n", "/org/*"]).await.succeeded();
        assert_eq!(nothing.stdout, "");
        assert_eq!(nothing.stderr, "no namespace matches /org/*; found: /, /chat\n", "{command}");
    }
    // The session of a pgio node shows the channel of a namespace, not that of discovery.
    let lines = run(&["namespaces", "-o", "json"]).await.succeeded().json();
    assert_eq!(listed(&lines), [("/", 1, vec!["nodes"]), ("/chat", 1, vec!["sessions", "nodes"])]);
    let few = run(&["nodes", "-n", "/org/*", "--min", "1", "-q"]).await;
    assert_eq!((few.status, few.stderr.as_str()), (4, "error: no server was found, and 1 is required\n"));
    // Commands that move sockets or reach clients take names only.
    for arguments in [&["disconnect", "-n", "*", "--yes"][..], &["emit", "-n", "/org/*", "x"]] {
        let refused = run(arguments).await;
        assert_eq!(refused.status, 2, "{refused:?}");
        assert!(refused.stderr.contains("not a name; only commands that observe take a glob"), "{refused:?}");
    }
}

#[tokio::test]
async fn rows_of_the_attachment_table_name_namespaces() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let peer = NodePeer::start().await;
    // The session shows the last namespace only.
    let options = ServerOptions::new(AdapterVersion::V05, postgres.url());
    let server = peer.server(options.namespace("/hidden").namespace("/last")).await;
    let find = async || {
        let lines = run(&mut pgio(postgres.url(), &["namespaces", "-o", "json"])).await.succeeded().json();
        let rows = listed(&lines);
        rows.into_iter()
            .map(|(nsp, servers, by)| format!("{nsp} {servers} {}", by.join(" ")))
            .collect::<Vec<_>>()
    };
    assert_eq!(find().await, ["/ 1 ", "/last 1 sessions"]);
    let large = "x".repeat(9000);
    run(&mut pgio(postgres.url(), &["emit", "-n", "hidden", "big", &large])).await.succeeded();
    assert_eq!(find().await, ["/ 1 ", "/hidden 1 attachments", "/last 1 sessions"]);
    drop(server);
}

#[tokio::test]
async fn namespaces_that_appear_later_are_picked_up() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let mut tail = Running::start(&mut pgio(postgres.url(), &["tail", "-n", "*", "-o", "json"]));
    let mut nodes = Running::start(&mut pgio(postgres.url(), &["nodes", "-n", "*", "--watch", "-o", "json"]));
    let mut top =
        Running::start(&mut pgio(postgres.url(), &["top", "-n", "*", "-o", "json", "--no-sockets"]));
    tail.wait_for_note("no namespace matches *: none was found").await;
    let peer = NodePeer::start().await;
    let serve = PgioServe::start(postgres.url(), &["-n", "/late"]).await;
    let options = ServerOptions::new(AdapterVersion::V03, postgres.url());
    let server = peer.server(options.namespace("/old")).await;
    tail.wait_for_note("socket.io#/late").await;
    tail.wait_for_note("socket.io#/old").await;
    for nsp in ["/late", "/old"] {
        run(&mut pgio(postgres.url(), &["emit", "-n", nsp, "hello"])).await.succeeded();
        let line = loop {
            let line = tail.json().await;
            if line["type"] == "broadcast" {
                break line;
            }
        };
        assert_eq!((&line["namespace"], &line["event"]), (&json!(nsp), &json!("hello")));
    }
    let mut joined = BTreeSet::new();
    while joined.len() < 3 {
        let line = nodes.json().await;
        if line["change"] == "joined" {
            joined.insert(line["namespace"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(joined.iter().map(String::as_str).collect::<Vec<_>>(), ["/", "/late", "/old"]);
    while top.json().await["namespaces"] != json!(["/", "/late", "/old"]) {}
    drop((serve, server));
}
