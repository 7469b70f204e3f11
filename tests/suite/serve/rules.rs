//! The permissions of clients.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgio::Emitter;
use pgio::postgres::private::Shutdown;
use serde_json::json;

use crate::support::node::{AdapterVersion, NodePeer, ServerOptions, binary};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::{own_server, postgres};
use crate::support::raw_websocket::RawWebsocket;
use crate::support::sql::query_text;

#[tokio::test]
async fn by_default_clients_may_do_nothing() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let peer = NodePeer::start().await;
    let (one, other) = (serve.client(&peer).await, serve.client(&peer).await);
    let answer = one.emit_with_ack("join", json!(["r1"])).await.unwrap();
    assert_eq!(answer, json!({ "error": "room \"r1\" is not allowed" }));
    let answer = one.emit_with_ack("e", json!([1])).await.unwrap();
    assert_eq!(answer, json!({ "error": "this server does not accept events of clients" }));
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.to("r1").emit("for r1", 1).await.unwrap();
    emitter.emit("for all", 1).await.unwrap();
    assert_eq!(one.wait_for(1).await[0].event, "for all");
    assert_eq!(other.wait_for(1).await[0].event, "for all");
    assert_eq!(serve.metric("pgio_events_refused_total").await, 2.0);
}

#[tokio::test]
async fn rooms_that_match_are_joined_and_left() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "chat:*", "r[12]"]).await;
    let peer = NodePeer::start().await;
    let (client, other) = (serve.client(&peer).await, serve.client(&peer).await);
    let ask = async |event: &str, args| client.emit_with_ack(event, args).await.unwrap();
    assert_eq!(ask("join", json!(["r1"])).await, json!(["r1"]));
    assert_eq!(ask("join", json!([["chat:b", "chat:a"]])).await, json!(["chat:a", "chat:b", "r1"]));
    // All or none.
    let refused = json!({ "error": "room \"r3\" is not allowed" });
    assert_eq!(ask("join", json!([["r2", "r3"]])).await, refused);
    assert_eq!(ask("leave", json!([["r1", "r2"]])).await, json!(["chat:a", "chat:b"]));
    let refused = json!({ "error": "expected a room or an array of rooms" });
    for nonsense in [json!([]), json!([7]), json!([["r1", 7]]), json!(["r1", "r2"]), json!([null])] {
        assert_eq!(ask("join", nonsense).await, refused);
    }
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.to("r1").emit("no", 1).await.unwrap();
    emitter.to("chat:a").emit("yes", 1).await.unwrap();
    emitter.emit("end", 1).await.unwrap();
    assert_eq!(client.wait_for(2).await[0].event, "yes");
    assert_eq!(other.wait_for(1).await[0].event, "end");
}

#[tokio::test]
async fn a_client_cannot_join_the_room_of_another_socket() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "*"]).await;
    let peer = NodePeer::start().await;
    let (client, other) = (serve.client(&peer).await, serve.client(&peer).await);
    for room in [other.id(), "sixteenletters16"] {
        let answer = client.emit_with_ack("join", json!([room])).await.unwrap();
        let refused = format!("room {room:?} is not allowed: it looks like a socket id");
        assert_eq!(answer, json!({ "error": refused }));
    }
    assert_eq!(client.emit_with_ack("join", json!([client.id()])).await.unwrap(), json!([]));

    let serve = PgioServe::start(postgres.url(), &["--allow-join", "*", "--allow-id-rooms"]).await;
    let (client, other) = (serve.client(&peer).await, serve.client(&peer).await);
    let answer = client.emit_with_ack("join", json!([other.id()])).await.unwrap();
    assert_eq!(answer, json!({ "error": format!("room {:?} belongs to another client", other.id()) }));
    let answer = client.emit_with_ack("join", json!(["sixteenletters16"])).await.unwrap();
    assert_eq!(answer, json!(["sixteenletters16"]));
}

