//! The server writes events directly to the sockets of idle clients, and queues them for all others. The order stays.

use std::time::Duration;

use futures_util::future::join_all;
use pgio::{Emitter, Value};
use serde_json::json;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::support::certificates::Certified;
use crate::support::node::{Client, ClientOptions, NodePeer};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;
use crate::support::small_buffers;

const PATIENCE: Duration = Duration::from_secs(30);

const DIRECT: &str = "pgio_events_written_directly_total";

/// Counted for each event after `DIRECT`, and like it after the clients have got the event.
const SENT: &str = "pgio_events_sent_total";

/// The start of the packet of a numbered event.
const NUMBERED: &str = "42[\"n\",";

/// Emits numbered events one at a time: each is received by the clients before the next one.
async fn emit_singly(emitter: &Emitter, numbers: std::ops::Range<u64>, padding: usize, clients: &[&Client]) {
    for n in numbers {
        emitter.emit("n", (n, "x".repeat(padding))).await.unwrap();
        for client in clients {
            client.wait_for_tally("n", n + 1, PATIENCE).await;
        }
    }
}

/// The number of an event whose packet starts so.
fn number(packet: &str, start: &str) -> Option<u64> {
    packet.strip_prefix(start)?.split([',', ']']).next()?.parse().ok()
}

#[tokio::test]
async fn single_events_are_written_directly() {
    const COUNT: u64 = 20;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let peer = NodePeer::start().await;
    let client = async |transports: &[&str]| {
        let client = peer.client(ClientOptions::new(&serve.url()).transports(transports)).await;
        client.count().await;
        client
    };
    let (websocket, polling) = (client(&["websocket"]).await, client(&["polling"]).await);
    let upgraded = client(&["polling", "websocket"]).await;
    serve.wait_for_metric("pgio_connections{transport=\"websocket\"}", 2.0).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    // The first packet on a websocket shows that the upgrade is complete.
    emit_singly(&emitter, 0..1, 0, &[&websocket, &polling, &upgraded]).await;
    serve.wait_for_metric(SENT, 3.0).await;
    let before = serve.metric(DIRECT).await;
    emit_singly(&emitter, 1..COUNT, 0, &[&websocket, &polling, &upgraded]).await;
    for client in [&websocket, &polling, &upgraded] {
        assert_eq!(client.wait_for_tally("n", COUNT, PATIENCE).await.first_break, None);
    }
    serve.wait_for_metric(SENT, 3.0 * COUNT as f64).await;
    // A heartbeat may come at the same time as an event, which is queued then.
    let direct = serve.metric(DIRECT).await - before;
    let all = 2.0 * (COUNT - 1) as f64;
    assert!((all - 4.0..=all).contains(&direct), "{direct} of {all}");
}

#[tokio::test]
async fn single_events_and_bursts_keep_their_order() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "*"]).await;
    let peer = NodePeer::start().await;
    let mut clients = Vec::new();
    for transports in [&["websocket"][..], &["polling", "websocket"], &["polling"]] {
        let client = peer.client(ClientOptions::new(&serve.url()).transports(transports)).await;
        client.count().await;
        clients.push(client);
    }
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let args = |n: u64| {
        // Every third event has attachments, so it takes several frames.
        let binary = || Value::Binary(vec![n as u8; 200].into());
        (n, if n.is_multiple_of(3) { Value::Array(vec![binary(), binary()]) } else { Value::Null })
    };
    let mut next = 0;
    for round in 0..150 {
        let numbers = next..next + [1, 1, 2, 1, 40][round % 5];
        next = numbers.end;
        emitter.emit_all(numbers.map(|n| ("n", args(n)))).await.unwrap();
        // An acknowledgement is queued between the events.
        if round % 7 == 0 {
            clients[0].emit_with_ack("join", json!(["room"])).await.unwrap();
        }
        sleep(Duration::from_micros([0, 3000, 300, 100][round % 4])).await;
    }
    for client in &clients {
        let tally = client.wait_for_tally("n", next, PATIENCE).await;
        assert_eq!((tally.count, tally.first_break), (next, None));
    }
    let direct = serve.metric(DIRECT).await;
    assert!(direct > 100.0 && direct < 3.0 * next as f64, "{direct} of {next}");
}

