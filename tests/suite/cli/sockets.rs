//! `pgio sockets`.

use serde_json::{Value, json};

use crate::support::attachments::execute;
use crate::support::mixed::mixed_with;
use crate::support::node::{AdapterVersion, Client, NodePeer, ServerOptions};
use crate::support::pgio::{pgio, run};
use crate::support::postgres::{postgres, url_as};
use crate::support::whole::{Whole, whole};

const KEYS: [&str; 9] =
    ["id", "node", "namespace", "rooms", "address", "transport", "data", "connectedAt", "handshake"];

/// The sockets' ids, sorted.
fn ids(sockets: &[Value]) -> Vec<String> {
    let mut ids: Vec<_> = sockets.iter().map(|socket| socket["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

fn ids_of(clients: &[&Client]) -> Vec<String> {
    let mut ids: Vec<_> = clients.iter().map(|client| client.id().to_owned()).collect();
    ids.sort();
    ids
}

async fn list(cluster: &Whole, arguments: &[&str]) -> Vec<Value> {
    cluster.run(&[&["sockets", "-o", "json"], arguments].concat()).await.succeeded().json()
}

#[tokio::test]
async fn sockets_of_all_servers_are_listed_with_their_data() {
    let cluster = whole().await;
    cluster.join(1, &["r1", "r2"]).await;
    cluster.mixed.clients[1].set_data(json!({"name": "Zoë", "bytes": [1, 2]})).await;
    let sockets = list(&cluster, &[]).await;
    assert_eq!(ids(&sockets), ids_of(&cluster.clients()));
    let nodes: std::collections::BTreeSet<_> = sockets.iter().map(|socket| socket["node"].as_str()).collect();
    assert_eq!(nodes.len(), 4);
    for socket in &sockets {
        let keys: Vec<_> = socket.as_object().unwrap().keys().collect();
        assert_eq!(keys, KEYS);
        assert_eq!((&socket["namespace"], &socket["transport"]), (&json!("/"), &json!("websocket")));
        assert!(socket["rooms"].as_array().unwrap().contains(&socket["id"]), "{socket}");
        assert_eq!(socket["handshake"]["query"]["EIO"], "4");
        // The node of the tests does not report the addresses of its clients.
        if socket["id"] != cluster.ours.id() {
            assert!(socket["address"].as_str().unwrap().ends_with("127.0.0.1"), "{socket}");
            let since: jiff::Timestamp = socket["connectedAt"].as_str().unwrap().parse().unwrap();
            assert!(jiff::Timestamp::now().duration_since(since).as_secs() < 60, "{socket}");
        }
    }
    let second = sockets.iter().find(|socket| socket["id"] == cluster.mixed.clients[1].id()).unwrap();
    assert_eq!(second["data"], json!({"name": "Zoë", "bytes": [1, 2]}));
    assert_eq!(second["rooms"], json!([cluster.mixed.clients[1].id(), "r1", "r2"]));
}

#[tokio::test]
async fn rooms_and_exceptions_narrow() {
    let cluster = whole().await;
    for client in 0..4 {
        cluster.join(client, &["r1"]).await;
    }
    cluster.join(3, &["r2"]).await;
    cluster.join(0, &["r3"]).await;
    let [first, second, third, ours] = cluster.clients();
    let of = async |arguments: &[&str]| ids(&list(&cluster, arguments).await);
    assert_eq!(of(&["--room", "r1", "--except", "r2"]).await, ids_of(&[first, second, third]));
    assert_eq!(of(&["-r", "r2", "-r", "r3"]).await, ids_of(&[first, ours]));
    assert_eq!(of(&["-r", second.id()]).await, ids_of(&[second]));
    assert_eq!(of(&["-x", "r2", "-x", "r3"]).await, ids_of(&[second, third]));
    assert_eq!(of(&["-r", "nobody"]).await, [""; 0]);
    assert_eq!(list(&cluster, &["-r", "r1", "--count"]).await, [json!({"sockets": 4})]);
    let count = cluster.run(&["sockets", "--count", "-r", "nobody"]).await.succeeded();
    assert_eq!((count.stdout.as_str(), count.stderr.as_str()), ("0\n", ""));
}

#[tokio::test]
async fn several_namespaces_and_orders() {
    let cluster = whole().await;
    let admin = cluster.mixed.servers[0].client("/admin").await;
    cluster.join(2, &["r1", "r2", "r3"]).await;
    let both = list(&cluster, &["-n", "/", "-n", "admin", "--sort", "age"]).await;
    assert_eq!(both.len(), 5);
    assert_eq!((&both[4]["namespace"], both[4]["id"].as_str()), (&json!("/admin"), Some(admin.id())));
    let order = async |by: &str| list(&cluster, &["--sort", by]).await;
    let by_id: Vec<_> = order("id").await.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert!(by_id.is_sorted());
    assert_eq!(order("rooms").await[0]["id"], cluster.mixed.clients[2].id());
    assert!(order("node").await.is_sorted_by_key(|one| one["node"].as_str().unwrap().to_owned()));
    let times: Vec<_> = order("age").await.iter().map(|one| one["connectedAt"].to_string()).collect();
    assert!(times[..3].is_sorted() && times[3] == "null", "{times:?}");
    assert_eq!(order("address").await[0]["address"], json!(null));
}

#[tokio::test]
async fn the_table_is_one_line_a_socket_whatever_they_hold() {
    let cluster = whole().await;
    cluster.mixed.clients[0].set_data(json!({"name": "\u{1b}[2J\n漢字"})).await;
    cluster.join(0, &["evil\r\n\u{9b}31m\u{202e}", "漢字"]).await;
    let table = cluster.run(&["sockets"]).await.succeeded();
    let lines: Vec<_> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{table:?}");
    let titles: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(titles, ["ID", "NODE", "AGE", "ADDRESS", "TRANSPORT", "ROOMS", "DATA"]);
    let first = lines.iter().find(|line| line.contains(cluster.mixed.clients[0].id())).unwrap();
    assert!(first.contains("  127.0.0.1  ") && first.contains("  websocket  "), "{first}");
    assert!(first.contains(r"evil\u{d}\n\u{9b}31m\u{202e}, 漢字  "), "{first}");
    assert!(first.ends_with(r#"{"name":"\u001b[2J\n漢字"}"#), "{first}");
    assert!(!table.stdout.contains(['\x1b', '\u{9b}', '\u{202e}', '\r']), "{table:?}");
}

#[tokio::test]
async fn servers_without_an_answer_are_named_and_the_others_shown() {
    let cluster = whole().await;
    let peer = NodePeer::start().await;
    // The server is live, but cannot answer: only heartbeats fit into a notification, and the table for larger messages
    // is missing.
    let options = ServerOptions::new(AdapterVersion::V05, cluster.url()).table_name("missing");
    let dumb = peer.server(options.payload_threshold(100)).await;
    dumb.wait_for_server_count("/", 4).await;
    dumb.client("/").await;
    let partial = cluster.run(&["sockets", "-o", "json", "--timeout", "1s"]).await;
    assert_eq!((partial.status, ids(&partial.json())), (4, ids_of(&cluster.clients())), "{partial:?}");
    assert!(
        partial.stderr.starts_with("error: 1 of 5 servers of / did not answer within 1s: "),
        "{partial:?}"
    );
}

#[tokio::test]
async fn a_role_that_may_not_read_the_answers_gets_an_error() {
    let cluster = mixed_with(|options| options.payload_threshold(200)).await;
    execute(cluster.url(), "DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN PASSWORD 'pw'").await;
    let blind = url_as("blind", cluster.url());
    let outcome = run(&mut pgio(&blind, &["sockets", "--timeout", "1s"])).await;
    assert_eq!((outcome.status, outcome.stdout.as_str()), (4, ""));
    let expected = ": no privilege on the attachment table socket_io_attachments: ";
    assert!(outcome.stderr.starts_with("error: 3 of 3 servers of / did not"), "{outcome:?}");
    assert!(outcome.stderr.contains(expected), "{outcome:?}");
}

#[tokio::test]
async fn without_a_server_there_is_nothing_to_ask() {
    let postgres = postgres().await;
    let outcome = run(&mut pgio(postgres.url(), &["sockets", "-o", "json"])).await;
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
    assert_eq!(outcome.stderr, "no server is live in /\n");
    let outcome = run(&mut pgio(postgres.url(), &["sockets", "-q", "--min", "1"])).await;
    assert_eq!((outcome.status, outcome.stderr.as_str()), (4, "error: 0 sockets, and 1 is required\n"));
}
