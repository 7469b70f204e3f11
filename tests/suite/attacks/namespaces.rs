//! Clients that request many namespaces.

use std::time::{Duration, Instant};

use pgio::Emitter;
use serde_json::json;

use crate::support::jwt::{self, SECRET};
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::postgres::{Postgres, postgres};
use crate::support::raw_polling::RawPolling;
use crate::support::raw_websocket::RawWebsocket;

/// The deadline of `/readyz` while a client attacks. Tests share the machine with others.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// A server that admits only clients with a token.
async fn guarded(postgres: &Postgres) -> PgioServe {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    std::fs::write(&key, SECRET).unwrap();
    let args = ["-n", "/", "-n", "/org/{id}", "--jwt-key-file", key.to_str().unwrap()];
    PgioServe::start(postgres.url(), &args).await
}

fn token() -> String {
    jwt::with_secret(&json!({ "sub": "ada" }))
}

async fn assert_ready_soon(serve: &PgioServe) {
    let start = Instant::now();
    assert_eq!(serve.get("/readyz").await.0, 200);
    assert!(start.elapsed() < READY_WITHIN, "/readyz took {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_token_starts_no_namespace() {
    let postgres = postgres().await;
    let serve = guarded(&postgres).await;
    serve.wait_for_ready(200).await;
    // The loopback probe, discovery and the main namespace.
    serve.wait_for_metric("pgio_channels_listening", 3.0).await;
    let before = serve.peak_memory();
    let mut attacker = RawWebsocket::open(serve.address()).await;
    let attack = async {
        for n in 0..5000 {
            attacker.send(&format!("40/org/{n},")).await;
        }
        attacker.read_to_end().await
    };
    let observe = async {
        for _ in 0..10 {
            assert_ready_soon(&serve).await;
            assert_eq!(serve.metric("pgio_channels_listening").await, 3.0);
        }
    };
    tokio::join!(attack, observe);
    assert_eq!(serve.metric("pgio_channels_listening").await, 3.0);
    let announced = "pgio_messages_published_total{type=\"initial_heartbeat\"}";
    assert_eq!(serve.metric(announced).await, 1.0);
    assert_eq!(serve.metric("pgio_messages_published_total{type=\"adapter_close\"}").await, 0.0);
    serve.wait_for_metric("pgio_namespaces", 1.0).await;
    let used = serve.peak_memory().saturating_sub(before);
    assert!(used < 64 << 20, "{} MiB", used >> 20);
}

/// The server reads one request with many packets at once, without other work in between.
#[tokio::test]
async fn one_request_with_many_connect_packets_is_cut_short() {
    let postgres = postgres().await;
    let serve = guarded(&postgres).await;
    serve.wait_for_ready(200).await;
    let before = serve.peak_memory();
    let bodies = [
        (0..60_000).map(|n| format!("40/org/{n},")).collect::<Vec<_>>(),
        (0..9_000).map(|n| format!("40/org/{n},")).collect(),
        vec!["40".into(); 300_000],
        vec!["40/other,".into(); 9_000],
    ];
    for packets in bodies {
        let session = RawPolling::open(&serve).await;
        session.post(&packets.join("\u{1e}")).await;
        assert_ready_soon(&serve).await;
        assert_eq!(serve.metric("pgio_channels_listening").await, 3.0);
        until("the session is closed", async || session.is_closed().await).await;
    }
    let used = serve.peak_memory().saturating_sub(before);
    assert!(used < 64 << 20, "{} MiB", used >> 20);
    let refusals = serve.log().iter().filter(|line| line["fields"]["message"] == "client refused").count();
    assert!(refusals <= 400, "{refusals} lines");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_clients_do_not_disturb_the_clients_of_a_namespace() {
    let postgres = postgres().await;
    let serve = guarded(&postgres).await;
    let mut guest = RawWebsocket::open(serve.address()).await;
    let connect = format!("40/org/1,{{\"token\":\"{}\"}}", token());
    guest.send(&connect).await;
    assert!(guest.hears("40/org/1,{\"sid\"").await);
    for _ in 0..20 {
        let mut stranger = RawWebsocket::open(serve.address()).await;
        stranger.send("40/org/1,").await;
        assert!(stranger.hears("44/org/1,{\"message\":\"unauthorized: a token is needed").await);
    }
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    serve.wait_for_metric("pgio_channels_listening", 4.0).await;
    emitter.of("/org/1").emit("e", 1).await.unwrap();
    assert!(guest.hears("[\"e\",1]").await);
}

/// The packet is in the server's buffer of the request when the connection becomes a websocket.
#[tokio::test]
async fn a_connect_packet_that_comes_with_the_handshake_belongs_to_its_client() {
    let postgres = postgres().await;
    let serve = guarded(&postgres).await;
    let connect = format!("40/org/1,{{\"token\":\"{}\"}}", token());
    let mut guest = RawWebsocket::open_with_text(serve.address(), &connect).await;
    assert!(guest.hears("40/org/1,{\"sid\"").await);
    let mut stranger = RawWebsocket::open_with_text(serve.address(), "40/org/2,").await;
    assert!(stranger.hears("44/org/2,{\"message\":\"unauthorized: a token is needed").await);
}

#[tokio::test]
async fn the_namespaces_of_one_client_and_of_all_are_bounded() {
    let flags = ["-n", "/org/{id}", "--max-namespaces", "4", "--max-namespaces-per-client", "3"];
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let mut first = RawWebsocket::open(serve.address()).await;
    for n in 0..3 {
        first.send(&format!("40/org/{n},")).await;
        assert!(first.hears(&format!("40/org/{n},{{\"sid\"")).await);
    }
    first.send("40/org/3,").await;
    assert!(first.hears("44/org/3,{\"message\":\"a client may join at most 3 namespaces\"}").await);
    // A namespace that the client has left may still exist.
    first.send("41/org/0,").await;
    serve.wait_for_metric("pgio_disconnections_total{reason=\"ClientNSDisconnect\"}", 1.0).await;
    first.send("40/org/4,").await;
    assert!(first.hears("44/org/4,{\"message\":\"a client may join at most 3 namespaces\"}").await);

    let mut second = RawWebsocket::open(serve.address()).await;
    second.send("40/org/5,").await;
    assert!(second.hears("40/org/5,{\"sid\"").await);
    second.send("40/org/6,").await;
    assert!(second.hears("the limit of 4 namespaces of this server is reached\"}").await);
    // Every client may join an existing namespace.
    second.send("40/org/1,").await;
    assert!(second.hears("40/org/1,{\"sid\"").await);
    assert_eq!(serve.metric("pgio_channels_listening").await, 6.0);
    assert_eq!(serve.metric("pgio_connections_refused_total{reason=\"too_many_namespaces\"}").await, 2.0);
}

#[tokio::test]
async fn long_names_of_namespaces_are_not_echoed() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["-n", "/", "-n", "/org/{id}"]).await;
    // A longer name exceeds the limit of bytes before admission, so the server does not read it.
    let name = "x".repeat(30_000);
    let before = serve.peak_memory();
    for path in ["/other/", "/org/"] {
        let mut attacker = RawWebsocket::open(serve.address()).await;
        for _ in 0..100 {
            attacker.send(&format!("40{path}{name},")).await;
        }
        assert!(attacker.read_to_end().await < 1000);
    }
    let used = serve.peak_memory().saturating_sub(before);
    assert!(used < 64 << 20, "{} MiB", used >> 20);
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_many_namespaces\"}").await, 2.0);
}

