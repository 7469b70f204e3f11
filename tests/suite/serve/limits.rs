//! The resources that clients may use: memory for queued events, memory for the relay, file descriptors.

use std::time::Duration;

use pgio::protocol::{Header, MessageKind};
use pgio::{Emitter, Namespace};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::attachments::execute;
use crate::support::descriptors::full_of_clients;
use crate::support::frozen::freeze_server;
use crate::support::node::{ClientOptions, NodePeer, Parser};
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::portions::Numbered;
use crate::support::postgres::{own_server, postgres};
use crate::support::raw_polling::RawPolling;
use crate::support::raw_websocket::RawWebsocket;
use crate::support::sql::query_text;

const TOO_FAST: &str = "pgio_clients_cut_off_total{reason=\"too_fast\"}";
const TOO_SLOW: &str = "pgio_clients_cut_off_total{reason=\"too_slow\"}";

#[tokio::test]
async fn the_events_that_wait_for_a_client_are_bounded_in_bytes() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let good = serve.client(&NodePeer::start().await).await;
    good.count().await;
    let mut stopped = Vec::new();
    for _ in 0..5 {
        stopped.push(RawWebsocket::connect(serve.address()).await);
    }
    // 36 MB. The buffers of the system hold a part of it.
    Numbered { count: 9000, portion: 1000, padding: 4000 }.emit(postgres.url(), &[&good]).await;
    serve.wait_for_metric(TOO_SLOW, 5.0).await;
    for client in &mut stopped {
        assert!(client.read_to_end().await < 25 << 20);
    }
    // Five times 16 MB, and the memory that the server needs anyway.
    assert!(serve.peak_memory() < 300 << 20, "{} MiB", serve.peak_memory() >> 20);
    assert_eq!(good.lifecycle().await.len(), 1);
}

#[tokio::test]
async fn a_client_that_polls_slowly_is_bounded_in_bytes_and_one_that_keeps_up_is_not() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--client-buffer", "1MB"]).await;
    let peer = NodePeer::start().await;
    let polling = ClientOptions::new(&serve.url()).transports(&["polling"]);
    let (polling, websocket) = (peer.client(polling).await, serve.client(&peer).await);
    for client in [&polling, &websocket] {
        client.count().await;
    }
    // Eight times the size of the buffer, in portions of a quarter.
    let events = Numbered { count: 32 * 60, portion: 60, padding: 4000 };
    events.emit(postgres.url(), &[&polling, &websocket]).await;
    assert_eq!(serve.metric(TOO_SLOW).await, 0.0);
}

/// Each small event counts 256 bytes more, so a count that missed some of the sent events would soon reach the limit.
#[tokio::test]
async fn a_small_event_counts_for_a_buffer_until_it_is_sent() {
    let postgres = postgres().await;
    for (parser, name) in [(Parser::Default, "default"), (Parser::Msgpack, "msgpack")] {
        let serve = PgioServe::start(postgres.url(), &["--client-buffer", "64KiB", "--parser", name]).await;
        let peer = NodePeer::start().await;
        let mut clients = Vec::new();
        for transports in [&["polling"][..], &["websocket"], &["polling", "websocket"]] {
            let options = ClientOptions::new(&serve.url()).transports(transports).parser(parser);
            clients.push(peer.client(options).await);
        }
        for client in &clients {
            client.count().await;
        }
        let clients: Vec<_> = clients.iter().collect();
        // Twelve times the size of the buffer, in portions of a quarter.
        Numbered { count: 50 * 60, portion: 60, padding: 0 }.emit(postgres.url(), &clients).await;
        assert_eq!(serve.metric(TOO_SLOW).await, 0.0, "{name}");
    }
}

