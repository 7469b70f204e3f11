//! Tests of the harness itself: the behaviour of the Node packages among themselves.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::node::{
    AdapterVersion, Break, Client, ClientOptions, Drained, EmitterOptions, Event, NodePeer, Parser, Server,
    ServerOptions, StreamOptions, binary, cluster, date, event,
};
use crate::support::postgres::postgres;

use AdapterVersion::{V03, V04, V05};

/// Servers of these versions on `url`, and a client on each.
async fn cluster_with_clients<const N: usize>(
    versions: [AdapterVersion; N],
    url: &str,
) -> ([Server; N], Vec<Client>) {
    let servers = cluster(versions, |version| ServerOptions::new(version, url)).await;
    let clients = join_all(servers.iter().map(|server| server.client("/"))).await;
    (servers, clients)
}

#[tokio::test]
async fn three_versions_see_each_other() {
    let postgres = postgres().await;
    let servers = cluster(AdapterVersion::ALL, |version| ServerOptions::new(version, postgres.url())).await;
    for (server, count) in servers.iter().zip([3, 3, 2]) {
        assert_eq!(server.server_count("/").await, count);
        assert_eq!(server.errors().await, [""; 0]);
    }

    // 0.5.0 announces an orderly stop, and 0.4.0 understands it. 0.3.1 takes it for another sign of life.
    let [v03, v04, v05] = servers;
    v05.stop().await;
    v04.wait_for_server_count("/", 2).await;
    assert_eq!(v03.server_count("/").await, 3);
}

#[tokio::test]
async fn a_killed_process_is_missed_after_the_heartbeat_timeout() {
    let postgres = postgres().await;
    let [victim, v04, v05] = cluster([V04, V04, V05], |version| {
        ServerOptions::new(version, postgres.url())
            .heartbeat(Duration::from_millis(200), Duration::from_millis(1000))
    })
    .await;
    victim.peer().kill().await;
    v04.wait_for_server_count("/", 2).await;
    v05.wait_for_server_count("/", 2).await;
}

#[tokio::test]
async fn a_broadcast_reaches_the_clients_of_every_version_but_from_0_3_only_its_own() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let (servers, clients) = cluster_with_clients(AdapterVersion::ALL, postgres.url()).await;
    for client in &clients {
        client.join(&["r1"]).await;
    }
    clients[1].join(&["r2"]).await;

    let noon = "2026-01-31T12:00:00.123Z";
    for (i, server) in servers.iter().enumerate() {
        server.io().emit("everyone", json!(["<>", i, { "deep": [null] }])).await;
        server.io().to("r1").to("r2").except("r2").emit("some", json!([i])).await;
        server
            .io()
            .to("r1")
            .volatile()
            .compress(false)
            .emit("bytes", json!([{ "b": binary("AAECww=="), "at": date(noon) }, i]))
            .await;
        server.io().local().emit("local", json!([i])).await;
    }

    for (to, client) in clients.iter().enumerate() {
        let mut expected = vec![event("local", json!([to]))];
        for from in (0..3).filter(|&from| from == to || from != 0) {
            expected.push(event("everyone", json!(["<>", from, { "deep": [null] }])));
            expected.push(event("bytes", json!([{ "b": binary("AAECww=="), "at": noon }, from])));
            expected.extend((to != 1).then(|| event("some", json!([from]))));
        }
        // Servers do not wait for each other, and inline events overtake attachments, so the order is not certain.
        let received = client.wait_for(expected.len()).await;
        assert_eq!(sorted(received), sorted(expected), "client {to}");
    }
}

fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| format!("{event:?}"));
    events
}

