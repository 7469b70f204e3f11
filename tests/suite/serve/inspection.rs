//! The view of an operator: health, readiness, metrics and logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use pgio::Emitter;
use pgio::postgres::private::Shutdown;
use serde_json::json;

use crate::support::attachments::execute;
use crate::support::frozen::{PUBLISHING, freeze_publishing, freeze_sessions};
use crate::support::node::{AdapterVersion, ClientOptions, NodePeer, ServerOptions};
use crate::support::pgbouncer::PgBouncer;
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::postgres::{own_server, postgres};

#[tokio::test]
async fn readiness_follows_postgres_and_local_clients_are_served_meanwhile() {
    let mut postgres = own_server().await;
    let serve = PgioServe::start(&postgres.url(), &["--relay=namespace"]).await;
    assert_eq!(serve.get("/healthz").await, (200, "ok\n".into()));
    assert_eq!(serve.get("/readyz").await, (200, "ready\n".into()));
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let peer = NodePeer::start().await;
    let (one, other) = (serve.client(&peer).await, serve.client(&peer).await);

    postgres.take_down(Shutdown::Immediate).await.unwrap();
    serve.wait_for_ready(503).await;
    assert_eq!(serve.get("/healthz").await.0, 200);
    assert_eq!(serve.metric("pgio_listener_up").await, 0.0);
    one.emit("still", json!([1])).await;
    assert_eq!(other.wait_for_event("still").await.args, [json!(1)]);

    postgres.start_again().await.unwrap();
    serve.wait_for_ready(200).await;
    let emitter = Emitter::connect(&postgres.url()).await.unwrap();
    one.count().await;
    emitter.emit_all((0..1000).map(|n| ("again", n))).await.unwrap();
    let tally = one.wait_for_tally("again", 1000, Duration::from_secs(20)).await;
    assert_eq!((tally.count, tally.first_break), (1000, None));
    // The cluster is complete again, without a restart of any server.
    server.wait_until_listening_after(1).await;
    server.wait_for_server_count("/", 2).await;
    server.io().emit("from Node", json!([2])).await;
    other.wait_for_event("from Node").await;
}

/// A client emits all the time. Once all servers listen again, no committed event is lost at any server.
#[tokio::test]
async fn a_restart_of_postgres_under_traffic() {
    const AFTER: u64 = 2000;
    let mut postgres = own_server().await;
    let serve = PgioServe::start(&postgres.url(), &["--relay=namespace"]).await;
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let peer = NodePeer::start().await;
    let (ours, theirs, sender) =
        (serve.client(&peer).await, server.client("/").await, serve.client(&peer).await);
    for client in [&ours, &theirs] {
        client.count().await;
    }

    let is_over = Arc::new(AtomicBool::new(false));
    let emitter = Emitter::connect(&postgres.url()).await.unwrap();
    let traffic = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            let (mut committed, mut failed) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                match emitter.emit("before", committed).await {
                    Ok(()) => committed += 1,
                    Err(_) => failed += 1,
                }
            }
            for number in 0..AFTER {
                emitter.emit("after", number).await.unwrap();
            }
            (committed, failed)
        }
    });
    ours.wait_for_tally("before", 500, Duration::from_secs(20)).await;
    postgres.take_down(Shutdown::Immediate).await.unwrap();
    serve.wait_for_ready(503).await;
    sender.emit("still", json!([0])).await;
    ours.wait_for_tally("still", 1, Duration::from_secs(20)).await;
    postgres.start_again().await.unwrap();
    serve.wait_for_ready(200).await;
    server.wait_until_listening_after(1).await;

    is_over.store(true, Ordering::Relaxed);
    let (committed, failed) = traffic.await.unwrap();
    assert!(committed > 500 && failed > 0, "{committed} before, {failed} failed");
    for client in [&ours, &theirs] {
        let tally = client.wait_for_tally("after", AFTER, Duration::from_secs(20)).await;
        assert_eq!((tally.count, tally.first_break), (AFTER, None));
    }
}

#[tokio::test]
async fn a_postgres_that_answers_no_more_is_noticed() {
    let postgres = own_server().await;
    let serve = PgioServe::start(&postgres.url(), &[]).await;
    until("the lag is measured", async || serve.metric("pgio_lag_seconds").await > 0.0).await;
    let frozen = freeze_sessions(&postgres.url()).await;
    serve.wait_for_ready(503).await;
    // New sessions replace the frozen ones.
    serve.wait_for_ready(200).await;
    until("the lag is small", async || serve.metric("pgio_lag_seconds").await < 1.0).await;
    drop(frozen);
}