/// A broadcast does not say whose queue was full, so no queue may become full.
#[tokio::test]
async fn a_client_that_reads_no_small_events_is_disconnected_before_its_queue_is_full() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--client-buffer", "64KiB"]).await;
    let good = serve.client(&NodePeer::start().await).await;
    good.count().await;
    let mut slow = RawWebsocket::connect_with_small_buffers(serve.address()).await;
    // 14 bytes each: without the 256 bytes more, the queue of 1296 packets is full at a quarter of the limit. Two portions
    // fit into a buffer, since an event may arrive before the server counts it as written.
    Numbered { count: 10_000, portion: 100, padding: 0 }.emit(postgres.url(), &[&good]).await;
    serve.wait_for_metric(TOO_SLOW, 1.0).await;
    slow.read_to_end().await;
    for name in ["pgio_slow_clients_total", "pgio_packets_lost_total"] {
        assert_eq!(serve.metric(name).await, 0.0, "{name}");
    }
    assert_eq!(good.lifecycle().await.len(), 1);
}

#[tokio::test]
async fn a_websocket_has_its_own_buffer_also_on_a_connection_that_was_used_before() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--client-buffer", "64KiB"]).await;
    let polling = RawPolling::connect(&serve).await;
    let mut websocket = RawWebsocket::open_after_refusal(serve.address(), polling.session_id()).await;
    websocket.send("40").await;
    serve.wait_for_metric("pgio_connections{transport=\"websocket\"}", 1.0).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    for portion in 0..20 {
        emitter.emit_all((0..60).map(|n| ("n", portion * 60 + n))).await.unwrap();
        while websocket.read_text().await != format!("42[\"n\",{}]", portion * 60 + 59) {}
    }
    assert_eq!(serve.metric("pgio_connections{transport=\"websocket\"}").await, 1.0);
}

#[tokio::test]
async fn the_events_that_wait_to_be_relayed_are_bounded_in_bytes() {
    let postgres = own_server().await;
    let flags = ["--relay=namespace", "--client-buffer", "64KiB"];
    let serve = PgioServe::start(&postgres.url(), &flags).await;
    serve.wait_for_ready(200).await;
    let mut fast = RawWebsocket::connect(serve.address()).await;
    // The whole server is frozen, since another session would publish the queued events.
    let frozen = freeze_server(&postgres);
    let event = format!("42[\"e\",\"{}\"]", "x".repeat(12_000));
    for _ in 0..4 {
        fast.send(&event).await;
    }
    serve.wait_for_metric("pgio_events_received_total", 4.0).await;
    assert_eq!(serve.metric(TOO_FAST).await, 0.0);
    // Some events may be dropped in the meantime, since Postgres does not answer.
    for _ in 0..100 {
        fast.send(&event).await;
    }
    fast.read_to_end().await;
    assert_eq!(serve.metric(TOO_FAST).await, 1.0);
    drop(frozen);
    let other = serve.client(&NodePeer::start().await).await;
    other.emit_with_ack("e", json!([])).await.unwrap();
}

#[tokio::test]
async fn clients_leave_file_descriptors_for_postgres_and_for_health_checks() {
    let postgres = postgres().await;
    let (serve, clients) = full_of_clients(postgres.url(), 150).await;
    // More than the soft limit allows, fewer than the number of descriptors.
    assert!((110..160).contains(&clients.len()), "{} clients", clients.len());
    assert!(serve.metric("pgio_connections_refused_total{reason=\"no_descriptors\"}").await >= 1.0);
    serve.wait_for_log("refusing new clients: too few file descriptors are left").await;

    // Connections without a request may come closer to the limit, but do not reach it.
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(serve.address()).await.unwrap());
    }
    let own = "SELECT string_agg(pid::text, ',') FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'pgio'";
    let sessions = query_text(postgres.url(), own).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let is_back = |header: Option<&Header>| header.is_some_and(|h| h.kind == MessageKind::InitialHeartbeat);
    let mut heard = emitter.cluster().subscribe(&[Namespace::default()], is_back).await.unwrap();
    let terminate = format!("SELECT pg_terminate_backend(pid) FROM unnest(ARRAY[{sessions}]) AS pid");
    execute(postgres.url(), &terminate).await;
    timeout(Duration::from_secs(8), heard.next()).await.expect("the server reconnects to Postgres");
}

#[tokio::test]
async fn a_session_that_never_connects_ends_within_seconds() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let session = RawPolling::open(&serve).await;
    until("the session is closed", async || session.post("3").await.0.contains(" 400 ")).await;
}
