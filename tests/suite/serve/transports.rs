//! The transports of clients, and the packets that clients may not send.

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};
use pgio::protocol::MessageKind;
use pgio::{Emitter, Namespace};
use serde_json::json;

use crate::support::node::{AdapterVersion, ClientOptions, NodePeer, Parser, ServerOptions, binary};
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::postgres::postgres;
use crate::support::raw_polling::RawPolling;
use crate::support::raw_websocket::RawWebsocket;

#[tokio::test]
async fn clients_come_by_polling_upgrade_or_websocket_as_far_as_they_may() {
    let postgres = postgres().await;
    let peer = NodePeer::start().await;
    let cases: [(&[&str], [bool; 3]); 3] = [
        (&[], [true, true, true]),
        (&["--transports", "websocket"], [false, false, true]),
        (&["--transports", "polling"], [true, true, false]),
    ];
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    for (flags, expected) in cases {
        let serve = PgioServe::start(postgres.url(), flags).await;
        for (transports, expected) in
            [&["polling"][..], &["polling", "websocket"], &["websocket"]].into_iter().zip(expected)
        {
            let come = peer.try_client(ClientOptions::new(&serve.url()).transports(transports)).await;
            assert_eq!(come.is_ok(), expected, "{flags:?} {transports:?}");
            let Ok(client) = come else { continue };
            emitter.emit("n", json!([transports])).await.unwrap();
            client.wait_for_event("n").await;
            client.disconnect().await;
        }
        if expected == [true; 3] {
            let client =
                peer.client(ClientOptions::new(&serve.url()).transports(&["polling", "websocket"])).await;
            serve.wait_for_metric("pgio_connections{transport=\"websocket\"}", 1.0).await;
            client.count().await;
            emitter.emit_all((0..100).map(|n| ("n", n))).await.unwrap();
            let tally = client.wait_for_tally("n", 100, std::time::Duration::from_secs(10)).await;
            assert_eq!(tally.first_break, None);
        }
    }
}

#[tokio::test]
async fn a_client_that_upgrades_with_a_full_queue_misses_nothing() {
    const COUNT: usize = 8;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let polling = RawPolling::connect(&serve).await;
    // Together more than the largest message of a client.
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.emit_all((0..COUNT).map(|n| ("n", (n, "x".repeat(300_000))))).await.unwrap();
    serve.wait_for_metric("pgio_events_sent_total", COUNT as f64).await;

    let number = |packet: &str| packet.strip_prefix("42[\"n\",")?.split(',').next()?.parse::<usize>().ok();
    let mut numbers: Vec<_> = polling.poll().await.iter().filter_map(|packet| number(packet)).collect();
    let mut websocket = RawWebsocket::try_upgrade(serve.address(), polling.session_id()).await.unwrap();
    websocket.send("2probe").await;
    assert_eq!(websocket.read_text().await, "3probe");
    websocket.send("5").await;
    while numbers.last() != Some(&(COUNT - 1)) {
        numbers.extend(number(&websocket.read_text().await));
    }
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn msgpack_clients_get_everything_as_it_was() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--parser", "msgpack", "--relay=namespace"]).await;
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let peer = NodePeer::start().await;
    let options = ClientOptions::new(&serve.url()).parser(Parser::Msgpack);
    let (one, other) = (peer.client(options.clone()).await, peer.client(options).await);
    let sent = json!([1, "<>", { "b": binary("AQID") }, null, [2.5]]);
    server.io().emit("e", sent.clone()).await;
    assert_eq!(json!(one.wait_for_event("e").await.args), sent);
    let far = server.client("/").await;
    one.emit_with_ack("f", sent.clone()).await.unwrap();
    assert_eq!(json!(other.wait_for_event("f").await.args), sent);
    assert_eq!(json!(far.wait_for_event("f").await.args), sent);
}