/// One task writes to 128 clients at most.
#[tokio::test]
async fn a_burst_is_written_directly_to_many_clients() {
    const CLIENTS: usize = 300;
    const COUNT: u64 = 400;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let mut clients = join_all((0..CLIENTS).map(|_| RawWebsocket::connect(serve.address()))).await;
    // These get them through their queues.
    let peer = NodePeer::start().await;
    let polling = || peer.client(ClientOptions::new(&serve.url()).transports(&["polling"]));
    let others = join_all((0..5).map(|_| polling())).await;
    join_all(others.iter().map(Client::count)).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    for start in [0, COUNT] {
        emitter.emit_all((start..start + COUNT).map(|n| ("n", n))).await.unwrap();
        for client in &mut clients {
            for n in start..start + COUNT {
                assert_eq!(number(&client.read_text().await, NUMBERED), Some(n));
            }
        }
        for client in &others {
            let tally = client.wait_for_tally("n", start + COUNT, PATIENCE).await;
            assert_eq!((tally.count, tally.first_break), (start + COUNT, None));
        }
    }
    let all = (2 * COUNT * CLIENTS as u64) as f64;
    serve.wait_for_metric(SENT, all + (2 * COUNT) as f64 * others.len() as f64).await;
    // Fewer than 16 events right after a burst are queued.
    let direct = serve.metric(DIRECT).await;
    assert!((0.8 * all..=all).contains(&direct), "{direct} of {all}");
}

#[tokio::test]
async fn a_client_that_pauses_gets_whole_bursts_in_order() {
    const BURST: u64 = 100;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &PINGS).await;
    let mut slow = RawWebsocket::connect_with_small_buffers(serve.address()).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let (mut count, mut direct) = (0, 0.0);
    let mut emit_burst = async || {
        emitter.emit_all((count..count + BURST).map(|n| ("n", (n, "x".repeat(100))))).await.unwrap();
        count += BURST;
        serve.wait_for_metric(SENT, count as f64).await;
        let before = std::mem::replace(&mut direct, serve.metric(DIRECT).await);
        (count, direct - before)
    };
    let mut queued = 0;
    while queued < 3 {
        let (count, direct) = emit_burst().await;
        assert!(count < 100_000, "the buffers were never full");
        queued = if direct == 0.0 { queued + 1 } else { 0 };
    }
    let mut next = 0;
    for _ in 0..3 {
        let (count, _) = emit_burst().await;
        while next < count {
            assert_eq!(number(&slow.read_text().await, NUMBERED), Some(next));
            next += 1;
        }
    }
    let (_, direct) = emit_burst().await;
    assert!(direct > 0.0, "the last burst waited for nothing");
}

/// Emits events to a client that pauses, and reads them then. `good` receives them at once.
async fn pause(url: &str, serve: &PgioServe, good: &Client, slow: &mut RawWebsocket) {
    const PADDING: usize = 8000;
    const ROUND: u64 = 40;
    good.count().await;
    let emitter = Emitter::connect(url).await.unwrap();
    // Until the buffers of the kernel are full, and a whole round waits for `slow`: none of it was written directly.
    let (mut count, mut direct) = (0, 0.0);
    loop {
        emit_singly(&emitter, count..count + ROUND, PADDING, &[good]).await;
        count += ROUND;
        serve.wait_for_metric(SENT, 2.0 * count as f64).await;
        let before = std::mem::replace(&mut direct, serve.metric(DIRECT).await);
        if direct - before <= ROUND as f64 {
            break;
        }
        assert!(count < 1000, "the buffers were never full");
    }

    // A volatile event is dropped for a client for which others wait.
    emitter.volatile().emit("volatile", 0).await.unwrap();
    good.wait_for_tally("volatile", 1, PATIENCE).await;
    serve.wait_for_metric("pgio_volatile_dropped_total", 1.0).await;

    for n in 0..count {
        let text = slow.read_text().await;
        assert_eq!(number(&text, NUMBERED), Some(n), "{}", &text[..20]);
        assert_eq!(text.len(), format!("42[\"n\",{n},\"\"]").len() + PADDING);
    }
    // As soon as nothing waits, an event is written directly to both clients again.
    let mut next = count;
    loop {
        let before = serve.metric(DIRECT).await;
        emit_singly(&emitter, next..next + 1, 0, &[good]).await;
        assert_eq!(number(&slow.read_text().await, NUMBERED), Some(next));
        next += 1;
        if serve.metric(DIRECT).await - before >= 2.0 {
            break;
        }
        assert!(next < count + 100, "no event is written directly");
    }
    emitter.volatile().emit("volatile", 1).await.unwrap();
    assert_eq!(slow.read_text().await, "42[\"volatile\",1]");
}

