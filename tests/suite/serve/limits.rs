//! What clients may use up: memory that waits for them, memory that waits to be relayed, file descriptors.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgio::protocol::{Header, MessageKind};
use pgio::{Emitter, Namespace};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::attachments::execute;
use crate::support::descriptors::full_of_clients;
use crate::support::node::NodePeer;
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::postgres::{own_server, postgres};
use crate::support::raw_websocket::RawWebsocket;
use crate::support::sql::query_text;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_events_that_wait_for_a_client_are_bounded_in_bytes() {
    const COUNT: u64 = 9000;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let good = serve.client(&NodePeer::start().await).await;
    good.count().await;
    let mut stopped = Vec::new();
    for _ in 0..5 {
        stopped.push(RawWebsocket::connect(serve.address()).await);
    }
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let padding = "x".repeat(4000);
    // 36 MB, of which the system's buffers hold some. In portions that the good client takes in time.
    for portion in 0..COUNT / 1000 {
        let numbers = portion * 1000..(portion + 1) * 1000;
        emitter.emit_all(numbers.clone().map(|n| ("n", (n, &padding)))).await.unwrap();
        good.wait_for_tally("n", numbers.end, PATIENCE).await;
    }
    serve.wait_for_metric("pgio_clients_cut_off_total{reason=\"too_slow\"}", 5.0).await;
    for client in &mut stopped {
        assert!(client.read_to_end().await < 25 << 20);
    }
    // Five times 16 MB, and what the server needs anyway.
    assert!(serve.peak_memory() < 300 << 20, "{} MiB", serve.peak_memory() >> 20);
    assert_eq!(good.lifecycle().await.len(), 1);
}

#[tokio::test]
async fn a_client_that_polls_slowly_is_bounded_in_bytes_and_one_that_keeps_up_is_not() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--client-buffer", "1MB"]).await;
    let peer = NodePeer::start().await;
    let polling = crate::support::node::ClientOptions::new(&serve.url()).transports(&["polling"]);
    let (polling, websocket) = (peer.client(polling).await, serve.client(&peer).await);
    for client in [&polling, &websocket] {
        client.count().await;
    }
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let padding = "x".repeat(4000);
    // Eight times what may wait, a quarter at a time.
    for portion in 0..32 {
        let numbers = portion * 60..(portion + 1) * 60;
        emitter.emit_all(numbers.clone().map(|n| ("n", (n, &padding)))).await.unwrap();
        for client in [&polling, &websocket] {
            client.wait_for_tally("n", numbers.end, PATIENCE).await;
        }
    }
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_slow\"}").await, 0.0);
}

#[tokio::test]
async fn the_events_that_wait_to_be_relayed_are_bounded_in_bytes() {
    let postgres = own_server().await;
    let serve = PgioServe::start(&postgres.url(), &["--relay=namespace", "--client-bytes", "1GB"]).await;
    serve.wait_for_ready(200).await;
    let sessions = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE application_name = 'pgio'";
    let sessions = query_text(&postgres.url(), sessions).await;
    let signal_all = |signal| {
        let pids = sessions.split(' ').map(|pid| Pid::from_raw(pid.parse().unwrap()));
        pids.for_each(|pid| kill(pid, signal).unwrap());
    };
    let mut fast = RawWebsocket::connect(serve.address()).await;
    signal_all(Signal::SIGSTOP);
    let event = format!("42[\"e\",\"{}\"]", "x".repeat(200_000));
    for _ in 0..400 {
        fast.send(&event).await;
    }
    let ended = timeout(Duration::from_secs(20), fast.read_to_end()).await;
    signal_all(Signal::SIGCONT);
    ended.expect("the client is disconnected");
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"too_fast\"}").await, 1.0);
}

#[tokio::test]
async fn clients_leave_file_descriptors_for_postgres_and_for_health_checks() {
    let postgres = postgres().await;
    let (serve, clients) = full_of_clients(postgres.url(), 150).await;
    // More than the soft limit would have allowed, fewer than there are descriptors.
    assert!((110..160).contains(&clients.len()), "{} clients", clients.len());
    assert!(serve.metric("pgio_connections_refused_total{reason=\"no_descriptors\"}").await >= 1.0);
    serve.wait_for_log("refusing new clients: too few file descriptors are left").await;

    // Connections without a request may come nearer to the limit, but not up to it.
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
    let get = "GET /socket.io/?EIO=4&transport=polling";
    let (head, open) = serve.request(&format!("{get} HTTP/1.0\r\n\r\n")).await;
    assert!(head.to_lowercase().contains("cache-control: no-store"), "{head}");
    let sid = open.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    until("the session is closed", async || {
        let post = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.0\r\ncontent-length: 1\r\n\r\n3"
        );
        serve.request(&post).await.0.contains(" 400 ")
    })
    .await;
}
