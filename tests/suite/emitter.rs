//! The library's emitter against live servers of all three versions.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgio::cluster::{Content, Event as Heard};
use pgio::protocol::{Header, MessageKind};
use pgio::{AdapterOptions, Cluster, Emitter, Error, Namespace, Settings, Value};
use serde_bytes::ByteBuf;
use serde_json::json;

use crate::support::attachments::execute;
use crate::support::mixed::{mixed, mixed_with};
use crate::support::node::{Event, binary, event};
use crate::support::postgres::{own_server, postgres};
use crate::support::sql::query_text;

async fn emitter(url: &str) -> Emitter {
    Emitter::connect(url).await.unwrap()
}

/// Sorts the events, since a Node server lets messages overtake one whose attachment it still fetches.
fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| (event.event.clone(), json!(event.args).to_string()));
    events
}

fn base64(bytes: &[u8]) -> serde_json::Value {
    binary(&STANDARD.encode(bytes))
}

/// A program that drops its receipts and ends would lose what is queued.
#[tokio::test]
async fn after_a_flush_every_queued_event_is_published() {
    const EVENTS: usize = 3000;
    let postgres = postgres().await;
    let reader = Cluster::connect(Settings::parse(postgres.url()).unwrap(), AdapterOptions::default()).await;
    let reader = reader.unwrap();
    let mut subscription = reader.subscribe(["/"], |_| true).await.unwrap();
    let emitter = emitter(postgres.url()).await;
    for number in 0..EVENTS {
        drop(emitter.enqueue("n", number).await.unwrap());
    }
    emitter.flush().await.unwrap();
    drop(emitter);
    for number in 0..EVENTS {
        let event = subscription.next().await.unwrap();
        assert!(matches!(event, Heard::Message(_)), "{number}: {event:?}");
    }
}

#[tokio::test]
async fn every_kind_of_value_arrives_unchanged_and_once_at_all_versions() {
    let cluster = mixed().await;
    let emitter = emitter(cluster.url()).await;
    #[derive(serde::Serialize)]
    struct Deep {
        name: &'static str,
        list: Vec<ByteBuf>,
        nothing: Option<u8>,
    }
    let deep = Deep { name: "ü", list: vec![ByteBuf::from([0, 255]), ByteBuf::new()], nothing: None };
    let unicode = "h\u{e9}llo \u{2713} \u{1d11e} \u{0} \u{7f} \u{2028} \\ \" \u{fffd}";
    let nested = json!({"z": [1, [2, [3, {"a": null}]]], "a": {"b": {"c": true}}, "": ""});
    let numbers = json!([0, -1, 1.5, 1e21, 9_007_199_254_740_991_i64, -0.000_1]);
    let date = pgio::Date::from_millis(1_700_000_000_123).unwrap();

    emitter.emit("text", "<>").await.unwrap();
    emitter.emit("none", ()).await.unwrap();
    emitter.emit("several", (1, "two", [3, 4], Option::<u8>::None)).await.unwrap();
    emitter.emit("unicode", unicode).await.unwrap();
    emitter.emit("numbers", &numbers).await.unwrap();
    emitter.emit("nested", &nested).await.unwrap();
    emitter.emit("deep", &deep).await.unwrap();
    emitter.emit("date", (Value::Date(date), ByteBuf::from([7]))).await.unwrap();
    emitter.emit("", "the empty name").await.unwrap();
    emitter.emit("unicode \u{2713} name", json!([])).await.unwrap();

    let expected = sorted(vec![
        event("text", json!(["<>"])),
        event("none", json!([])),
        event("several", json!([1, "two", [3, 4], null])),
        event("unicode", json!([unicode])),
        event("numbers", json!([numbers])),
        event("nested", json!([nested])),
        event("deep", json!([{"name": "ü", "list": [base64(&[0, 255]), base64(&[])], "nothing": null}])),
        event("date", json!(["2023-11-14T22:13:20.123Z", base64(&[7])])),
        event("", json!(["the empty name"])),
        event("unicode \u{2713} name", json!([[]])),
    ]);
    for client in &cluster.clients {
        assert_eq!(sorted(client.wait_for(expected.len()).await), expected);
    }
}

