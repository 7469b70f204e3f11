//! Handshakes, heads and bodies of requests, and connections: the cost of a client before its authentication.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{POLLING, Raw, ask, assert_unharmed, connect, open};
use crate::support::descriptors::full_of_clients;
use crate::support::node::NodePeer;
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

fn handshake(header: usize) -> String {
    format!("GET {POLLING} HTTP/1.1\r\nhost: pgio\r\nx-large: {}\r\n\r\n", "x".repeat(header))
}

#[tokio::test]
async fn a_large_head_is_refused() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    for (bytes, status) in [(15 << 10, 200), (17 << 10, 431), (300_000, 431)] {
        let mut raw = Raw::connect(&serve).await;
        raw.write(handshake(bytes).as_bytes()).await;
        assert_eq!(raw.status().await, status, "{bytes} bytes");
    }
}

#[tokio::test]
async fn pipelined_handshakes_of_one_connection_hold_little_memory() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let before = serve.memory();
    let mut raw = Raw::connect(&serve).await;
    let handshakes = handshake(15 << 10).repeat(100);
    for _ in 0..80 {
        // The server stops reading after too many handshakes.
        if !raw.write(handshakes.as_bytes()).await {
            break;
        }
    }
    assert_unharmed(&serve, before).await;
    serve.client(&NodePeer::start().await).await;
}

#[tokio::test]
async fn handshakes_that_never_connect_go_after_a_while() {
    const COUNT: usize = 2000;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--connect-timeout", "1s"]).await;
    let before = serve.memory();
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: pgio\r\nconnection: Upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let request = format!("{request}x-large: {}\r\n\r\n", "x".repeat(15 << 10));
    let mut hostile = Vec::new();
    for _ in 0..COUNT {
        let mut raw = Raw::connect(&serve).await;
        raw.write(request.as_bytes()).await;
        hostile.push(raw);
    }
    assert_unharmed(&serve, before).await;
    // A client of the same address has to wait, but is admitted.
    serve.client(&NodePeer::start().await).await;
    let first = &mut hostile[0];
    assert_eq!(first.status().await, 101);
    let ended = timeout(Duration::from_secs(10), first.0.read_to_end(&mut Vec::new())).await;
    ended.expect("the server ends a handshake that does not connect").unwrap();
}

#[tokio::test]
async fn a_flood_of_handshakes_leaves_other_clients_alone() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "*"]).await;
    let mut client = RawWebsocket::connect(serve.address()).await;
    let before = serve.memory();
    let request = handshake(15 << 10);
    let address = serve.address().to_owned();
    let flood = (0..1000).map(|_| {
        let (request, address) = (request.clone(), address.clone());
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server closes the connection at some time.
            while stream.write_all(request.as_bytes()).await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let mut tasks: JoinSet<()> = flood.collect();
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        client.send("420[\"join\",[]]").await;
        assert_eq!(client.read_text().await, "430[[]]");
        times.push(start.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    times.sort();
    // The slower half shows the load of other tests on the machine.
    assert!(times[24] < Duration::from_millis(100), "{times:?}");
    assert_unharmed(&serve, before).await;
    tasks.shutdown().await;
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

/// A connection waits for a permit of the handshakes until it belongs to a session. It cannot keep it with other requests.
#[tokio::test]
async fn a_connection_without_a_session_is_closed_after_a_response() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    for (path, status) in [("/x", 404), ("/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA", 400)] {
        let mut raw = Raw::connect(&serve).await;
        raw.write(format!("GET {path} HTTP/1.1\r\nhost: pgio\r\n\r\n").as_bytes()).await;
        let mut response = String::new();
        timeout(Duration::from_secs(5), raw.0.read_to_string(&mut response)).await.expect("it ends").unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
    }
    // That of a session stays.
    let session = open(&serve, "").await;
    let mut raw = Raw::connect(&serve).await;
    let post = format!("POST {POLLING}&sid={session} HTTP/1.1\r\nhost: pgio\r\ncontent-length: 2\r\n\r\n40");
    raw.write(post.as_bytes()).await;
    assert!(!raw.head().await.to_lowercase().contains("connection: close"));
}

/// engineioxide reads `transport=websocket=` as well. A websocket that the server does not know of has no limits.
#[tokio::test]
async fn a_transport_that_parsers_read_differently_is_refused() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let session = open(&serve, "").await;
    for transport in [
        "transport=websocket=",
        "transport=websocket=x",
        "transport=polling&transport=websocket",
        "transport=websocket&transport=polling",
        "transport=polling=",
    ] {
        let mut raw = Raw::connect(&serve).await;
        let head = format!("GET /socket.io/?EIO=4&{transport}&sid={session} HTTP/1.1\r\nhost: pgio\r\n");
        raw.write(format!("{head}{UPGRADE}\r\n").as_bytes()).await;
        assert_eq!(raw.status().await, 400, "{transport}");
    }
    let without_upgrade = format!("/socket.io/?EIO=4&transport=websocket&sid={session}");
    assert_eq!(ask(&serve, "GET", &without_upgrade, "", "").await.0, 400);
}

#[tokio::test]
async fn a_session_has_one_websocket() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let (session, _) = connect(&serve, "").await;
    let upgrade = async || {
        let mut raw = Raw::connect(&serve).await;
        let head =
            format!("GET /socket.io/?EIO=4&transport=websocket&sid={session} HTTP/1.1\r\nhost: pgio\r\n");
        raw.write(format!("{head}{UPGRADE}\r\n").as_bytes()).await;
        let status = raw.status().await;
        (raw, status)
    };
    let (first, status) = upgrade().await;
    assert_eq!(status, 101);
    assert_eq!(upgrade().await.1, 400);
    drop(first);
}