#[tokio::test]
async fn a_message_over_the_threshold_takes_the_table() {
    let postgres = postgres().await;
    for version in AdapterVersion::ALL {
        let [near, far] = cluster([version; 2], |version| {
            ServerOptions::new(version, postgres.url()).payload_threshold(200)
        })
        .await;
        let client = far.client("/").await;
        execute(postgres.url(), "DROP TABLE IF EXISTS socket_io_attachments").await;
        near.io().emit("lost", json!(["x".repeat(200)])).await;
        // 0.5.0 does not call its error handler.
        let errors: &[&str] =
            if version == V05 { &[] } else { &["relation \"socket_io_attachments\" does not exist"] };
        assert_eq!(near.errors().await, errors);

        create_attachment_table(postgres.url()).await;
        near.io().emit("large", json!(["y".repeat(200)])).await;
        assert_eq!(client.wait_for(1).await, [event("large", json!(["y".repeat(200)]))]);
    }
}

#[tokio::test]
async fn the_official_emitter_reaches_only_0_3() {
    let postgres = postgres().await;
    let (servers, clients) = cluster_with_clients(AdapterVersion::ALL, postgres.url()).await;
    let emitter = servers[0].peer().emitter(EmitterOptions::new(postgres.url())).await;
    emitter.io().emit("from the emitter", json!([1])).await;
    emitter.io().sockets_join(&["r1"]).await;
    emitter.io().to("r1").server_side_emit("to servers", json!([2])).await;
    // An event for all clients comes later on the same channel.
    servers[1].io().to("r1").emit("joined", json!([])).await;
    servers[1].io().emit("end", json!([])).await;

    assert_eq!(
        clients[0].wait_for(3).await,
        [event("from the emitter", json!([1])), event("joined", json!([])), event("end", json!([]))]
    );
    assert_eq!(servers[0].wait_for("/", 1).await, [event("to servers", json!([2]))]);
    for i in [1, 2] {
        assert_eq!(clients[i].wait_for(1).await, [event("end", json!([]))]);
        assert_eq!(servers[i].received("/").await, []);
    }
    emitter.stop().await;
}

#[tokio::test]
async fn options_of_servers_and_emitters_reach_the_packages() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let peer = NodePeer::start().await;
    let options = ServerOptions::new(V03, postgres.url())
        .namespace("/admin")
        .channel_prefix("other")
        .parser(Parser::Msgpack);
    let server = peer.server(options).await;
    let client = server.client("/admin").await;

    let deaf = peer.emitter(EmitterOptions::new(postgres.url())).await;
    deaf.of("/admin").emit("wrong prefix", json!([])).await;
    let emitter =
        peer.emitter(EmitterOptions::new(postgres.url()).channel_prefix("other").payload_threshold(1)).await;
    emitter.of("/").emit("wrong namespace", json!([])).await;
    emitter.of("/admin").emit("right", json!([binary("/w=="), "ü"])).await;
    assert_eq!(client.wait_for(1).await, [event("right", json!([binary("/w=="), "ü"]))]);

    let options = ServerOptions::new(V04, postgres.url()).table_name("no_table");
    let server = peer.server(options).await;
    server.io().emit("lost", json!([binary("AA==")])).await;
    assert_eq!(server.errors().await, ["relation \"no_table\" does not exist"]);
}

#[tokio::test]
async fn sockets_are_fetched_moved_and_dropped_across_the_cluster() {
    let postgres = postgres().await;
    for version in AdapterVersion::ALL {
        let (servers, clients) = cluster_with_clients([version; 2], postgres.url()).await;
        for (i, client) in clients.iter().enumerate() {
            client.set_data(json!({ "number": i })).await;
            client.join(&["r1", "r2"]).await;
        }
        clients[1].leave(&["r2"]).await;

        let mut sockets = servers[0].io().to("r1").fetch_sockets().await.unwrap();
        sockets.sort_by_key(|socket| socket.data["number"].as_u64());
        assert_eq!(sockets.len(), 2);
        for (i, (socket, client)) in sockets.iter().zip(&clients).enumerate() {
            assert_eq!((socket.id.as_str(), &socket.data), (client.id(), &json!({ "number": i })));
            assert_eq!(
                socket.rooms,
                if i == 0 { vec![client.id(), "r1", "r2"] } else { vec![client.id(), "r1"] }
            );
            assert_eq!(socket.handshake["query"]["transport"], "websocket");
        }

        servers[1].io().to("r2").sockets_join(&["r3", "r4"]).await;
        servers[1].io().to(clients[1].id()).sockets_join(&["r3"]).await;
        servers[1].io().to("r4").sockets_leave(&["r4"]).await;
        servers[0].io().to("r3").except(clients[0].id()).disconnect_sockets(true).await;
        assert_eq!(clients[1].wait_for_disconnect().await, "io server disconnect");
        assert_eq!(clients[0].lifecycle().await, [event("connect", json!([]))]);
        let left = servers[1].io().to("r3").fetch_sockets().await.unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].rooms, [clients[0].id(), "r1", "r2", "r3"]);
    }
}

