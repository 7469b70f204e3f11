//! `pgio rooms`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::freeze::Frozen;
use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio::{pgio, run};
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::sql::query_text;
use crate::support::whole::{Whole, whole};

/// How long a server stands still at most.
const PATIENCE: Duration = Duration::from_secs(60);

async fn list(cluster: &Whole, arguments: &[&str]) -> Vec<Value> {
    cluster.run(&[&["rooms", "-o", "json"], arguments].concat()).await.succeeded().json()
}

#[tokio::test]
async fn rooms_of_all_servers_are_counted_without_joining_the_cluster() {
    let cluster = whole().await;
    for client in 0..4 {
        cluster.join(client, &["everyone"]).await;
    }
    cluster.join(3, &["ours"]).await;
    cluster.join(0, &["theirs", "chat.a"]).await;
    cluster.join(1, &["theirs", "chat.b"]).await;
    let second = cluster.mixed.servers[0].client("/").await;
    second.join(&["everyone", "chat.a"]).await;
    let room =
        |room: &str, sockets: u32, nodes: u32| json!({"room": room, "sockets": sockets, "nodes": nodes});
    let all = [
        room("everyone", 5, 4),
        room("chat.a", 2, 1),
        room("theirs", 2, 2),
        room("chat.b", 1, 1),
        room("ours", 1, 1),
    ];
    assert_eq!(list(&cluster, &[]).await, all);
    let by_name = list(&cluster, &["--sort", "room", "chat.*", "o{urs,thers}"]).await;
    assert_eq!(by_name, [all[1].clone(), all[3].clone(), all[4].clone()]);
    let by_nodes = list(&cluster, &["--sort", "nodes"]).await;
    assert_eq!(by_nodes[..2], [all[0].clone(), all[2].clone()]);
    let of_ours = list(&cluster, &["--room", "theirs", "--except", "chat.b"]).await;
    assert_eq!(of_ours, [room("chat.a", 1, 1), room("everyone", 1, 1), room("theirs", 1, 1)]);
    assert_eq!(list(&cluster, &["--count"]).await, [json!({"rooms": 5})]);
}

#[tokio::test]
async fn rooms_of_one_socket_alone_are_left_out() {
    let cluster = whole().await;
    assert!(list(&cluster, &[]).await.is_empty());
    assert_eq!(list(&cluster, &["--all"]).await.len(), 4);
    // A room with the name of a socket's id is an ordinary room once another socket is in it.
    let ours = cluster.ours.id();
    cluster.join(0, &[ours]).await;
    assert_eq!(list(&cluster, &[]).await, [json!({"room": ours, "sockets": 2, "nodes": 2})]);
}

#[tokio::test]
async fn several_namespaces_are_told_apart() {
    let cluster = whole().await;
    let admin = cluster.mixed.servers[2].client("/admin").await;
    admin.join(&["r1"]).await;
    cluster.join(0, &["r1"]).await;
    let both = list(&cluster, &["-n", "/", "-n", "admin"]).await;
    let room = |nsp: &str| json!({"room": "r1", "sockets": 1, "nodes": 1, "namespace": nsp});
    assert_eq!(both, [room("/"), room("/admin")]);
    let text = cluster.run(&["rooms", "-n", "/", "-n", "admin"]).await.succeeded().stdout;
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!(words.join(" "), "NAMESPACE ROOM SOCKETS NODES / r1 1 1 /admin r1 1 1");
}

#[tokio::test]
async fn a_table_that_hostile_names_cannot_break() {
    let cluster = whole().await;
    cluster.join(0, &["a\r\n\u{1b}[2J", "漢字"]).await;
    let table = cluster.run(&["rooms", "--sort", "room"]).await.succeeded();
    let lines: Vec<_> = table.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "ROOM               SOCKETS  NODES",
            r"a\u{d}\n\u{1b}[2J        1      1",
            "漢字                     1      1"
        ]
    );
    let none = cluster.run(&["rooms", "nothing like that"]).await.succeeded();
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", ""));
}

#[tokio::test]
async fn servers_without_an_answer_are_named_and_the_others_shown() {
    let cluster = whole().await;
    cluster.join(3, &["r1"]).await;
    let peer = NodePeer::start().await;
    // The server is live, but cannot answer: only heartbeats fit into a notification, and the table for larger messages
    // is missing.
    let options = ServerOptions::new(AdapterVersion::V04, cluster.url()).table_name("missing");
    let dumb = peer.server(options.payload_threshold(100)).await;
    dumb.wait_for_server_count("/", 5).await;
    dumb.client("/").await;
    let partial = cluster.run(&["rooms", "-o", "json", "--timeout", "1s"]).await;
    assert_eq!((partial.status, partial.json()), (4, vec![json!({"room": "r1", "sockets": 1, "nodes": 1})]));
    assert!(
        partial.stderr.starts_with("error: 1 of 5 servers of / did not answer within 1s: "),
        "{partial:?}"
    );
}