#[tokio::test]
async fn namespaces_come_by_name_and_by_pattern() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["-n", "admin", "-n", "/org/{id}"]).await;
    let peer = NodePeer::start().await;
    let come = async |nsp: &str| peer.try_client(ClientOptions::new(&serve.url()).namespace(nsp)).await;
    let (admin, one, two) =
        (come("/admin").await.unwrap(), come("/org/1").await.unwrap(), come("/org/2").await.unwrap());
    for nsp in ["/", "/org", "/org/1/2", "/other"] {
        assert_eq!(come(nsp).await.err().unwrap().message, "Invalid namespace", "{nsp}");
    }
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    for nsp in ["/admin", "/org/1", "/org/2"] {
        emitter.of(nsp).emit("e", nsp).await.unwrap();
    }
    for (client, nsp) in [(&admin, "/admin"), (&one, "/org/1"), (&two, "/org/2")] {
        assert_eq!(client.wait_for_event("e").await.args, [json!(nsp)]);
        assert_eq!(client.received().await.len(), 1);
    }

    // A namespace of a pattern is deleted after its last client leaves, and created again for the next client.
    assert_eq!(serve.metric("pgio_namespaces").await, 3.0);
    let is_farewell = |header: Option<&pgio::protocol::Header>| {
        header.is_some_and(|header| header.kind == MessageKind::AdapterClose)
    };
    let mut farewells = emitter.cluster().subscribe(&[Namespace::new("/org/1")], is_farewell).await.unwrap();
    for client in [&admin, &one] {
        client.disconnect().await;
    }
    serve.wait_for_metric("pgio_namespaces", 2.0).await;
    assert!(farewells.next().await.is_some());
    let one = come("/org/1").await.unwrap();
    emitter.of("/org/1").emit("again", 1).await.unwrap();
    one.wait_for_event("again").await;
    emitter.of("/org/2").emit("again", 1).await.unwrap();
    two.wait_for_event("again").await;
}

