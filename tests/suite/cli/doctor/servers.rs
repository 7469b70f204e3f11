//! Faults of the Socket.IO servers.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::doctor;
use crate::support::attachments::create_attachment_table;
use crate::support::node::{AdapterVersion, EmitterOptions, NodePeer, ServerOptions};
use crate::support::pgio::{pgio, run};
use crate::support::pgio_node::PgioNode;
use crate::support::postgres::postgres;
use crate::support::whole::whole;

#[tokio::test]
async fn a_server_of_0_3_among_newer_ones() {
    let cluster = whole().await;
    let diagnosis = cluster.undisturbed(doctor(cluster.url(), &["-n", "/", "-n", "nowhere"])).await;
    let expected = "4 are live in /, 1 of them with adapter 0.3, whose broadcasts and requests newer Node servers drop: ";
    let found = diagnosis.findings.iter().find(|finding| finding["check"] == "servers").unwrap();
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.strip_prefix(expected).is_some_and(|uid| uid.len() == 16), "{found}");
    assert_eq!(
        (&found["status"], &found["advice"]),
        (&"warn".into(), &"upgrade @socket.io/postgres-adapter there".into())
    );
    diagnosis.check("servers", "warn", "none is live in /nowhere", "pgio namespaces");

    cluster.mixed.servers[0].clone().stop().await;
    doctor(cluster.url(), &[]).await.check("servers", "ok", "3 are live in /", "");
}

#[tokio::test]
async fn a_room_that_receives_no_events() {
    let cluster = whole().await;
    cluster.join(0, &["lobby"]).await;
    cluster.join(1, &["lobby", "Staff"]).await;
    let rooms = ["--room", "lobby", "--room", "staff", "--room", "nosuch", "-n", "/", "-n", "/empty"];
    let diagnosis = cluster.undisturbed(doctor(cluster.url(), &rooms)).await;
    let found = diagnosis.findings.iter().filter(|finding| finding["check"] == "room");
    let found: Vec<_> =
        found.map(|one| (one["status"].as_str().unwrap(), one["detail"].as_str().unwrap())).collect();
    let expected = [
        ("ok", "2 sockets on 2 servers in lobby of /"),
        ("warn", "none of 4 sockets of / is in staff; there are rooms of a similar name: Staff (1 socket)"),
        ("warn", "none of 4 sockets of / is in nosuch"),
        ("warn", "no socket is in lobby, and none is connected to /empty"),
        ("warn", "no socket is in staff, and none is connected to /empty"),
        ("warn", "no socket is in nosuch, and none is connected to /empty"),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn servers_of_0_3_alone_understand_each_other() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let peer = NodePeer::start().await;
    let _server = peer.server(ServerOptions::new(AdapterVersion::V03, postgres.url())).await;
    doctor(postgres.url(), &[]).await.check("servers", "ok", "1 is live in /, with adapter 0.3", "");
}

#[tokio::test]
async fn heartbeats_cost_commits_while_a_server_needs_them() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let nodes = [PgioNode::start(postgres.url()).await, PgioNode::start(postgres.url()).await];
    for node in &nodes {
        node.wait_for_server_count(2).await;
    }
    let quiet = "none needed: all servers hold an advisory lock";
    // A node takes its lock after its first loopback.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let diagnosis = doctor(postgres.url(), &[]).await;
        let found = diagnosis.findings.iter().find(|finding| finding["check"] == "heartbeats").unwrap();
        if found["detail"] == quiet {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found}");
    }
    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 3).await;
    // One commit of the server and one of each node in each interval.
    let expected = "heartbeats cost 51,840 commits a day, which write WAL; 1 server holds no advisory lock: ";
    doctor(postgres.url(), &[]).await.check("heartbeats", "warn", expected, "Node servers need heartbeats");
}

/// Adapter 0.4 and later drop the events of the official emitter, and no server reports it.
#[tokio::test]
async fn an_emitter_that_newer_servers_do_not_understand() {
    let cluster = whole().await;
    let diagnosis = doctor(cluster.url(), &[]).await;
    assert!(!diagnosis.has("emitters"), "pgio sends a namespace: {diagnosis:?}");
    let emitter = cluster.mixed.servers[0].peer().emitter(EmitterOptions::new(cluster.url())).await;
    let emit = async {
        loop {
            emitter.io().emit("hello", json!([])).await;
            sleep(Duration::from_millis(50)).await;
        }
    };
    let diagnosis = tokio::select! {
        found = doctor(cluster.url(), &["--for", "3s"]) => found,
        () = emit => unreachable!("it emits for ever"),
    };
    let (_, detail, _) = diagnosis.finding("emitters");
    let (sent, dropped) = detail.split_once(", and servers with adapter 0.4 or later drop them: ").unwrap();
    assert!(
        sent.ends_with("from an emitter that sends no namespace (@socket.io/postgres-emitter 0.1.1)"),
        "{sent}"
    );
    assert_eq!(dropped.split(", ").count(), 2, "{dropped}");
    diagnosis.check("emitters", "warn", "messages came", "emit with pgio emit");
    // Its advice works.
    run(&mut pgio(cluster.url(), &["emit", "hello"])).await.succeeded();
    assert!(!doctor(cluster.url(), &[]).await.has("emitters"));
    // A large event is in the attachment table for a while.
    emitter.io().emit("large", json!(["x".repeat(9000)])).await;
    doctor(cluster.url(), &[]).await.check("emitters", "warn", "1 message came", "");
    for server in &cluster.mixed.servers[1..] {
        server.clone().stop().await;
    }
    let understood = "1 message came from an emitter that sends no namespace";
    doctor(cluster.url(), &[]).await.check("emitters", "ok", understood, "");
}
