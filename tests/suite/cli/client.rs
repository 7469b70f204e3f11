//! `pgio client`, against servers of every version and of pgio.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::{NamedTempFile, TempDir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::attachments::create_attachment_table;
use crate::support::certificates::Certified;
use crate::support::freeze::Frozen;
use crate::support::node::{AdapterVersion, NodePeer, Operator, PATIENCE, Server, ServerOptions, binary};
use crate::support::pgio::{Outcome, Running, bare, pgio, run, run_with_input};
use crate::support::pgio_serve::{PgioServe, command, no_socket_is_left};
use crate::support::postgres::{Postgres, postgres};

const TRANSPORTS: [&str; 2] = ["websocket", "polling"];

/// A connected client, and the id of its socket.
async fn connected(arguments: &[&str]) -> (Running, String) {
    let mut client = Running::start(&mut bare(&[&["client", "-o", "json"], arguments].concat()));
    let note = client.wait_for_line("connected to ").await;
    let id = note.rsplit(' ').next().unwrap().to_owned();
    (client, id)
}

async fn client(arguments: &[&str]) -> Outcome {
    run(&mut bare(&[&["client", "-o", "json"], arguments].concat())).await
}

async fn node(options: impl FnOnce(ServerOptions) -> ServerOptions) -> (Postgres, Server) {
    node_of(AdapterVersion::V05, options).await
}

async fn node_of(
    version: AdapterVersion,
    options: impl FnOnce(ServerOptions) -> ServerOptions,
) -> (Postgres, Server) {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let options = options(ServerOptions::new(version, postgres.url()));
    let server = NodePeer::start().await.server(options).await;
    (postgres, server)
}

/// A port without a listener.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Checks binary and acknowledgements from the server to the client.
async fn hears(url: &str, transport: &str, from: &dyn Fn(&str) -> Operator) {
    let reply = r#"{"seen":{"$binary":"AQI="}}"#;
    let arguments = [url, "--transport", transport, "--reply", reply, "--count", "3", "--for", "30s"];
    let (mut client, id) = connected(&arguments).await;
    let args = json!([binary("AAEC"), {"deep": [binary("/w=="), 1]}, "<>"]);
    from(&id).emit("photo", args.clone()).await;
    let line = client.json().await;
    let expected = json!({"time": line["time"], "namespace": "/", "type": "broadcast", "event": "photo",
        "args": args, "wantsAck": false});
    assert_eq!(line, expected, "{url} {transport}");
    for number in [1, 2] {
        let answers = from(&id).timeout(PATIENCE).emit_with_ack("ask", json!([number])).await.unwrap();
        assert_eq!(answers, [json!({"seen": binary("AQI=")})], "{url} {transport}");
        let line = client.json().await;
        assert_eq!((&line["args"], &line["wantsAck"]), (&json!([number]), &json!(true)));
    }
    client.end().await.succeeded();
}

#[tokio::test]
async fn events_acknowledgements_and_binary_go_both_ways_on_every_server() {
    for version in AdapterVersion::ALL {
        let (_postgres, server) = node_of(version, |options| options).await;
        let url = server.url();
        for transport in TRANSPORTS {
            hears(url, transport, &|id| server.io().to(id)).await;
            // The harness answers with the arguments of the event.
            let emit = ["--emit", "ask", "42", r#"{"$binary":"AQI="}"#, "text", "--ack"];
            let asked = client(&[&[url, "--transport", transport], &emit[..]].concat()).await;
            let line = &asked.succeeded().json()[0];
            let expected = json!({"time": line["time"], "namespace": "/", "type": "ack", "event": "ask",
                "args": [[42, binary("AQI="), "text"]]});
            assert_eq!(*line, expected, "{version:?} {transport}");
        }
        assert_eq!(server.server_count("/").await, 1);
    }
}

#[tokio::test]
async fn pgio_serve_is_a_server_like_any_other() {
    let (postgres, node) = node(|options| options).await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "r*", "--relay=namespace"]).await;
    node.wait_for_server_count("/", 2).await;
    for transport in TRANSPORTS {
        hears(&serve.url(), transport, &|id| node.io().to(id)).await;
        // The URL that the server announces, with its path.
        let url = serve.announced["url"].as_str().unwrap();
        let joined = client(&[url, "--transport", transport, "--emit", "join", "r1", "--ack"]).await;
        assert_eq!(joined.succeeded().json()[0]["args"], json!([["r1"]]));
        // The client sends the event, with binary, before it leaves. The server relays it.
        let (mut other, _) = connected(&[node.url(), "--count", "1", "--for", "30s"]).await;
        let emit = ["--emit", "bye", r#"{"$binary":"AQI="}"#, "--count", "0"];
        client(&[&[url, "--transport", transport], &emit[..]].concat()).await.succeeded();
        let line = other.json().await;
        assert_eq!((&line["event"], &line["args"]), (&json!("bye"), &json!([binary("AQI=")])), "{transport}");
    }
    node.wait_for_server_count("/", 2).await;
}