/// socketioxide would answer any number of requests.
#[tokio::test]
async fn a_name_that_is_not_hosted_is_refused_by_the_server_whatever_is_hosted() {
    let postgres = postgres().await;
    for (hosted, other) in
        [("/org/{id}", "/"), ("/org/{id}", "/org"), ("/{room}", "/a/b"), ("/{a}/{b}", "/a"), ("/{*all}", "/")]
    {
        let serve = PgioServe::start(postgres.url(), &["-n", hosted]).await;
        let mut client = RawWebsocket::open(serve.address()).await;
        let (connect, refused) = match other {
            "/" => ("40".to_owned(), "44{\"message\":\"Invalid namespace\"}".to_owned()),
            _ => (format!("40{other},"), format!("44{other},{{\"message\":\"Invalid namespace\"}}")),
        };
        client.send(&connect).await;
        assert!(client.hears(&refused).await, "{hosted} {other}");
        serve.wait_for_metric("pgio_connections_refused_total{reason=\"namespace\"}", 1.0).await;
        let mut refusals = 1;
        while refusals < 200 && client.try_send(&connect).await && client.hears(&refused).await {
            refusals += 1;
        }
        assert!((100..110).contains(&refusals), "{hosted} {other}: {refusals}");
        assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"refused_too_often\"}").await, 1.0);
        assert_eq!(serve.metric("pgio_namespaces").await, 0.0);
    }
}

/// A request for a namespace, in msgpack. There a name may be any text.
fn connect_in_msgpack(nsp: &str) -> Vec<u8> {
    rmp_serde::to_vec_named(&json!({ "type": 0, "nsp": nsp })).unwrap()
}

#[tokio::test]
async fn a_name_without_a_slash_is_refused_by_the_server() {
    let postgres = postgres().await;
    for name in ["", "org/7", "x"] {
        let serve = PgioServe::start(postgres.url(), &["--parser", "msgpack", "-n", "/org/{id}"]).await;
        let mut client = RawWebsocket::open(serve.address()).await;
        let connect = connect_in_msgpack(name);
        let mut refusals = 0;
        while refusals < 200 {
            client.send_binary(&connect).await;
            if !client.hears("Invalid namespace").await {
                break;
            }
            refusals += 1;
        }
        assert!((100..110).contains(&refusals), "{name}: {refusals}");
        assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"refused_too_often\"}").await, 1.0);
        assert_eq!(serve.metric("pgio_namespaces").await, 0.0);
    }
}

#[tokio::test]
async fn long_names_without_a_slash_are_not_echoed() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--parser", "msgpack"]).await;
    let mut attacker = RawWebsocket::open(serve.address()).await;
    // Once the client is admitted, it may send more bytes.
    attacker.send_binary(&connect_in_msgpack("/")).await;
    assert!(attacker.hears("sid").await);
    serve.wait_for_metric("pgio_connections_total", 1.0).await;
    let before = serve.peak_memory();
    let connect = connect_in_msgpack(&"x".repeat(900_000));
    for _ in 0..100 {
        attacker.try_send_binary(&connect).await;
    }
    assert!(attacker.read_to_end().await < 1000);
    let used = serve.peak_memory().saturating_sub(before);
    assert!(used < 64 << 20, "{} MiB", used >> 20);
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_many_namespaces\"}").await, 1.0);
}
