//! Messages of peers: everyone who may connect to the database can publish them. They cost this node little.

use std::time::Duration;

use pgio::cluster::{Content, Event};
use pgio::protocol::MessageKind;
use pgio::{AdapterOptions, Cluster, Emitter, Settings};
use serde_json::{Value, json};

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::node::{ClientOptions, NodePeer, Parser};
use crate::support::pgio_node::PgioNode;
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::postgres::postgres;
use crate::support::sql::query_text;

/// The statement for a notification on the channel of the main namespace.
fn notify(message: &Value) -> String {
    format!("SELECT pg_notify('socket.io#/', $message${message}$message$);")
}

#[tokio::test]
async fn forged_uids_do_not_stay() {
    const COUNT: usize = 5000;
    let postgres = postgres().await;
    let options = AdapterOptions::default()
        .heartbeat_interval(Duration::from_millis(200))
        .heartbeat_timeout(Duration::from_secs(2));
    let (one, other) = (
        PgioNode::start_with(postgres.url(), options.clone(), Parser::Default, |b| b).await,
        PgioNode::start_with(postgres.url(), options, Parser::Default, |b| b).await,
    );
    one.wait_for_server_count(2).await;
    other.wait_for_server_count(2).await;
    let forged: String =
        (0..COUNT).map(|n| notify(&json!({ "uid": format!("{n:016x}"), "type": 2, "nsp": "/" }))).collect();
    execute(postgres.url(), &forged).await;
    until("they are counted", async || one.server_count().await > 2).await;
    // The number is bounded, and the earlier servers still count.
    assert!(one.server_count().await <= 1025, "{}", one.server_count().await);
    one.wait_for_server_count(2).await;
}

#[tokio::test]
async fn a_large_row_is_fetched_and_given_once_however_often_it_is_named() {
    const NAMED: usize = 50;
    const BYTES: usize = 4 << 20;
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    serve.wait_for_ready(200).await;
    let before = serve.peak_memory();
    let cluster =
        Cluster::connect(Settings::parse(postgres.url()).unwrap(), AdapterOptions::default()).await.unwrap();
    let mut heard = cluster
        .subscribe(["/"], |header| header.is_some_and(|h| h.kind == MessageKind::Broadcast))
        .await
        .unwrap();
    // One message of a real peer, and many notifications that name its row.
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.emit("large", "x".repeat(BYTES)).await.unwrap();
    let id = query_text(postgres.url(), "SELECT max(id) FROM socket_io_attachments").await;
    let again: String = (0..NAMED)
        .map(|n| notify(&json!({ "uid": format!("{n:016x}"), "type": 3, "nsp": "/", "attachmentId": id })))
        .collect();
    execute(postgres.url(), &again).await;

    let (mut given, mut refused) = (0, 0);
    while given + refused < NAMED + 1 {
        let Some(Event::Message(received)) = heard.next().await else { panic!("the connection holds") };
        match &received.content {
            Content::Message(_) => given += 1,
            _ => refused += 1,
        }
    }
    assert_eq!((given, refused), (1, NAMED));
    serve.wait_for_metric("pgio_messages_malformed_total", NAMED as f64).await;
    let more = serve.peak_memory().saturating_sub(before);
    assert!(more < 64 << 20, "{} MiB more", more >> 20);
}

#[tokio::test]
async fn many_requests_for_sockets_cost_the_memory_of_a_few() {
    const CLIENTS: usize = 120;
    const HEADER_BYTES: usize = 3500;
    const REQUESTS: usize = 200;
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let peer = NodePeer::start().await;
    let headers = json!({ "x-large": "h".repeat(HEADER_BYTES) });
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(
            peer.client(ClientOptions::new(&serve.url()).option("extraHeaders", headers.clone())).await,
        );
    }
    let before = serve.peak_memory();
    // Requests as Node sends them, each for all sockets: 84 MB of answers.
    let requests: String = (0..REQUESTS)
        .map(|n| {
            let opts = json!({ "rooms": [], "except": [], "flags": {} });
            let data = json!({ "opts": opts, "requestId": format!("{n:016x}") });
            notify(&json!({ "uid": "aaaaaaaaaaaaaaaa", "type": 7, "nsp": "/", "data": data }))
        })
        .collect();
    execute(postgres.url(), &requests).await;
    let answers = format!(
        "SELECT count(*) FROM socket_io_attachments WHERE octet_length(payload) > {}",
        CLIENTS * HEADER_BYTES
    );
    until("they are answered", async || {
        let answered: usize = query_text(postgres.url(), &answers).await.parse().unwrap();
        answered + serve.metric("pgio_answers_dropped_total").await as usize >= REQUESTS
    })
    .await;
    let more = serve.peak_memory().saturating_sub(before);
    assert!(more < 64 << 20, "{} MiB more", more >> 20);
}

#[tokio::test]
async fn answers_keep_the_secrets_of_clients() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let peer = NodePeer::start().await;
    let headers = json!({
        "authorization": "Bearer secret", "proxy-authorization": "Basic secret", "cookie": "session=secret", "x-plain": "plain"
    });
    for (more, is_shared) in [(&[][..], false), (&["--share-headers"], true)] {
        let serve = PgioServe::start(postgres.url(), more).await;
        let options = ClientOptions::new(&serve.url()).option("extraHeaders", headers.clone());
        let client = peer.client(options).await;
        let found = Emitter::connect(postgres.url()).await.unwrap().fetch_sockets().await.unwrap();
        let found: Vec<_> =
            found.into_values().into_iter().filter(|socket| socket.id == client.id()).collect();
        let text = serde_json::to_string(&found[0].handshake).unwrap();
        assert!(text.contains("plain"), "{text}");
        assert_eq!(text.contains("secret"), is_shared, "{text}");
    }
}
