//! Entrances beside the one for clients: the pages for operators, packets that parsers read differently, secrets in the
//! log.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::{POLLING, Raw, ask, connect};
use crate::support::node::{ClientOptions, NodePeer};
use crate::support::pgio_serve::{PgioServe, command};
use crate::support::portions::Numbered;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

#[tokio::test]
async fn the_pages_for_operators_have_an_address_of_their_own() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--admin-listen", "127.0.0.1:0"]).await;
    let admin = serve.announced["adminAddress"].as_str().unwrap();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ask(&serve, "GET", path, "", "").await.0, 404, "{path}");
        let answer = serve.request_at(admin, &format!("GET {path} HTTP/1.0\r\n\r\n")).await.0;
        assert!(answer.contains(" 200 "), "{path}: {answer}");
    }
    let answer = serve.request_at(admin, &format!("GET {POLLING} HTTP/1.0\r\n\r\n")).await.0;
    assert!(answer.contains(" 404 "), "{answer}");
    serve.client(&NodePeer::start().await).await;
}

#[tokio::test]
async fn a_page_for_operators_knows_no_session() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--client-buffer", "256kB"]).await;
    let (session, socket) = connect(&serve, "").await;
    // Connections that look like upgrades of the client's session, but are not.
    let mut decoys = Vec::new();
    for id in [&session, &socket] {
        for path in ["/healthz", "/socket.io-x/", "/none"] {
            let mut decoy = Raw::connect(&serve).await;
            let head = "connection: Upgrade, keep-alive\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                        sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
            let request =
                format!("GET {path}?EIO=4&transport=websocket&sid={id} HTTP/1.1\r\nhost: pgio\r\n{head}\r\n");
            decoy.write(request.as_bytes()).await;
            assert!([200, 404].contains(&decoy.status().await), "{path}");
            decoys.push(decoy);
        }
    }
    let good = serve.client(&NodePeer::start().await).await;
    good.count().await;
    Numbered { count: 3000, portion: 500, padding: 0 }.emit(postgres.url(), &[&good]).await;
    serve.wait_for_metric("pgio_clients_cut_off_total{reason=\"too_slow\"}", 1.0).await;
    // Much earlier than the ping timeout closes it.
    let ended = serve.wait_for_metric("pgio_connections{transport=\"polling\"}", 0.0);
    timeout(Duration::from_secs(5), ended).await.expect("the session of the client is closed");
}

#[tokio::test]
async fn a_packet_that_parsers_read_differently_ends_its_client() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--relay=namespace"]).await;
    let other = serve.client(&NodePeer::start().await).await;
    for packet in ["42 [\"e\"]", "42\t[\"e\"]", "42\n[\"e\"]", "42/, [\"e\"]"] {
        let mut websocket = RawWebsocket::connect(serve.address()).await;
        websocket.send(packet).await;
        websocket.read_to_end().await;
    }
    serve.wait_for_metric("pgio_clients_cut_off_total{reason=\"malformed\"}", 4.0).await;
    let mut good = RawWebsocket::connect(serve.address()).await;
    good.send("421[\"fine\", 1]").await;
    other.wait_for_event("fine").await;
    assert_eq!(other.received().await.len(), 1);
}

#[tokio::test]
async fn the_most_verbose_log_shows_no_token() {
    let postgres = postgres().await;
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    let token = "SeCrEt-token-of-thirty-two-letters";
    std::fs::write(&tokens, format!("{token}\n")).unwrap();
    let flags = ["-vvv", "--auth-token-file", tokens.to_str().unwrap()];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let peer = NodePeer::start().await;
    for transports in [&["websocket"][..], &["polling"]] {
        let options = ClientOptions::new(&serve.url()).transports(transports).auth(json!({ "token": token }));
        let headers =
            json!({ "authorization": format!("Bearer {token}"), "cookie": format!("session={token}") });
        peer.client(options.option("extraHeaders", headers)).await.disconnect().await;
    }
    serve.wait_for_metric("pgio_connections_total", 2.0).await;
    let log = serve.log();
    assert!(log.iter().any(|line| line["level"] == "DEBUG"), "{} lines", log.len());
    let base64 = "U2VDckV0LXRva2Vu";
    let telling =
        log.iter().map(ToString::to_string).find(|line| line.contains(token) || line.contains(base64));
    assert_eq!(telling, None);
}

#[tokio::test]
async fn secrets_that_others_can_read_are_warned_about() {
    let postgres = postgres().await;
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "a-secret-token-of-32-characters-x\n").unwrap();
    let message = "other users may access this file, which holds a secret";
    let start = async |mode| {
        std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(mode)).unwrap();
        PgioServe::start(postgres.url(), &["--auth-token-file", tokens.to_str().unwrap()]).await
    };
    let serve = start(0o644).await;
    let line = serve.wait_for_log(message).await;
    assert_eq!((&line["level"], &line["fields"]["path"]), (&json!("WARN"), &json!(tokens.to_str().unwrap())));
    let serve = start(0o600).await;
    let says = |serve: &PgioServe, message: &str| {
        serve.log().iter().any(|line| line["fields"]["message"] == message)
    };
    assert!(!says(&serve, message));

    let password =
        "the password in --database-url is visible in the process list; use DATABASE_URL or ~/.pgpass";
    serve.wait_for_log(password).await;
    let mut command = command(["serve", "--listen", "127.0.0.1:0"]);
    command.env("DATABASE_URL", postgres.url());
    let serve = PgioServe::spawn(command).await;
    assert!(!says(&serve, password));
}