#[tokio::test]
async fn a_pooler_that_keeps_notifications_is_found_out() {
    let postgres = postgres().await;
    let pooler = PgBouncer::start(postgres.url(), "transaction").await;
    let deaf = PgioServe::start(&pooler.url(), &[]).await;
    deaf.wait_for_ready(503).await;
    assert!(deaf.get("/readyz").await.1.starts_with("not ready: the loopback probe did not arrive;"));
    let errors = || deaf.log().into_iter().filter(|line| line["level"] == "ERROR").count();
    until("the error is logged", async || errors() > 0).await;
    assert_eq!(errors(), 1);

    let pooler = PgBouncer::start(postgres.url(), "session").await;
    let serve = PgioServe::start(&pooler.url(), &[]).await;
    let peer = NodePeer::start().await;
    let client = serve.client(&peer).await;
    Emitter::connect(&pooler.url()).await.unwrap().emit("hello", 1).await.unwrap();
    client.wait_for_event("hello").await;
    assert_eq!(serve.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn everything_is_counted() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--relay=namespace"]).await;
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let peer = NodePeer::start().await;
    let client = serve.client(&peer).await;
    let polling = peer.client(ClientOptions::new(&serve.url()).transports(&["polling"])).await;
    assert_eq!(serve.metric("pgio_connections{transport=\"websocket\"}").await, 1.0);
    assert_eq!(serve.metric("pgio_connections{transport=\"polling\"}").await, 1.0);
    assert_eq!(serve.metric("pgio_connections_total").await, 2.0);

    server.io().emit("e", json!([1])).await;
    client.wait_for(1).await;
    polling.wait_for(1).await;
    client.emit_with_ack("from a client", json!([2])).await.unwrap();
    assert_eq!(serve.metric("pgio_events_received_total").await, 1.0);
    serve.wait_for_metric("pgio_events_sent_total", 3.0).await;
    assert_eq!(serve.metric("pgio_messages_received_total{type=\"broadcast\"}").await, 1.0);
    assert_eq!(serve.metric("pgio_messages_published_total{type=\"broadcast\"}").await, 1.0);
    for name in ["pgio_bytes_sent_total", "pgio_bytes_received_total", "pgio_lag_seconds"] {
        assert!(serve.metric(name).await > 0.0, "{name}");
    }
    for name in ["pgio_publish_seconds_count", "pgio_delivery_seconds_count"] {
        assert!(serve.metric(name).await >= 1.0, "{name}");
    }

    // Messages for nobody, and malformed ones, are counted and skipped.
    execute(postgres.url(), "SELECT pg_notify('socket.io#/', 'nonsense')").await;
    let unknown = r#"SELECT pg_notify('socket.io#/', '{"uid":"x","nsp":"/","type":99}')"#;
    execute(postgres.url(), unknown).await;
    let missing = r#"SELECT pg_notify('socket.io#/', '{"uid":"x","nsp":"/","type":3,"attachmentId":"77"}')"#;
    execute(postgres.url(), missing).await;
    serve.wait_for_metric("pgio_attachments_missing_total", 1.0).await;
    serve.wait_for_metric("pgio_messages_malformed_total", 2.0).await;

    polling.disconnect().await;
    serve.wait_for_metric("pgio_connections{transport=\"polling\"}", 0.0).await;
    serve.wait_for_metric("pgio_disconnections_total{reason=\"ClientNSDisconnect\"}", 1.0).await;
    server.io().emit("e", json!([3])).await;
    assert_eq!(client.wait_for(2).await.len(), 2);
}

#[tokio::test]
async fn a_blocked_log_does_not_stop_the_server() {
    let postgres = postgres().await;
    let mut serve = PgioServe::start(postgres.url(), &["-vv"]).await;
    let peer = NodePeer::start().await;
    let client = serve.client(&peer).await;
    serve.close_log().await;
    execute(postgres.url(), "SELECT pg_notify('socket.io#/', 'nonsense')").await;
    serve.wait_for_metric("pgio_messages_malformed_total", 1.0).await;
    Emitter::connect(postgres.url()).await.unwrap().emit("still", 1).await.unwrap();
    client.wait_for_event("still").await;
    serve.client(&peer).await;
    serve.signal(Signal::SIGTERM);
    assert_eq!(serve.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_server_that_cannot_publish_is_not_ready_although_it_listens() {
    let postgres = own_server().await;
    execute(&postgres.url(), "CREATE DATABASE app").await;
    let app = postgres.url().strip_suffix("/pgio").map(|server| format!("{server}/app")).unwrap();
    let serve = PgioServe::start(&app, &[]).await;
    serve.wait_for_ready(200).await;
    execute(&postgres.url(), "ALTER DATABASE app ALLOW_CONNECTIONS false").await;
    let terminate = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {PUBLISHING}");
    execute(&postgres.url(), &terminate).await;
    serve.wait_for_ready(503).await;
    let (_, text) = serve.get("/readyz").await;
    assert_eq!(text, "not ready: cannot publish, so other servers receive no events of this one\n");
    assert_eq!(serve.metric("pgio_listener_up").await, 1.0);
    execute(&postgres.url(), "ALTER DATABASE app ALLOW_CONNECTIONS true").await;
    serve.wait_for_ready(200).await;
}

#[tokio::test]
async fn a_server_whose_publishing_hangs_is_not_ready() {
    let postgres = own_server().await;
    let serve = PgioServe::start(&postgres.url(), &[]).await;
    serve.wait_for_ready(200).await;
    let frozen = freeze_publishing(&postgres.url()).await;
    serve.wait_for_ready(503).await;
    let (_, text) = serve.get("/readyz").await;
    assert_eq!(text, "not ready: cannot publish, so other servers receive no events of this one\n");
    // Another session replaces the frozen one.
    serve.wait_for_ready(200).await;
    drop(frozen);
}