/// Pings come between the events that wait.
const PINGS: [&str; 4] = ["--ping-interval", "100ms", "--ping-timeout", "1min"];

#[tokio::test]
async fn a_client_that_pauses_gets_everything_in_order() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &PINGS).await;
    let good = serve.client(&NodePeer::start().await).await;
    let mut slow = RawWebsocket::connect_with_small_buffers(serve.address()).await;
    pause(postgres.url(), &serve, &good, &mut slow).await;
}

#[tokio::test]
async fn a_client_with_tls_that_pauses_gets_everything_in_order() {
    let postgres = postgres().await;
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = Certified::root("localhost").write_pem_files(files.path());
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--admin-listen", "127.0.0.1:0"];
    let serve = PgioServe::start(postgres.url(), &[&PINGS[..], &tls].concat()).await;
    let options = ClientOptions::new(&serve.url()).option("rejectUnauthorized", json!(false));
    let good = NodePeer::start().await.client(options.transports(&["websocket"])).await;
    let forwarder = TlsForwarder::start(serve.address()).await;
    let mut slow = RawWebsocket::connect_with_small_buffers(&forwarder.address).await;
    pause(postgres.url(), &serve, &good, &mut slow).await;
}

/// Accepts one connection without TLS, and connects it to a server with TLS. It reads no faster than its client.
struct TlsForwarder {
    address: String,
    _task: AbortOnDropHandle<()>,
}

impl TlsForwarder {
    async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = server.to_owned();
        let task = async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut stream = small_buffers::connect_with_tls(&server).await;
            copy_bidirectional_with_sizes(&mut client, &mut stream, 1024, 1024).await.ok();
        };
        Self { address, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }
}

/// The events of all rooms and namespaces keep their order while clients come, go, join and leave.
#[tokio::test]
async fn the_order_stays_while_clients_move() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "*", "-n", "/", "-n", "/a"]).await;
    let peer = NodePeer::start().await;
    let movers = join_all((0..3).map(|_| serve.client(&peer))).await;
    join_all(movers.iter().map(Client::count)).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let done = CancellationToken::new();

    let emit = async {
        let mut next = 0;
        for round in 0.. {
            if done.is_cancelled() {
                break;
            }
            let numbers = next..next + [1, 2, 1, 30][round % 4];
            next = numbers.end;
            emitter.emit_all(numbers.map(|n| ("n", n))).await.unwrap();
            emitter.to("room").emit("m", "x").await.unwrap();
            emitter.of("/a").emit("a", round).await.unwrap();
            sleep(Duration::from_micros([0, 2000, 300][round % 3])).await;
        }
        next
    };
    let join_and_leave = |client: &Client| {
        let (client, done) = (client.clone(), done.clone());
        async move {
            while !done.is_cancelled() {
                client.emit_with_ack("join", json!(["room"])).await.unwrap();
                client.emit_with_ack("leave", json!(["room"])).await.unwrap();
            }
        }
    };
    let come_and_go = async {
        while !done.is_cancelled() {
            let client = serve.client(&peer).await;
            client.disconnect().await;
        }
    };
    // Connects to another namespace again and again. An event may come before the response: socketioxide adds a client to
    // the namespace first, and client libraries keep such an event until the response.
    let connect_to_another = async {
        for _ in 0..20 {
            let mut raw = RawWebsocket::connect(serve.address()).await;
            let (mut numbers, mut others) = (Vec::new(), Vec::new());
            while numbers.is_empty() {
                numbers.extend(number(&raw.read_text().await, NUMBERED));
            }
            raw.send("40/a,").await;
            let mut is_connected = false;
            while others.len() < 3 || !is_connected {
                let text = raw.read_text().await;
                is_connected |= text.starts_with("40/a,");
                numbers.extend(number(&text, NUMBERED));
                others.extend(number(&text, "42/a,[\"a\","));
            }
            for numbers in [numbers, others] {
                assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
            }
        }
        done.cancel();
    };
    let moves = join_all(movers.iter().map(join_and_leave));
    let (count, (), _, ()) = tokio::join!(emit, connect_to_another, moves, come_and_go);
    for client in &movers {
        let tally = client.wait_for_tally("n", count, PATIENCE).await;
        assert_eq!((tally.count, tally.first_break), (count, None));
    }
    assert!(serve.metric(DIRECT).await > 50.0);
}
