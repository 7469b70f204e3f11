//! The events of a pgio node in the UI have the shape of the events of a Node server.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Shown, Ui, instrumented, socket};
use crate::support::attachments::create_attachment_table;
use crate::support::node::{AdapterVersion, ClientOptions};
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::postgres::postgres;
use crate::support::raw_polling::RawPolling;
use crate::support::raw_websocket::RawWebsocket;

/// The keys of an object.
fn keys(value: &Value) -> Vec<String> {
    let mut keys: Vec<_> = value.as_object().unwrap_or_else(|| panic!("{value}")).keys().cloned().collect();
    keys.sort();
    keys
}

async fn a_node_is_told_of(version: AdapterVersion) {
    let shown = Shown::start(version, "development", &[]).await;
    let before = shown.client().await;
    let ui = shown.ui().await;

    // The server, in the form of a Node server.
    let ours = ui.wait_for_stats(&shown.serve, |stats| stats["clientsCount"] == 1).await;
    let theirs = ui
        .wait_for("server_stats of Node", |name, args| {
            (name == "server_stats" && args[0]["serverId"] == "node").then(|| args[0].clone())
        })
        .await;
    assert_eq!(keys(&ours), keys(&theirs));
    assert_eq!(ours["namespaces"], json!([{"name": "/", "socketsCount": 1}]));
    assert_eq!(ours["pollingClientsCount"], 0);
    let id = ours["serverId"].as_str().unwrap();
    assert_eq!(id, format!("{}#{}", ours["hostname"].as_str().unwrap(), shown.serve.pid()));

    // The sockets from before the UI connected, each with its own client.
    let listed = ui.all_sockets().await;
    let listed = socket(&listed, before.id());
    assert_eq!(listed["clientId"], before.id()[..12]);
    assert_eq!((&listed["transport"], &listed["data"]), (&"websocket".into(), &json!({})));
    assert_eq!(listed["rooms"], json!([before.id()]));

    // A new socket, beside one of Node.
    let theirs = ui.wait_for_connected(shown.server.client("/").await.id()).await;
    let client = shown.client().await;
    let ours = ui.wait_for_connected(client.id()).await;
    assert_eq!(keys(&ours), keys(&theirs));
    assert_eq!(keys(&ours["handshake"]), keys(&theirs["handshake"]));
    assert_eq!((&ours["nsp"], &ours["transport"]), (&"/".into(), &"websocket".into()));
    assert_eq!(ours["handshake"]["address"], "127.0.0.1");
    assert_eq!(ours["rooms"], json!([client.id()]));
    assert_eq!(ours["clientId"], client.id()[..12]);

    // Its rooms, with names that an attacker might choose.
    let hostile = "<img src=x onerror=alert(1)>";
    client.emit_with_ack("join", json!([["r1", hostile]])).await.unwrap();
    for room in ["r1", hostile] {
        let joined = ui.wait_for_event("room_joined", &["/".into(), room.into(), client.id().into()]).await;
        assert!(joined[3].as_str().is_some_and(|time| time.ends_with('Z')), "{joined:?}");
    }
    client.emit_with_ack("leave", json!(["r1"])).await.unwrap();
    ui.wait_for_event("room_left", &["/".into(), "r1".into(), client.id().into()]).await;
    let joined = |room: &str| vec![Value::from("/"), room.into(), client.id().into()];
    shown.server.io().to(client.id()).sockets_join(&["from-node"]).await;
    ui.wait_for_event("room_joined", &joined("from-node")).await;

    // An upgrade.
    let polling = RawPolling::open(&shown.serve).await;
    assert_eq!(polling.post("40").await.1, "ok");
    let find = |name: &str, args: &[Value]| {
        let is_it = name == "socket_connected" && args[0]["transport"] == "polling";
        is_it.then(|| args[0]["id"].clone())
    };
    let id = ui.wait_for("a socket that polls", find).await;
    ui.wait_for_stats(&shown.serve, |stats| stats["pollingClientsCount"] == 1).await;
    let mut websocket = RawWebsocket::try_upgrade(shown.serve.address(), polling.session_id()).await.unwrap();
    websocket.send("2probe").await;
    assert_eq!(websocket.read_text().await, "3probe");
    websocket.send("5").await;
    let updated = json!({"id": id, "nsp": "/", "transport": "websocket"});
    ui.wait_for_event("socket_updated", &[updated]).await;

    // Departures, with the rooms that are left.
    client.disconnect().await;
    let gone = ui.wait_for_event("socket_disconnected", &["/".into(), client.id().into()]).await;
    assert_eq!(gone[2], "client namespace disconnect");
    for room in [client.id(), hostile, "from-node"] {
        ui.wait_for_event("room_left", &["/".into(), room.into(), client.id().into()]).await;
    }
    before.disconnect().await;
    ui.wait_for_event("socket_disconnected", &["/".into(), before.id().into()]).await;
    let of_events = |stats: &Value| stats["aggregatedEvents"].as_array().unwrap().clone();
    ui.wait_for_stats(&shown.serve, |stats| {
        let has =
            |name: &str| of_events(stats).iter().any(|event| event["type"] == name && event["count"] != 0);
        has("rawDisconnection") && has("bytesIn") && has("bytesOut")
    })
    .await;

    // No server counts the node in the namespace of the UI.
    assert_eq!(shown.server.server_count("/").await, 2);
    assert_eq!(shown.server.server_count("/admin").await, 1);
    assert_eq!(shown.server.errors().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_ui_of_0_5_shows_a_node_like_a_node_server() {
    a_node_is_told_of(AdapterVersion::V05).await;
}

#[tokio::test]
async fn the_ui_of_0_3_shows_a_node_like_a_node_server() {
    a_node_is_told_of(AdapterVersion::V03).await;
}

#[tokio::test]
async fn the_ui_shows_namespaces_that_only_the_node_has() {
    let shown = Shown::start(AdapterVersion::V05, "development", &["-n", "/", "-n", "/org/{id}"]).await;
    let options = ClientOptions::new(&shown.serve.url()).namespace("/org/7");
    let client = shown.peer.client(options).await;
    for _ in 0..2 {
        let ui = shown.ui().await;
        let connected = ui.wait_for_connected(client.id()).await;
        assert_eq!(
            (&connected["nsp"], &connected["clientId"]),
            (&"/org/7".into(), &client.id()[..12].into())
        );
        // The list that comes with the connection does not have that socket, and replaces what was published before.
        let received = ui.0.received().await;
        let place = |name: &str| received.iter().position(|one| one.event == name).unwrap();
        assert!(
            place("all_sockets")
                < received.iter().position(|one| one.args.first() == Some(&connected)).unwrap()
        );
        ui.wait_for_stats(&shown.serve, |stats| {
            stats["namespaces"]
                == json!([{"name": "/", "socketsCount": 0}, {"name": "/org/7", "socketsCount": 1}])
        })
        .await;
    }
}

#[tokio::test]
async fn secrets_of_clients_stay_out_unless_headers_are_shared() {
    for (more, is_shared) in [(&[][..], false), (&["--share-headers"], true)] {
        let shown = Shown::start(AdapterVersion::V05, "development", more).await;
        let headers = json!({
            "authorization": "Bearer secret", "proxy-authorization": "Basic secret", "cookie": "session=secret", "x-plain": "plain"
        });
        let options = ClientOptions::new(&shown.serve.url()).option("extraHeaders", headers);
        let before = shown.peer.client(options.clone()).await;
        let ui = shown.ui().await;
        let listed = ui.all_sockets().await;
        let after = shown.peer.client(options.auth(json!({"token": "secret-in-auth"}))).await;
        for socket in [socket(&listed, before.id()), &ui.wait_for_connected(after.id()).await] {
            let text = socket.to_string();
            assert!(text.contains("plain") && !text.contains("secret-in-auth"), "{text}");
            assert_eq!(text.contains("secret"), is_shared, "{text}");
        }
    }
}

#[tokio::test]
async fn at_a_shutdown_all_sockets_leave() {
    let mut shown = Shown::start(AdapterVersion::V05, "development", &[]).await;
    let client = shown.client().await;
    client.emit_with_ack("join", json!(["r1"])).await.unwrap();
    let ui = shown.ui().await;
    socket(&ui.all_sockets().await, client.id());
    ui.wait_for_stats(&shown.serve, |_| true).await;
    shown.serve.signal(Signal::SIGTERM);
    let gone = ui.wait_for_event("socket_disconnected", &["/".into(), client.id().into()]).await;
    assert_eq!(gone[2], "server shutting down");
    ui.wait_for_event("room_left", &["/".into(), "r1".into(), client.id().into()]).await;
    assert!(shown.serve.ended().await.success());
}

#[tokio::test]
async fn a_ui_that_is_open_before_the_node_starts_gets_all_sockets() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let (peer, server) = instrumented(&postgres, AdapterVersion::V05, "development").await;
    let ui = Ui::connect(&server).await;
    assert_eq!(ui.all_sockets().await.len(), 1);
    let serve = PgioServe::start(postgres.url(), &["--admin-ui"]).await;
    let client = serve.client(&peer).await;
    ui.wait_for_connected(client.id()).await;
    ui.wait_for_stats(&serve, |stats| stats["clientsCount"] == 1).await;
    // No UI gets an event twice.
    let later = serve.client(&peer).await;
    ui.wait_for_connected(later.id()).await;
    let of_first = |received: &[crate::support::node::Event]| {
        received
            .iter()
            .filter(|one| one.event == "socket_connected" && one.args[0]["id"] == client.id())
            .count()
    };
    assert_eq!(of_first(&ui.0.received().await), 1);
    until("the node is ready", async || serve.get("/readyz").await.0 == 200).await;
}