#[tokio::test]
async fn tls_is_spoken_with_any_kind_of_key() {
    let postgres = postgres().await;
    let files = tempfile::tempdir().unwrap();
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let ec = EcKey::generate(&group).unwrap();
    let key = PKey::from_ec_key(ec.clone()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&certificate.x509v3_context(None, None));
    certificate.append_extension(names.unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let file = |name: &str, bytes: Vec<u8>| {
        let path = files.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pem = certificate.build().to_pem().unwrap();
    let ca = String::from_utf8(pem.clone()).unwrap();
    let certificate = file("cert.pem", pem);
    let keys = [key.private_key_to_pem_pkcs8().unwrap(), ec.private_key_to_pem().unwrap()];
    let peer = NodePeer::start().await;
    for key in keys.map(|pem| file("key.pem", pem)) {
        let serve = PgioServe::start(postgres.url(), &["--tls-cert", &certificate, "--tls-key", &key]).await;
        assert!(serve.url().starts_with("https://127.0.0.1:"), "{}", serve.url());
        for transports in [["polling"], ["websocket"]] {
            let options = ClientOptions::new(&serve.url()).transports(&transports).option("ca", json!(ca));
            peer.client(options).await.disconnect().await;
        }
        // A client without TLS gets no connection, and causes no other fault.
        let plain = ClientOptions::new(&serve.url().replace("https", "http"));
        assert!(peer.try_client(plain).await.is_err());
        peer.client(ClientOptions::new(&serve.url()).option("ca", json!(ca))).await;
    }
}

#[tokio::test]
async fn pages_of_named_origins_may_poll() {
    let postgres = postgres().await;
    let ask = async |serve: &PgioServe, origin: &str| {
        let get = "GET /socket.io/?EIO=4&transport=polling HTTP/1.0\r\nhost: pgio\r\norigin: ";
        let (head, _) = serve.request(&format!("{get}{origin}\r\n\r\n")).await;
        let header = |name: &str| {
            head.to_lowercase().lines().find_map(|line| line.strip_prefix(name).map(|v| v.trim().to_owned()))
        };
        (header("access-control-allow-origin:"), header("access-control-allow-credentials:"))
    };
    let (a, b) = ("https://a.example", "https://b.example");
    let none = PgioServe::start(postgres.url(), &[]).await;
    assert_eq!(ask(&none, a).await, (None, None));
    let one = PgioServe::start(postgres.url(), &["--cors-origin", a]).await;
    assert_eq!(ask(&one, a).await.0.as_deref(), Some(a));
    assert_eq!(ask(&one, a).await.1.as_deref(), Some("true"));
    assert_eq!(ask(&one, b).await.0, None);
    let all = PgioServe::start(postgres.url(), &["--cors-origin", "*"]).await;
    assert_eq!(ask(&all, b).await, (Some("*".into()), None));
    let preflight = "OPTIONS /socket.io/?EIO=4&transport=polling HTTP/1.0\r\nhost: pgio\r\norigin: https://a.example\r\n\
                     access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n\r\n";
    let (head, _) = one.request(preflight).await;
    assert!(
        head.contains(" 200 ") && head.to_lowercase().contains("access-control-allow-headers: content-type"),
        "{head}"
    );
}

#[tokio::test]
async fn too_large_or_malformed_input_ends_only_that_client() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--max-payload", "10kB", "--relay=namespace"]).await;
    let peer = NodePeer::start().await;
    let (good, listener) = (serve.client(&peer).await, serve.client(&peer).await);
    let large = json!(["x".repeat(20_000)]);

    let client = serve.client(&peer).await;
    client.emit("large", large.clone()).await;
    client.wait_for_disconnect().await;
    serve.wait_for_metric("pgio_disconnections_total{reason=\"TransportError\"}", 1.0).await;

    let client = peer.client(ClientOptions::new(&serve.url()).transports(&["polling"])).await;
    client.emit("large", large).await;
    client.wait_for_disconnect().await;
    serve.wait_for_metric("pgio_requests_refused_total{status=\"413\"}", 1.0).await;

    let nonsense = [
        "9",
        "4",
        "49",
        "42",
        "42{",
        "42[",
        "42[]",
        "42[7]",
        "451-[\"e\"]",
        "4\u{0}",
        "bAAAA",
        "42/none,[\"e\"]",
    ];
    for text in nonsense {
        let mut socket = RawWebsocket::connect(serve.address()).await;
        socket.send(text).await;
        // This packet closes the connection, if the server has not closed it before.
        socket.send("1").await;
        socket.read_to_end().await;
    }
    until("the nonsense is gone", async || {
        serve.metric("pgio_connections{transport=\"websocket\"}").await == 2.0
    })
    .await;
    assert!(serve.metric("pgio_disconnections_total{reason=\"PacketParsingError\"}").await >= 5.0);

    // Well-formed events that would make the libraries of their receivers close the connection.
    let deep = format!("42[\"deep\",{}{}]", "[".repeat(4000), "]".repeat(4000));
    let refused = serve.metric("pgio_events_refused_total").await;
    let harmful =
        [deep.as_str(), "42[\"disconnect\"]", "42[\"connect\",1]", "42[\"e\",garbage]", "42[\"e\",1]]"];
    for text in harmful {
        let mut socket = RawWebsocket::connect(serve.address()).await;
        socket.send(text).await;
        socket.send("1").await;
        socket.read_to_end().await;
    }
    let mut socket = RawWebsocket::connect(serve.address()).await;
    socket.send("451-[\"e\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":7}]").await;
    socket.send_binary(&[1]).await;
    socket.send("1").await;
    socket.read_to_end().await;
    // At least the reserved names and the placeholder. Malformed JSON may have closed the connection before.
    assert!(serve.metric("pgio_events_refused_total").await >= refused + 3.0);

    good.emit_with_ack("fine", json!([1])).await.unwrap();
    assert_eq!(listener.wait_for_event("fine").await.args, [json!(1)]);
    assert_eq!(listener.received().await.len(), 1);
    assert_eq!(listener.lifecycle().await.len(), 1);
    assert!(serve.log().iter().all(|line| !line.to_string().contains("panicked")));
}