#[tokio::test]
async fn payloads_from_one_byte_to_five_megabytes_arrive() {
    let cluster = mixed().await;
    let emitter = emitter(cluster.url()).await;
    let sizes = [1, 100, 7_000, 9_000, 100_000, 1_000_000, 5_000_000];
    let bytes = |size: usize| (0..size).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>();
    for size in sizes {
        emitter.emit("text", "x".repeat(size)).await.unwrap();
        emitter.emit("bytes", ByteBuf::from(bytes(size))).await.unwrap();
    }
    for client in &cluster.clients {
        let received = client.wait_for(2 * sizes.len()).await;
        assert_eq!(received.len(), 2 * sizes.len());
        for size in sizes {
            let text = [json!("x".repeat(size))];
            assert!(received.iter().any(|e| e.event == "text" && e.args == text), "text of {size}");
            let bytes = [base64(&bytes(size))];
            assert!(received.iter().any(|e| e.event == "bytes" && e.args == bytes), "bytes of {size}");
        }
    }
}

#[tokio::test]
async fn every_payload_around_the_limit_of_postgres_arrives() {
    let cluster = mixed().await;
    let emitter = emitter(cluster.url()).await;
    // Servers of the cluster send heartbeats in the meantime.
    let is_broadcast = |h: Option<&Header>| h.is_some_and(|h| h.kind == MessageKind::Broadcast);
    let mut heard = emitter.cluster().subscribe(["/"], is_broadcast).await.unwrap();
    // The size of the envelope around the text, measured once.
    emitter.emit("size", "").await.unwrap();
    let envelope = match heard.next().await.unwrap() {
        Heard::Message(received) if received.attachment.is_none() => received.text.len(),
        other => panic!("{other:?}"),
    };
    let sizes: Vec<usize> = (7_900..=8_100).collect();
    for size in &sizes {
        emitter.emit("size", "x".repeat(size - envelope)).await.unwrap();
    }
    for size in &sizes {
        let Heard::Message(received) = heard.next().await.unwrap() else { panic!("a gap") };
        assert_eq!(received.attachment.is_none(), *size < 8_000, "{size}");
        if received.attachment.is_none() {
            assert_eq!(received.text.len(), *size);
        }
    }
    for client in &cluster.clients {
        let mut lengths: Vec<usize> = client
            .wait_for(sizes.len() + 1)
            .await
            .iter()
            .map(|e| e.args[0].as_str().unwrap().len())
            .collect();
        lengths.sort_unstable();
        let expected: Vec<usize> =
            std::iter::once(0).chain(sizes.iter().map(|size| size - envelope)).collect();
        assert_eq!(lengths, expected);
    }
}

#[tokio::test]
async fn exactly_the_clients_that_are_meant_receive() {
    let cluster = mixed_with(|options| options.namespace("/").namespace("/admin")).await;
    let emitter = emitter(cluster.url()).await;
    for (i, server) in cluster.servers.iter().enumerate() {
        let [a, b, none, both] =
            futures_util::future::join_all((0..4).map(|_| server.client("/"))).await.try_into().ok().unwrap();
        let admin = server.client("/admin").await;
        a.join(&["a"]).await;
        b.join(&["b"]).await;
        both.join(&["a", "b"]).await;

        let nth = |name: &str| format!("{name} {i}");
        emitter.to("a").emit(&nth("to a"), ()).await.unwrap();
        emitter.to("a").to("b").emit(&nth("to a and b"), ()).await.unwrap();
        emitter.to(["a", "b"]).except("b").emit(&nth("a and b except b"), ()).await.unwrap();
        emitter.except(["a", "b"]).emit(&nth("except a and b"), ()).await.unwrap();
        emitter.to(none.id()).compress(false).emit(&nth("to one socket"), ()).await.unwrap();
        emitter.except(none.id()).to("a").emit(&nth("to a except one socket"), ()).await.unwrap();
        emitter.to("nobody").emit(&nth("to nobody"), ()).await.unwrap();
        emitter.of("admin").emit(&nth("admin"), ()).await.unwrap();
        emitter.emit(&nth("end"), ()).await.unwrap();

        let names =
            |names: &[&str]| names.iter().map(|name| event(&nth(name), json!([]))).collect::<Vec<_>>();
        assert_eq!(
            a.wait_for(5).await,
            names(&["to a", "to a and b", "a and b except b", "to a except one socket", "end"])
        );
        assert_eq!(b.wait_for(2).await, names(&["to a and b", "end"]));
        assert_eq!(both.wait_for(4).await, names(&["to a", "to a and b", "to a except one socket", "end"]));
        assert_eq!(none.wait_for(3).await, names(&["except a and b", "to one socket", "end"]));
        assert_eq!(admin.wait_for(1).await, names(&["admin"]));
        // The clients have nothing else to receive now. Otherwise a volatile event may be dropped.
        emitter.to("a").volatile().emit(&nth("volatile"), ()).await.unwrap();
        assert_eq!(both.wait_for(5).await.last(), names(&["volatile"]).last());
        for client in [a, b, both, none, admin] {
            client.disconnect().await;
        }
    }
}