#[tokio::test]
async fn clients_acknowledge_a_broadcast() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    for version in AdapterVersion::ALL {
        let (servers, clients) = cluster_with_clients([version; 2], postgres.url()).await;
        clients[0].answer("q", json!(["zero"])).await;
        clients[1].answer_late("q", json!({ "one": binary("AQ==") }), Duration::from_millis(50)).await;
        let ask = async |patience| servers[0].io().timeout(patience).emit_with_ack("q", json!(["?"])).await;

        let answers = ask(Duration::from_secs(10)).await.unwrap();
        assert_eq!(answers, [json!(["zero"]), json!({ "one": binary("AQ==") })]);
        for client in &clients {
            assert_eq!(client.drain().await, [event("q", json!(["?"]))]);
            assert_eq!(client.received().await, []);
        }

        clients[1].silent("q").await;
        let error = ask(Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(error.message, "operation has timed out");
        assert_eq!(error.responses, Some(vec![json!(["zero"])]));
    }
}

#[tokio::test]
async fn servers_ask_each_other() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let [v04, v05, asking] =
        cluster([V04, V05, V05], |version| ServerOptions::new(version, postgres.url())).await;
    v04.answer("/", "q", json!("v04")).await;
    v05.answer_late("/", "q", binary("BQ=="), Duration::from_millis(50)).await;
    asking.answer("/", "q", json!("never asks itself")).await;

    let answers = asking.io().server_side_emit_with_ack("q", json!([binary("AA=="), 1])).await.unwrap();
    assert_eq!(answers, [json!("v04"), binary("BQ==")]);
    for server in [&v04, &v05] {
        assert_eq!(server.drain("/").await, [event("q", json!([binary("AA=="), 1]))]);
    }
    assert_eq!(asking.received("/").await, []);

    v04.io().server_side_emit("told", json!(["x"])).await;
    assert_eq!(v05.wait_for("/", 1).await, [event("told", json!(["x"]))]);
    assert_eq!(asking.wait_for("/", 1).await, [event("told", json!(["x"]))]);
}

#[tokio::test]
async fn silence_costs_the_asker_its_timeout() {
    let postgres = postgres().await;
    let [asking, silent] = cluster([V03; 2], |version| {
        ServerOptions::new(version, postgres.url()).option("requestsTimeout", 500)
    })
    .await;
    silent.answer("/", "q", json!(1)).await;
    assert_eq!(asking.io().server_side_emit_with_ack("q", json!([])).await.unwrap(), [1]);
    silent.silent("/", "q").await;
    let error = asking.io().server_side_emit_with_ack("q", json!([])).await.unwrap_err();
    assert_eq!(error.message, "timeout reached: only 0 responses received out of 1");
    assert_eq!(error.responses, Some(vec![]));
}

#[tokio::test]
async fn requests_between_0_3_and_newer_ones_time_out() {
    let postgres = postgres().await;
    let [v03, v04] = cluster([V03, V04], |version| {
        ServerOptions::new(version, postgres.url()).option("requestsTimeout", 500)
    })
    .await;
    let error = v03.io().fetch_sockets().await.unwrap_err();
    assert_eq!(error.message, "timeout reached: only 0 responses received out of 1");
    let error = v04.io().timeout(Duration::from_millis(500)).fetch_sockets().await.unwrap_err();
    assert_eq!(error.message, "timeout reached: missing 1 responses");
}