#[tokio::test]
async fn bodies_that_stall_hold_little_memory_and_end() {
    const COUNT: usize = 400;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let (session, _) = connect(&serve, "").await;
    let before = serve.memory();
    let part = format!(
        "POST {POLLING}&sid={session} HTTP/1.1\r\nhost: pgio\r\ncontent-length: 900000\r\n\r\n{}",
        "x".repeat(400_000)
    );
    let mut hostile = Vec::new();
    for _ in 0..COUNT {
        let mut raw = Raw::connect(&serve).await;
        raw.write(part.as_bytes()).await;
        hostile.push(raw);
    }
    assert_unharmed(&serve, before).await;
    // Each request gets an answer, with or without quota.
    for raw in &mut hostile[..10] {
        let status = timeout(Duration::from_secs(20), raw.status()).await.expect("a body has a deadline");
        assert!([400, 408, 503].contains(&status), "{status}");
    }
    serve.client(&NodePeer::start().await).await;
}

#[tokio::test]
async fn a_client_that_is_not_admitted_sends_little() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let mut websocket = RawWebsocket::open(serve.address()).await;
    websocket.send(&"x".repeat(100_000)).await;
    websocket.read_to_end().await;
    serve.wait_for_metric("pgio_clients_cut_off_total{reason=\"unadmitted\"}", 1.0).await;
    let path = format!("{POLLING}&sid={}", open(&serve, "").await);
    assert_eq!(ask(&serve, "POST", &path, "", &"x".repeat(100_000)).await.0, 413);
}

#[tokio::test]
async fn clients_are_limited_together_and_for_each_address() {
    let postgres = postgres().await;
    let flags = ["--max-clients", "4", "--max-clients-per-address", "2", "--trusted-proxy", "127.0.0.0/8"];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let begin = async |address: &str| {
        ask(&serve, "GET", POLLING, &format!("x-forwarded-for: {address}\r\n"), "").await.0
    };
    assert_eq!((begin("10.0.0.1").await, begin("10.0.0.1").await, begin("10.0.0.1").await), (200, 200, 503));
    assert_eq!(
        (begin("6.6.6.6, 10.0.0.1").await, begin("10.0.0.2").await, begin("10.0.0.2").await),
        (503, 200, 200)
    );
    assert_eq!(begin("10.0.0.3").await, 503);
    assert_eq!(serve.get("/readyz").await.0, 200);
    assert_eq!(serve.metric("pgio_connections_refused_total{reason=\"max_clients_per_address\"}").await, 2.0);
    assert_eq!(serve.metric("pgio_connections_refused_total{reason=\"max_clients\"}").await, 1.0);
    serve.wait_for_log("refusing clients").await;
}

#[tokio::test]
async fn health_checks_are_answered_without_file_descriptors() {
    let postgres = postgres().await;
    let (serve, clients) = full_of_clients(postgres.url(), 200).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(serve.address()).await.unwrap());
        if idle.len() % 30 == 0 {
            assert_eq!(serve.get("/healthz").await.0, 200);
            assert_eq!(serve.get("/readyz").await.0, 200);
        }
    }
    assert!(clients.len() > 100, "{} clients", clients.len());
}

#[tokio::test]
async fn of_connections_that_arrive_together_the_oldest_are_closed() {
    let postgres = postgres().await;
    let (serve, _clients) = full_of_clients(postgres.url(), 200).await;
    for round in 0..20 {
        // All of them wait in the kernel, and the server accepts them in one go.
        serve.signal(Signal::SIGSTOP);
        let mut idle = Vec::new();
        for _ in 0..24 {
            idle.push(Raw::connect(&serve).await);
        }
        let mut check = Raw::connect(&serve).await;
        serve.signal(Signal::SIGCONT);
        for raw in &mut idle[..9] {
            raw.ended().await;
        }
        check.write(b"GET /healthz HTTP/1.1\r\nhost: pgio\r\n\r\n").await;
        assert_eq!(check.status().await, 200, "round {round}");
    }
}

#[tokio::test]
async fn idle_connections_of_one_address_leave_the_health_checks_of_others_alone() {
    let postgres = postgres().await;
    let (serve, _clients) = full_of_clients(postgres.url(), 200).await;
    let mut check = Raw::connect(&serve).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(Raw::connect_from([127, 0, 0, 2], &serve).await);
    }
    idle[0].ended().await;
    check.write(b"GET /readyz HTTP/1.1\r\nhost: pgio\r\n\r\n").await;
    assert_eq!(check.status().await, 200);
}
