//! The id of a socket is public, and gives no access to its session.

use serde_json::json;

use super::{POLLING, ask, connect};
use crate::support::node::{ClientOptions, NodePeer};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

#[tokio::test]
async fn the_id_of_a_socket_opens_no_session() {
    let postgres = postgres().await;
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "a-secret-token-of-32-characters-x\n").unwrap();
    let serve = PgioServe::start(postgres.url(), &["--auth-token-file", tokens.to_str().unwrap()]).await;
    let auth = json!({ "token": "a-secret-token-of-32-characters-x" });
    let (session, socket) = connect(&serve, &auth.to_string()).await;
    assert_ne!(session, socket);
    let websocket = serve.client_with(&NodePeer::start().await, auth.clone()).await;
    for id in [socket.as_str(), websocket.id()] {
        let path = format!("{POLLING}&sid={id}");
        for (method, body) in [("GET", ""), ("POST", "42[\"e\"]"), ("POST", "1")] {
            let (status, body) = ask(&serve, method, &path, "", body).await;
            assert_eq!(
                (status, body.as_str()),
                (400, r#"{"code":"1","message":"Session ID unknown"}"#),
                "{method}"
            );
        }
        assert!(RawWebsocket::try_upgrade(serve.address(), id).await.is_none());
    }
    // Neither session is affected.
    assert_eq!(ask(&serve, "POST", &format!("{POLLING}&sid={session}"), "", "3").await.1, "ok");
    assert_eq!(serve.metric("pgio_connections{transport=\"polling\"}").await, 1.0);
    assert_eq!(serve.metric("pgio_connections{transport=\"websocket\"}").await, 1.0);
}

#[tokio::test]
async fn clients_that_poll_and_upgrade_are_served_as_before() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--relay=namespace"]).await;
    let peer = NodePeer::start().await;
    let options = || ClientOptions::new(&serve.url());
    let polling = peer.client(options().transports(&["polling"])).await;
    let upgraded = peer.client(options().transports(&["polling", "websocket"])).await;
    serve.wait_for_metric("pgio_connections{transport=\"websocket\"}", 1.0).await;
    polling.emit_with_ack("from polling", json!([1])).await.unwrap();
    upgraded.wait_for_event("from polling").await;
    upgraded.emit_with_ack("from upgraded", json!([2])).await.unwrap();
    polling.wait_for_event("from upgraded").await;
    // A broadcast to the id of a socket still reaches it.
    let emitter = pgio::Emitter::connect(postgres.url()).await.unwrap();
    emitter.to(polling.id()).emit("to polling", 1).await.unwrap();
    polling.wait_for_event("to polling").await;
}