#[tokio::test]
async fn a_refusal_of_a_server_has_a_reason() {
    let (postgres, node) = node(|options| options.token("t0p")).await;
    let mut tokens = NamedTempFile::new().unwrap();
    tokens.write_all(b"t0p\n").unwrap();
    let file = tokens.path().to_str().unwrap();
    let serve = PgioServe::start(postgres.url(), &["--auth-token-file", file]).await;
    let with_credentials = node.url().replace("//", "//ops:s3cret@");
    for transport in TRANSPORTS {
        for (url, reason) in [
            (node.url(), r#"wrong token ({"code":7})"#),
            (&with_credentials, r#"wrong token ({"code":7})"#),
            (&serve.url(), "token"),
        ] {
            let refused = client(&[url, "--transport", transport, "--auth", r#"{"token":"n0"}"#]).await;
            let error = format!("connection refused by the namespace: {reason}");
            assert!(refused.status == 1 && refused.stderr.contains(reason), "{error}: {refused:?}");
            assert!(refused.stderr.contains("error: http://127.0.0.1:"), "{refused:?}");
            assert!(!refused.stderr.contains("s3cret") && !refused.stderr.contains("n0"), "{refused:?}");
        }
        for url in [node.url(), &serve.url()] {
            let arguments = ["client", url, "--transport", transport, "--count", "0"];
            run(bare(&arguments).env("PGIO_AUTH", r#"{"token":"t0p"}"#)).await.succeeded();
            let unknown = [url, "--transport", transport, "-n", "nosuch", "--auth", r#"{"token":"t0p"}"#];
            let unknown = client(&unknown).await;
            assert_eq!(unknown.status, 1, "{unknown:?}");
            assert!(unknown.stderr.contains(", namespace /nosuch: "), "{unknown:?}");
            assert!(unknown.stderr.contains("nvalid namespace"), "{unknown:?}");
        }
    }
    // A file keeps the token from the list of processes.
    let directory = TempDir::new().unwrap();
    let auth = directory.path().join("auth.json");
    std::fs::write(&auth, r#"{"token":"t0p"}"#).unwrap();
    let auth = format!("@{}", auth.to_str().unwrap());
    client(&[node.url(), "--auth", &auth, "--count", "0"]).await.succeeded();
}

#[tokio::test]
async fn each_way_to_end_has_its_status() {
    let (_postgres, node) = node(|options| options.namespace("/admin")).await;
    let url = node.url();
    client(&[url, "-n", "admin", "--for", "300ms"]).await.succeeded();
    client(&[url, "--count", "0", "--emit", "hello"]).await.succeeded();

    let few = client(&[url, "--count", "2", "--for", "300ms"]).await;
    assert_eq!(few.status, 4, "{few:?}");
    assert!(few.stderr.contains(&format!("error: {url}: 0 of 2 events have come in time")), "{few:?}");

    let (waiting, _) = connected(&[url]).await;
    waiting.signal(Signal::SIGINT);
    assert_eq!(waiting.end().await.status, 130);

    let nobody = format!("http://127.0.0.1:{}", free_port().await);
    for transport in TRANSPORTS {
        let away = client(&[&nobody, "--transport", transport]).await;
        assert_eq!(away.status, 1, "{away:?}");
        assert_eq!(away.stderr, format!("error: {nobody}: Connection refused\n"));

        let elsewhere = format!("{url}/elsewhere");
        let elsewhere = client(&[&elsewhere, "--transport", transport, "--timeout", "2s"]).await;
        assert_eq!(elsewhere.status, 1, "{elsewhere:?}");
    }
    // A server that accepts a connection and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for transport in TRANSPORTS {
        let silent = client(&[&address, "--transport", transport, "--timeout", "300ms"]).await;
        assert_eq!(silent.status, 1, "{silent:?}");
        assert!(silent.stderr.contains("no connection within 300ms"), "{silent:?}");
    }
    for (arguments, error) in [
        (&["http://h:s3cret"][..], "the URL of the server"),
        (&[url, "--auth", "s3cret"], "--auth is not JSON"),
        (&[url, "--auth", "5"], "--auth is not a JSON object"),
        (&[url, "--reply", "{a"], "--reply"),
        (&[url, "--ack"], "--emit"),
    ] {
        let usage = client(arguments).await;
        assert!(usage.status == 2 && usage.stderr.contains(error), "{usage:?}");
        assert!(!usage.stderr.contains("s3cret"), "{usage:?}");
    }
}

#[tokio::test]
async fn a_missing_acknowledgement_is_status_4_and_too_much_is_not_sent() {
    let (postgres, node) = node(|options| options).await;
    let serve = PgioServe::start(postgres.url(), &["--max-payload", "1000"]).await;
    let mut photo = NamedTempFile::new().unwrap();
    photo.write_all(&[7; 5000]).unwrap();
    let photo = format!("@{}", photo.path().to_str().unwrap());
    for transport in TRANSPORTS {
        let ask =
            [node.url(), "--transport", transport, "--emit", "unanswered", "--ack", "--timeout", "500ms"];
        let silent = client(&ask).await;
        assert_eq!(silent.status, 4, "{silent:?}");
        assert!(silent.stderr.contains("no acknowledgement of unanswered in time"), "{silent:?}");

        let large = client(&[&serve.url(), "--transport", transport, "--emit", "photo", &photo]).await;
        assert_eq!(large.status, 1, "{large:?}");
        let error = "the event has 5000 bytes, and the server takes at most 1000";
        assert!(large.stderr.contains(error), "{large:?}");
        let at_once = ["--transport", transport, "--emit", "photo", &photo, "--count", "0"];
        let large = client(&[&[serve.url().as_str()], &at_once[..]].concat()).await;
        assert!(large.status == 1 && large.stderr.contains(error), "{large:?}");
    }
}

#[tokio::test]
async fn a_client_is_back_after_a_restart_of_its_server() {
    let (postgres, observer) = node(|options| options).await;
    let port = free_port().await;
    let start = async || {
        let options = ServerOptions::new(AdapterVersion::V04, postgres.url()).port(port);
        NodePeer::start().await.server(options).await
    };
    for transport in TRANSPORTS {
        let server = start().await;
        // The event is sent once, not again after a reconnect.
        let emit = ["--transport", transport, "--emit", "ask", "1", "--ack", "--count", "9"];
        let (mut client, _) = connected(&[&[server.url()], &emit[..]].concat()).await;
        assert_eq!(client.json().await["type"], "ack");
        server.peer().kill().await;
        client.wait_for_note("connecting again").await;
        client.wait_for_note("Connection refused; trying again").await;
        let server = start().await;
        client.wait_for_notes("connected to ", 2).await;
        server.io().emit("back", json!([])).await;
        assert_eq!(client.json().await["event"], "back");
        client.signal(Signal::SIGINT);
        assert_eq!(client.end().await.status, 130);
        server.stop().await;
    }
    // An orderly restart of pgio serve.
    let listen = format!("127.0.0.1:{port}");
    let serve = async || {
        PgioServe::spawn(command(["serve", "--listen", &listen, "--database-url", postgres.url()])).await
    };
    for transport in TRANSPORTS {
        let mut server = serve().await;
        let (mut client, _) = connected(&[&server.url(), "--transport", transport]).await;
        server.signal(Signal::SIGTERM);
        server.ended().await;
        client.wait_for_note("connecting again").await;
        let server = serve().await;
        client.wait_for_notes("connected to ", 2).await;
        observer.io().emit("back", json!([])).await;
        assert_eq!(client.json().await["event"], "back");
        drop(server);
    }
}

#[tokio::test]
async fn a_socket_that_the_server_disconnects_stays_away() {
    let (_postgres, node) = node(|options| options).await;
    for transport in TRANSPORTS {
        let (client, id) = connected(&[node.url(), "--transport", transport]).await;
        node.io().to(&id).disconnect_sockets(false).await;
        let ended = client.end().await;
        assert_eq!(ended.status, 1, "{ended:?}");
        assert!(ended.stderr.contains("the server disconnected the socket"), "{ended:?}");
    }
}

#[tokio::test]
async fn event_lines_of_a_client_can_be_replayed() {
    let (postgres, node) = node(|options| options).await;
    let (mut client, id) = connected(&[node.url(), "--count", "1"]).await;
    node.io().to(&id).emit("photo", json!([binary("AAEC"), 1])).await;
    let line = client.line().await;
    client.end().await.succeeded();
    let (mut other, id) = connected(&[node.url()]).await;
    let emit = run_with_input(&mut pgio(postgres.url(), &["emit", "--from", "-", "--room", &id]), line).await;
    emit.succeeded();
    assert_eq!(other.json().await["args"], json!([binary("AAEC"), 1]));
}

#[tokio::test]
async fn pings_are_answered_and_a_server_that_stands_still_is_noticed() {
    let postgres = postgres().await;
    let server = ["--ping-interval", "300ms", "--ping-timeout", "300ms"];
    let serve = PgioServe::start(postgres.url(), &server).await;
    for transport in TRANSPORTS {
        // Longer than several ping intervals. A client that does not answer pings would have to reconnect.
        let stays = client(&[&serve.url(), "--transport", transport, "--for", "2s"]).await.succeeded();
        assert_eq!(stays.stderr.lines().count(), 1, "{stays:?}");

        let (mut client, _) = connected(&[&serve.url(), "--transport", transport]).await;
        let frozen = Frozen::processes(&[serve.pid()], PATIENCE);
        client.wait_for_note("the server has been silent for 600ms").await;
        drop(frozen);
        client.wait_for_notes("connected to ", 2).await;
        client.signal(Signal::SIGINT);
        assert_eq!(client.end().await.status, 130);
    }
}

#[tokio::test]
async fn a_client_that_polls_leaves_no_socket() {
    let (postgres, node) = node(|options| options).await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    for url in [node.url(), &serve.url()] {
        let polling = [url, "--transport", "polling"];
        client(&[&polling[..], &["--for", "300ms"]].concat()).await.succeeded();
        no_socket_is_left(postgres.url()).await;
        let (client, _) = connected(&polling).await;
        client.signal(Signal::SIGINT);
        assert_eq!(client.end().await.status, 130);
        no_socket_is_left(postgres.url()).await;
    }
}

#[tokio::test]
async fn tls_trusts_the_authorities_of_the_system() {
    let postgres = postgres().await;
    let directory = TempDir::new().unwrap();
    let root = Certified::root("pgio test");
    let server = root.issue("localhost");
    let file = |name: &str, bytes: Vec<u8>| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authority = file("root.pem", root.certificate_pem());
    let (certificate, key) = (file("cert.pem", server.certificate_pem()), file("key.pem", server.key_pem()));
    let serve = PgioServe::start(postgres.url(), &["--tls-cert", &certificate, "--tls-key", &key]).await;
    let url = serve.url().replace("127.0.0.1", "localhost");
    for transport in TRANSPORTS {
        let arguments = ["client", url.as_str(), "--transport", transport, "--count", "0"];
        run(bare(&arguments).env("SSL_CERT_FILE", &authority)).await.succeeded();
        let stranger = run(&mut bare(&arguments)).await;
        assert_eq!(stranger.status, 1, "{stranger:?}");
        assert!(stranger.stderr.starts_with(&format!("error: {url}: TLS: ")), "{stranger:?}");
        assert_eq!(stranger.stderr.lines().count(), 1, "{stranger:?}");
    }
    let plain = PgioServe::start(postgres.url(), &[]).await;
    let url = plain.url().replace("http://", "https://");
    let wrong = client(&[&url]).await;
    let expected = format!("error: {url}: the server does not speak TLS on this port; use http://\n");
    assert_eq!((wrong.status, wrong.stderr), (1, expected));
}

/// A server that sends the same answer on every connection, and then bytes without end.
async fn hostile(answer: impl Fn(&str) -> String + Send + 'static) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 8192];
            let length = stream.read(&mut head).await.unwrap();
            let answer = answer(std::str::from_utf8(&head[..length]).unwrap());
            // The client may close the connection at any time.
            let is_taken = stream.write_all(answer.as_bytes()).await.is_ok();
            while is_taken && stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
        }
    });
    (address, AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn a_hostile_server_takes_neither_memory_nor_the_terminal() {
    const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
    for (answer, reason) in [
        (format!("{OK}0"), "an answer of more than 64000000 bytes"),
        ("HTTP/1.1 200 OK\r\nx: ".into(), "message head is too large"),
        ("HTTP/1.1 403 \x1b[2J\r\ncontent-length: 2\r\n\r\nno".into(), "error: "),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n4\x1b[2J\x1b[3J".into(), "not the Socket.IO protocol"),
    ] {
        let (address, _server) = hostile(move |_| answer.clone()).await;
        let outcome = client(&[&address, "--transport", "polling"]).await;
        assert!(outcome.status == 1 && outcome.stderr.contains(reason), "{reason}: {outcome:?}");
        assert!(outcome.stderr.lines().count() == 1 && !outcome.stderr.contains('\x1b'), "{outcome:?}");
    }
    // A frame whose head announces 2^60 bytes.
    let (address, _server) = hostile(|head| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut keys = lines.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
        let (_, key) = keys.next().unwrap();
        let accept = openssl::sha::sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
        let accept = STANDARD.encode(accept);
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade";
        // 0x01 0x7f: a text frame that is not the last, with a length of eight bytes.
        format!("{head}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n\x01\x7f\x10\0\0\0\0\0\0\0")
    })
    .await;
    let outcome = client(&[&address]).await;
    assert!(outcome.status == 1 && outcome.stderr.contains("too long"), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
}

#[tokio::test]
async fn a_burst_comes_whole_and_in_order_and_a_closed_pipe_ends_it() {
    let (_postgres, node) = node(|options| options).await;
    for transport in TRANSPORTS {
        let arguments = [node.url(), "--transport", transport, "--count", "5000", "--for", "60s"];
        let (client, id) = connected(&arguments).await;
        // Through Postgres, the Node adapter would change the order.
        node.io().local().to(&id).burst("tick", 5000).await;
        let numbers = client.end().await.succeeded().json().into_iter().map(|line| line["args"][0].as_u64());
        assert!(numbers.eq((0..5000).map(Some)), "{transport}");

        let (client, id) = connected(&[node.url(), "--transport", transport]).await;
        node.io().to(&id).burst("tick", 5000).await;
        let (status, stderr) = client.end_without_reader().await;
        assert_eq!((status, stderr.lines().count()), (0, 1), "{stderr}");
    }
}