#[tokio::test]
async fn events_arrive_in_order_and_equal_ones_are_all_there() {
    const COUNT: u64 = 20_000;
    let cluster = mixed().await;
    let emitter = emitter(cluster.url()).await;
    for client in &cluster.clients {
        client.count().await;
    }
    emitter.emit_all((0..COUNT).map(|n| ("numbered", n))).await.unwrap();
    emitter.emit_all((0..COUNT).map(|_| ("equal", 1))).await.unwrap();
    for client in &cluster.clients {
        let tally = client.wait_for_tally("numbered", COUNT, Duration::from_secs(60)).await;
        assert_eq!((tally.count, tally.first_break), (COUNT, None));
        assert_eq!(client.wait_for_tally("equal", COUNT, Duration::from_secs(60)).await.count, COUNT);
    }
}

#[tokio::test]
async fn a_subscription_keeps_the_order_of_inline_and_attached_messages() {
    let cluster = mixed().await;
    let emitter = emitter(cluster.url()).await;
    let mut heard = emitter.cluster().subscribe(["/"], |h| h.is_some()).await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..3_000_u32 {
        // One event in seven goes through the table, some of them in a row.
        let padding = if n % 70 < 10 { ByteBuf::from(vec![0; 10 + n as usize]) } else { ByteBuf::new() };
        let args = if padding.is_empty() { Value::from(n) } else { Value::from_rust(&(n, padding)).unwrap() };
        receipts.push(emitter.enqueue("n", args).await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    for n in 0..3_000 {
        let Heard::Message(received) = heard.next().await.unwrap() else { panic!("a gap") };
        let Content::Message(message) = &received.content else { panic!("{received:?}") };
        let pgio::protocol::Body::Broadcast { event, .. } = &message.body else { panic!("{message:?}") };
        let (_, args) = event.clone().into_parts().unwrap();
        let number = args[0].as_i64().or_else(|| args[0].as_array()?[0].as_i64());
        assert_eq!(number, Some(n));
    }
}

#[tokio::test]
async fn sockets_are_joined_left_disconnected_and_fetched() {
    let cluster = mixed().await;
    let emitter = emitter(cluster.url()).await;
    for (i, client) in cluster.clients.iter().enumerate() {
        client.set_data(json!({ "number": i })).await;
        client.join(&["r1"]).await;
    }
    emitter.within("r1").join(["r2", "r3"]).await.unwrap();
    emitter.within("r2").except(cluster.clients[0].id()).leave("r3").await.unwrap();
    let fetched = emitter.to("r2").fetch_sockets().await.unwrap();
    assert!(fetched.is_complete());
    assert_eq!((fetched.nodes, fetched.expected), (3, 3));
    let mut sockets: Vec<_> = fetched.into_values();
    sockets.sort_by_key(|socket| socket.data.get("number").and_then(Value::as_i64));
    for (i, (socket, client)) in sockets.iter().zip(&cluster.clients).enumerate() {
        let mut rooms = vec![client.id(), "r1", "r2"];
        if i == 0 {
            rooms.push("r3");
        }
        assert_eq!(
            (socket.id.as_str(), socket.rooms.iter().map(String::as_str).collect()),
            (client.id(), rooms)
        );
        assert_eq!(socket.handshake.get("secure"), Some(&Value::Bool(false)));
    }
    assert_eq!(emitter.to("r3").fetch_sockets().await.unwrap().answers.len(), 1);

    emitter.to("r1").except("r3").disconnect(false).await.unwrap();
    emitter.to("r3").disconnect(true).await.unwrap();
    for client in &cluster.clients {
        assert_eq!(client.wait_for_disconnect().await, "io server disconnect");
    }
}

#[tokio::test]
async fn clients_and_servers_answer_an_emitter_that_no_server_counts() {
    let cluster = mixed().await;
    let counts = cluster.server_counts().await;
    let emitter = emitter(cluster.url()).await;
    for (i, client) in cluster.clients.iter().enumerate() {
        client.answer("q", json!({ "client": i, "bytes": binary("AQI=") })).await;
    }
    #[derive(serde::Deserialize)]
    struct Reply {
        client: u32,
        bytes: ByteBuf,
    }
    let acks = emitter.timeout(Duration::from_secs(20)).emit_with_ack::<Reply>("q", (1, "?")).await.unwrap();
    assert!(acks.is_complete());
    assert_eq!((acks.expected, acks.nodes), (3, 3));
    let mut replied: Vec<_> =
        acks.into_iter().inspect(|r| assert_eq!(r.bytes, [1, 2])).map(|r| r.client).collect();
    replied.sort_unstable();
    assert_eq!(replied, [0, 1, 2]);

    // One client does not answer: the answers so far are returned at the timeout, with the name of the server.
    cluster.clients[1].silent("q").await;
    let acks = emitter.timeout(Duration::from_secs(1)).emit_with_ack::<Value>("q", ()).await.unwrap();
    assert_eq!((acks.answers.len(), acks.expected, acks.silent.len()), (2, 3, 1));

    // The room is empty: the result is complete, without answers.
    let acks = emitter.to("empty").emit_with_ack::<Value>("q", ()).await.unwrap();
    assert_eq!((acks.is_complete(), acks.answers.len(), acks.nodes), (true, 0, 3));

    for (i, server) in cluster.servers.iter().enumerate() {
        server.answer("/", "who", json!({ "server": i })).await;
    }
    let timeout = Duration::from_secs(20);
    let answers = emitter.server_side_emit_with_ack("who", "?", timeout).await.unwrap();
    assert!(answers.is_complete());
    let mut names: Vec<_> =
        answers.into_values().iter().map(|v| v.get("server").and_then(Value::as_i64)).collect();
    names.sort_unstable();
    assert_eq!(names, [Some(0), Some(1), Some(2)]);
    emitter.server_side_emit("told", json!({ "a": 1 })).await.unwrap();
    for server in &cluster.servers {
        assert_eq!(server.wait_for("/", 2).await[1], event("told", json!([{ "a": 1 }])));
    }

    let nodes = emitter.cluster().nodes(&Namespace::default(), timeout, 3).await.unwrap();
    assert_eq!(nodes.len(), 3);
    assert_eq!(cluster.server_counts().await, counts);
}

#[tokio::test]
async fn an_invalid_event_is_refused_before_anything_is_sent() {
    let postgres = postgres().await;
    let emitter = emitter(postgres.url()).await;
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        assert!(matches!(emitter.emit(name, ()).await, Err(Error::ReservedEvent { .. })), "{name}");
    }
    for name in ["connect", "connection", "new_namespace"] {
        assert!(
            matches!(emitter.server_side_emit(name, ()).await, Err(Error::ReservedEvent { .. })),
            "{name}"
        );
    }
    let long = emitter.of("n".repeat(60).as_str()).emit("e", ()).await;
    assert!(matches!(long, Err(Error::Namespace { .. })), "{long:?}");
    let nul = emitter.of("a\0b").emit("e", ()).await;
    assert!(matches!(nul, Err(Error::Namespace { .. })), "{nul:?}");
    let keys = std::collections::BTreeMap::from([(vec![1], 1)]);
    assert!(matches!(emitter.emit("e", keys).await, Err(Error::Encode(_))));

    // Without the table, all other messages are still published.
    let large = emitter.emit("e", ByteBuf::from([1])).await;
    assert!(
        matches!(&large, Err(Error::MissingTable { table }) if table == "socket_io_attachments"),
        "{large:?}"
    );
    emitter.emit("e", 1).await.unwrap();
}

#[tokio::test]
async fn one_bad_message_of_a_batch_fails_alone() {
    let postgres = postgres().await;
    let emitter = emitter(postgres.url()).await;
    let mut heard = emitter.cluster().subscribe(["/"], |h| h.is_some()).await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..100 {
        let args = if n == 50 { Value::Binary(vec![1].into()) } else { Value::from(n) };
        receipts.push(emitter.enqueue("n", args).await.unwrap());
    }
    let mut failed = Vec::new();
    for (n, receipt) in receipts.into_iter().enumerate() {
        failed.extend(receipt.await.err().map(|error| (n, error)));
    }
    assert!(matches!(failed.as_slice(), [(50, Error::MissingTable { .. })]), "{failed:?}");
    for _ in 0..99 {
        assert!(matches!(heard.next().await, Some(Heard::Message(_))));
    }
}

#[tokio::test]
async fn an_emitter_and_a_subscription_survive_the_loss_of_their_connections() {
    let postgres = postgres().await;
    let emitter = emitter(postgres.url()).await;
    let mut heard = emitter.cluster().subscribe(["/"], |h| h.is_some()).await.unwrap();
    execute(
        postgres.url(),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    assert!(matches!(heard.next().await, Some(Heard::Lost(Error::ConnectionLost(_)))));
    assert!(matches!(heard.next().await, Some(Heard::Restored(_))));
    // The first event may meet the lost connection. The caller gets the error, and may retry.
    while let Err(error) = emitter.emit("again", ()).await {
        assert!(matches!(error, Error::ConnectionLost(_)), "{error}");
    }
    assert!(matches!(heard.next().await, Some(Heard::Message(_))));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_and_found_again() {
    let server = own_server().await;
    let settings = Settings::parse(&format!("{}?application_name=frozen", server.url())).unwrap();
    let emitter = Emitter::new(Cluster::connect(settings, AdapterOptions::default()).await.unwrap());
    emitter.emit("before", ()).await.unwrap();
    let pid = "SELECT pid::text FROM pg_stat_activity WHERE application_name = 'frozen'";
    let pid = nix::unistd::Pid::from_raw(query_text(&server.url(), pid).await.parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let error = emitter.emit("during", ()).await.unwrap_err();
    assert_eq!(error.to_string(), "lost the connection to Postgres: no answer within 5 s");
    // On another connection, which is not frozen.
    emitter.emit("after", ()).await.unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
}

#[tokio::test]
async fn options_reach_the_wire() {
    let cluster = mixed_with(|options| options.channel_prefix("app").table_name("\"My\".\"rows\"")).await;
    execute(
        cluster.url(),
        "CREATE SCHEMA \"My\"; CREATE TABLE \"My\".rows (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)",
    )
    .await;
    let options = AdapterOptions::default()
        .channel_prefix("app")
        .table_name("\"My\".\"rows\"".parse().unwrap())
        .payload_threshold(200);
    let emitter =
        Emitter::new(Cluster::connect(Settings::parse(cluster.url()).unwrap(), options).await.unwrap());
    emitter.emit("small", 1).await.unwrap();
    emitter.emit("large", "x".repeat(200)).await.unwrap();
    for client in &cluster.clients {
        let expected = vec![event("large", json!(["x".repeat(200)])), event("small", json!([1]))];
        assert_eq!(sorted(client.wait_for(2).await), expected);
    }
}