/// Its heartbeat does not come in time, so only its session in Postgres shows that there is such a server.
#[tokio::test]
async fn a_node_server_that_stands_still_is_named_or_awaited() {
    let cluster = whole().await;
    cluster.join(3, &["r1"]).await;
    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(AdapterVersion::V04, cluster.url())).await;
    server.wait_for_server_count("/", 5).await;
    server.client("/").await.join(&["r1"]).await;
    let pids = [peer.pid().await.expect("it runs")];
    let room = |sockets: u32| json!({"room": "r1", "sockets": sockets, "nodes": sockets});

    let frozen = Frozen::processes(&pids, PATIENCE);
    let partial = run(&mut pgio(cluster.url(), &["rooms", "-o", "json", "--timeout", "2s"])).await;
    assert_eq!((partial.status, partial.json()), (4, vec![room(1)]), "{partial:?}");
    let beginning =
        "error: 1 of 5 servers of / did not answer within 2s: 1 of the Node servers that listen as pid ";
    assert!(partial.stderr.starts_with(beginning), "{partial:?}");
    let nodes = run(&mut pgio(cluster.url(), &["nodes", "--wait", "1s", "-o", "json"])).await.succeeded();
    assert_eq!(nodes.json().len(), 4, "{nodes:?}");
    let beginning =
        "warning: not in the list, no answer in / within 1s: 1 of the Node servers that listen as pid ";
    assert!(nodes.stderr.starts_with(beginning), "{nodes:?}");
    let doctor = run(&mut pgio(cluster.url(), &["doctor", "-o", "json"])).await.succeeded().json();
    let servers = doctor.iter().find(|line| line["check"] == "servers").expect("it is checked");
    assert_eq!(servers["status"], "warn", "{servers}");

    let mut command = pgio(cluster.url(), &["rooms", "-o", "json", "--timeout", "30s"]);
    let goes_on = async {
        // Longer than unknown servers have time.
        sleep(Duration::from_secs(2)).await;
        drop(frozen);
    };
    let (whole, ()) = join(run(&mut command), goes_on).await;
    assert_eq!(whole.succeeded().json(), [room(2)]);
}

/// Its advisory lock and its session show that it serves the main namespace.
#[tokio::test]
async fn a_pgio_server_that_stands_still_is_named() {
    let cluster = whole().await;
    cluster.join(3, &["r1"]).await;
    let serve = PgioServe::start(cluster.url(), &[]).await;
    // A process that serves another namespace, and one that only observes, are not missed.
    let other = PgioServe::start(cluster.url(), &["-n", "/other"]).await;
    let all = run(&mut pgio(cluster.url(), &["sockets", "--count", "--timeout", "5s"])).await.succeeded();
    assert_eq!(all.stdout, "4\n");
    // A ping shows it within two seconds.
    let shown = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() \
        AND pid <> pg_backend_pid() AND query LIKE '%/* serves / */%'";
    while query_text(cluster.url(), shown).await != "2" {
        sleep(Duration::from_millis(20)).await;
    }
    let frozen = Frozen::processes(&[serve.pid(), other.pid()], PATIENCE);
    let partial = run(&mut pgio(cluster.url(), &["sockets", "--count", "--timeout", "2s"])).await;
    let beginning =
        "error: 1 of 5 servers of / did not answer within 2s: the pgio server that listens as pid ";
    assert!(partial.status == 4 && partial.stderr.starts_with(beginning), "{partial:?}");
    drop(frozen);
    run(&mut pgio(cluster.url(), &["sockets", "--count"])).await.succeeded();
}

/// The processor time of the ended child processes.
fn time_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let sum = usage.user_time() + usage.system_time();
    Duration::from_micros(sum.num_microseconds().try_into().unwrap())
}

/// Answers of this size are attachments of some megabytes.
#[tokio::test]
async fn ten_thousand_sockets_in_a_thousand_rooms() {
    const SOCKETS: usize = 10_000;
    const ROOMS: usize = 1000;
    let cluster = whole().await;
    let started = Instant::now();
    // Each of the four servers already has a client.
    let of_node = SOCKETS / 4 - 1;
    let rooms = |from: usize| -> Vec<String> {
        (from..from + of_node).map(|i| format!("room {}", i % ROOMS)).collect()
    };
    let theirs = cluster.mixed.servers.iter().enumerate().map(async |(i, server)| {
        let ids = server.peer().crowd(server.url(), of_node).await;
        server.peer().spread(&ids, &rooms(i * of_node)).await;
    });
    let ours = async {
        let peer = NodePeer::start().await;
        let ids = peer.crowd(&cluster.node.url, of_node).await;
        for (id, room) in ids.iter().zip(rooms(3 * of_node)) {
            cluster.node.io.get_socket(id.parse().unwrap()).unwrap().join(room);
        }
        peer
    };
    let (_, _peer) = tokio::join!(join_all(theirs), ours);
    for i in 0..4 {
        cluster.join(i, &["room 0"]).await;
    }
    println!("connected after {:.1?}", started.elapsed());
    // A server that is still busy with its clients answers the discovery too late, and is not asked.
    until("all servers answer", async || {
        run(&mut pgio(cluster.url(), &["nodes", "-o", "json"])).await.succeeded().json().len() == 4
    })
    .await;

    let (started, own) = (Instant::now(), time_of_children());
    let listed =
        run(&mut pgio(cluster.url(), &["rooms", "-o", "json", "--timeout", "60s"])).await.succeeded();
    let (took, own) = (started.elapsed(), time_of_children() - own);
    println!("pgio rooms: {SOCKETS} sockets in {ROOMS} rooms took {took:.2?}, {own:.2?} of it its own");
    let mut expected = BTreeMap::from([("room 0".to_owned(), 4)]);
    for i in 0..4 {
        for room in rooms(i * of_node) {
            *expected.entry(room).or_default() += 1;
        }
    }
    let listed: BTreeMap<_, _> = listed
        .json()
        .iter()
        .map(|room| (room["room"].as_str().unwrap().to_owned(), room["sockets"].as_u64().unwrap()))
        .collect();
    assert_eq!((listed.len(), listed.values().sum::<u64>()), (ROOMS, SOCKETS as u64));
    assert_eq!(listed, expected);
}