#[tokio::test]
async fn a_counting_client_checks_the_order() {
    let postgres = postgres().await;
    let peer = NodePeer::start().await;
    let start = async |version| peer.server(ServerOptions::new(version, postgres.url()).pool_size(2)).await;
    let (near, far) = (start(V04).await, start(V05).await);
    let client = far.client("/").await;
    client.count().await;

    near.io().burst("tick", 2_000).await;
    let tally = client.wait_for_tally("tick", 2_000, Duration::from_secs(30)).await;
    assert_eq!((tally.count, tally.first_break), (2_000, None));

    near.io().emit("tick", json!([2_001])).await;
    let tally = client.wait_for_tally("tick", 2_001, Duration::from_secs(10)).await;
    assert_eq!(tally.first_break, Some(Break { at: 2_000, expected: 2_000, got: 2_001 }));
}

#[tokio::test]
async fn clients_talk_to_their_server() {
    let postgres = postgres().await;
    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(V05, postgres.url())).await;
    let options = ClientOptions::new(server.url()).transports(&["polling"]).auth(json!({ "token": "t" }));
    let client = peer.client(options.option("query", json!({ "k": "v" }))).await;

    assert_eq!(
        client.emit_with_ack("echo", json!([1, binary("AA==")])).await.unwrap(),
        json!([1, binary("AA==")])
    );
    client.emit("unresponsive", json!([])).await;
    let sockets = server.io().fetch_sockets().await.unwrap();
    assert_eq!(sockets[0].handshake["auth"], json!({ "token": "t" }));
    assert_eq!(sockets[0].handshake["query"]["k"], "v");

    let refused = peer.try_client(ClientOptions::new(server.url()).namespace("/unknown")).await;
    assert_eq!(refused.err().expect("nobody made this namespace").message, "Invalid namespace");

    server.io().emit("bye", json!([])).await;
    assert_eq!(client.wait_for_event("bye").await, event("bye", json!([])));
    client.disconnect().await;
    assert_eq!(client.wait_for_disconnect().await, "io client disconnect");
}

#[tokio::test]
async fn servers_survive_the_loss_of_their_connections() {
    let postgres = postgres().await;
    let (servers, clients) = cluster_with_clients(AdapterVersion::ALL, postgres.url()).await;
    let others = "datname = current_database() AND pid <> pg_backend_pid()";
    let terminate = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}");
    execute(postgres.url(), &terminate).await;
    for server in &servers {
        server.wait_until_listening_after(1).await;
    }
    servers[1].io().emit("again", json!([])).await;
    for client in &clients {
        assert_eq!(client.wait_for(1).await, [event("again", json!([]))]);
    }
}

#[tokio::test]
async fn streams_are_numbered_and_recorded() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let peer = NodePeer::start().await;
    assert!(peer.pid().await.is_some());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = peer.server(ServerOptions::new(V05, postgres.url()).port(port).pool_size(2)).await;
    assert_eq!(server.url(), format!("http://127.0.0.1:{port}"));
    let client = server.client("/").await;
    client.ledger("everything").await;
    let stream = |name: &str, binary| StreamOptions { name: name.into(), rate: 100, first: 5, binary };
    server.stream("/", &stream("of the server", true)).await;
    client.stream(&stream("of the client", false)).await;

    let (mut sent, mut received, mut settled) = (Vec::new(), Vec::new(), Vec::new());
    while received.len() < 3 || settled.len() < 3 {
        let Drained { sent: streams, settled: answers, received: ledgers } =
            peer.drain_streams().await.unwrap();
        sent.extend_from_slice(&streams["of the server"]);
        settled.extend_from_slice(&answers["of the client"]);
        received.extend_from_slice(&ledgers["everything"]);
    }
    for (i, number) in [5, 6, 7].into_iter().enumerate() {
        let (sent, received, settled) = (sent[i], &received[i], settled[i]);
        assert_eq!((sent.0, received.0.as_str(), received.1), (number, "of the server", Some(number)));
        assert_eq!((settled.0, settled.2), (number, 1));
        assert!(sent.1 > 0 && received.2 >= sent.1 && settled.1 >= sent.1 - 10_000, "{sent:?} {settled:?}");
    }
}
