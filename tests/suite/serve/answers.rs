//! The answers to requests of other servers.

use serde_json::{Value, json};

use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;

async fn answers(flags: &[&str]) -> Result<Vec<Value>, String> {
    let postgres = postgres().await;
    let _serve = PgioServe::start(postgres.url(), flags).await;
    let node = NodePeer::start().await;
    let options = ServerOptions::new(AdapterVersion::V05, postgres.url());
    let server = node.server(options).await;
    server.wait_for_server_count("/", 2).await;
    let asked = server.io().server_side_emit_with_ack("who", json!([1])).await;
    asked.map_err(|error| error.message)
}

#[tokio::test]
async fn a_server_side_request_gets_the_identity_or_the_configured_answer() {
    let identity = answers(&[]).await.unwrap();
    assert_eq!(identity[0]["pgio"], env!("CARGO_PKG_VERSION"));
    assert_eq!(identity[0]["node"].as_str().unwrap().len(), 16, "{identity:?}");
    assert_eq!(identity.len(), 1);

    assert_eq!(answers(&["--answer", r#"{"a":[1]}"#]).await.unwrap(), [json!({ "a": [1] })]);
    assert_eq!(answers(&["--answer", "yes"]).await.unwrap(), [json!("yes")]);
    let error = answers(&["--no-answer"]).await.unwrap_err();
    assert!(error.contains("timeout reached"), "{error}");
}