#[tokio::test]
async fn events_are_relayed_to_the_rooms_of_the_sender_everywhere_but_to_itself() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "*", "--relay"]).await;
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let peer = NodePeer::start().await;
    let (sender, near, outside) =
        (serve.client(&peer).await, serve.client(&peer).await, serve.client(&peer).await);
    let far = server.client("/").await;
    far.join(&["r1"]).await;

    // Without a room, no client receives the event.
    assert!(sender.emit_with_ack("lonely", json!([1])).await.is_ok());
    for client in [&sender, &near] {
        client.emit_with_ack("join", json!(["r1"])).await.unwrap();
    }
    let args = json!([1, "<>", { "deep": [binary("AQID")] }, binary("BA=="), null]);
    sender.emit_with_ack("e", args.clone()).await.unwrap();
    // Node fetches the attachment, and would let the next event overtake it.
    for client in [&near, &far] {
        assert_eq!(json!(client.wait_for_event("e").await.args), args);
    }
    sender.emit("none", json!([])).await;
    for client in [&near, &far] {
        assert_eq!(json!(client.wait_for_event("none").await.args), json!([]));
        assert_eq!(client.received().await.len(), 2);
    }
    // A message to the sender alone makes its id a room. The sender must still not receive its own event.
    server.io().to(sender.id()).emit("for you", json!([])).await;
    sender.wait_for_event("for you").await;
    sender.emit_with_ack("e", json!([2])).await.unwrap();
    near.wait_for(3).await;
    assert_eq!(sender.received().await.len(), 1);
    assert_eq!(outside.received().await, []);
}

#[tokio::test]
async fn events_are_relayed_to_the_namespace_in_their_order() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--relay=namespace"]).await;
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let peer = NodePeer::start().await;
    let (sender, near) = (serve.client(&peer).await, serve.client(&peer).await);
    let far = server.client("/").await;
    for client in [&near, &far] {
        client.count().await;
    }
    for number in 0..2000 {
        sender.emit("n", json!([number])).await;
    }
    for client in [&near, &far] {
        let tally = client.wait_for_tally("n", 2000, std::time::Duration::from_secs(30)).await;
        assert_eq!((tally.count, tally.first_break), (2000, None));
    }
    assert_eq!(sender.received().await, []);
    // `join` is not relayed.
    assert!(sender.emit_with_ack("join", json!(["r"])).await.unwrap()["error"].is_string());
}

#[tokio::test]
async fn the_acknowledgement_of_a_relayed_event_reports_its_outcome() {
    let mut postgres = own_server().await;
    let serve = PgioServe::start(&postgres.url(), &["--relay=namespace"]).await;
    serve.wait_for_ready(200).await;
    let mut client = RawWebsocket::connect(serve.address()).await;
    client.send("421[\"e\"]").await;
    assert!(client.hears("431[]").await);

    // The connection is lost while the event is in flight.
    let sessions = "SELECT string_agg(pid::text, ',') FROM pg_stat_activity \
                    WHERE application_name = 'pgio' AND query NOT LIKE 'LISTEN %'";
    let sessions = query_text(&postgres.url(), sessions).await;
    let signal_all = |signal| {
        let pids = sessions.split(',').map(|pid| Pid::from_raw(pid.parse().unwrap()));
        pids.for_each(|pid| kill(pid, signal).unwrap());
    };
    signal_all(Signal::SIGSTOP);
    client.send("422[\"e\"]").await;
    serve.wait_for_metric("pgio_events_received_total", 2.0).await;
    signal_all(Signal::SIGKILL);
    assert!(
        client
            .hears(
                "432[{\"error\":\"publish outcome unknown: other servers may not have received the event\"}]"
            )
            .await
    );

    postgres.take_down(Shutdown::Immediate).await.unwrap();
    serve.wait_for_ready(503).await;
    let before = serve.metric("pgio_publish_errors_total").await;
    for id in 10..60 {
        client.send(&format!("42{id}[\"e\"]")).await;
        assert!(
            client
                .hears(&format!(
                    "43{id}[{{\"error\":\"not published: no other server received the event\"}}]"
                ))
                .await
        );
    }
    assert!(serve.metric("pgio_publish_errors_total").await >= before + 50.0);
    assert_eq!(serve.metric("pgio_relay_errors_total").await, 51.0);
    let logged = |line: &&serde_json::Value| line["fields"]["message"] == "cannot relay events of clients";
    let log = serve.log();
    let logged: Vec<_> = log.iter().filter(logged).collect();
    assert!((1..10).contains(&logged.len()), "{logged:?}");
}
