//! The memory that the server uses for a client that does not read.

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{POLLING, ask, assert_unharmed, connect, poll_for};
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

#[tokio::test]
async fn a_refusal_does_not_quote_the_input_of_the_client() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "[a-z]*"]).await;
    let mut websocket = RawWebsocket::connect(serve.address()).await;
    for room in ["A".repeat(990_000), "a".repeat(257), "A".repeat(200)] {
        websocket.send(&format!("420[\"join\",\"{room}\"]")).await;
        let answer = websocket.read_text().await;
        assert!(answer.starts_with("430[{\"error\":\"") && answer.len() < 150, "{answer}");
    }
    websocket.send(&format!("420[\"join\",\"{}\"]", "a".repeat(256))).await;
    assert!(websocket.read_text().await.starts_with("430[[\"aaa"));
}

#[tokio::test]
async fn the_rooms_of_a_client_are_limited() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "*", "--max-rooms-per-client", "3"]).await;
    let mut websocket = RawWebsocket::connect(serve.address()).await;
    let mut answer = async |text: &str| {
        websocket.send(text).await;
        websocket.read_text().await
    };
    assert_eq!(answer("420[\"join\",[\"a\",\"b\",\"b\"]]").await, "430[[\"a\",\"b\"]]");
    let refused = "430[{\"error\":\"a client may be in at most 3 rooms\"}]";
    assert_eq!(answer("420[\"join\",[\"c\",\"d\"]]").await, refused);
    assert_eq!(answer("420[\"join\",[\"c\",\"a\"]]").await, "430[[\"a\",\"b\",\"c\"]]");
    assert_eq!(answer("420[\"join\",\"d\"]").await, refused);
    assert_eq!(answer("420[\"join\",\"a\"]").await, "430[[\"a\",\"b\",\"c\"]]");
    assert_eq!(answer("420[\"leave\",\"a\"]").await, "430[[\"b\",\"c\"]]");
    assert_eq!(answer("420[\"join\",\"d\"]").await, "430[[\"b\",\"c\",\"d\"]]");
}

#[tokio::test]
async fn acknowledgements_that_are_not_read_end_the_client() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--allow-join", "*", "--client-buffer", "8MB"]).await;
    let before = serve.memory();
    let mut websocket = RawWebsocket::connect(serve.address()).await;
    let rooms: Vec<_> = (0..900).map(|n| format!("\"{n:0200}\"")).collect();
    websocket.send(&format!("420[\"join\",[{}]]", rooms.join(","))).await;
    // The answer to each of these is the list of 180 kB.
    for _ in 0..3000 {
        websocket.send("420[\"join\",[]]").await;
    }
    until("the client is disconnected", async || {
        serve.metric("pgio_clients_cut_off_total{reason=\"too_slow\"}").await >= 1.0
    })
    .await;
    websocket.read_to_end().await;
    assert_unharmed(&serve, before).await;
}

#[tokio::test]
async fn answers_of_the_library_that_are_not_read_hold_little_memory() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let before = serve.memory();
    let mut websocket = RawWebsocket::connect(serve.address()).await;
    // The server would answer each with the name of the namespace, which is not hosted.
    let connect = format!("40/{},", "x".repeat(900_000));
    for _ in 0..200 {
        websocket.try_send(&connect).await;
    }
    assert!(websocket.read_to_end().await < 1000);
    assert_unharmed(&serve, before).await;
}

#[tokio::test]
async fn answers_that_are_not_polled_hold_little_memory() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    let (session, _) = connect(&serve, "").await;
    let before = serve.memory();
    let path = format!("{POLLING}&sid={session}");
    let connect = format!("40/{},", "x".repeat(900_000));
    let head = format!("POST {path} HTTP/1.0\r\nhost: pgio\r\ncontent-length: {}\r\n\r\n", connect.len());
    for _ in 0..100 {
        let mut stream = TcpStream::connect(serve.address()).await.unwrap();
        // After the session is closed, the server need not read the body.
        let request = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(connect.as_bytes()).await?;
            stream.read_to_end(&mut Vec::new()).await
        };
        request.await.ok();
    }
    assert_eq!(ask(&serve, "GET", &path, "", "").await.0, 400, "the session is closed");
    assert_unharmed(&serve, before).await;
}

#[tokio::test]
async fn incomplete_messages_of_many_clients_hold_little_memory() {
    const CLIENTS: usize = 150;
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--relay=namespace", "--max-payload", "1MB"]).await;
    let mut good = RawWebsocket::connect(serve.address()).await;
    let before = serve.memory();
    let mut hostile = Vec::new();
    for n in 0..CLIENTS {
        let mut websocket = RawWebsocket::connect(serve.address()).await;
        match n % 2 {
            // A frame that is never complete.
            0 => drop(websocket.try_send_part(990_000, 900_000).await),
            // An event whose second attachment never comes.
            _ => {
                let event = "452-[\"e\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
                websocket.send(event).await;
                websocket.try_send_binary(&vec![7; 900_000]).await;
            }
        }
        hostile.push(websocket);
    }
    good.send("421[\"e\"]").await;
    assert_eq!(good.read_text().await, "431[]");
    assert_unharmed(&serve, before).await;
    until("clients without room are disconnected", async || {
        serve.metric("pgio_clients_cut_off_total{reason=\"incomplete\"}").await >= 50.0
    })
    .await;
    // The memory is freed with the clients.
    drop(hostile);
    let large = format!("422[\"e\",\"{}\"]", "x".repeat(500_000));
    good.send(&large).await;
    assert_eq!(good.read_text().await, "432[]");
}

/// An event with two attachments that requests an acknowledgement.
const EVENT: &str = "452-7[\"e\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";

#[tokio::test]
async fn events_that_many_clients_post_in_part_hold_little_memory() {
    const CLIENTS: usize = 48;
    const BYTES: usize = 700_000;
    const ROOM: usize = 32 << 20;
    let postgres = postgres().await;
    let flags = ["--relay=namespace", "--ping-timeout", "60s"];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let before = serve.memory();
    let attachment = format!("b{}", "A".repeat(BYTES / 3 * 4));
    let post = async |session: &str, body: &str| {
        ask(&serve, "POST", &format!("{POLLING}&sid={session}"), "", body).await.0
    };
    let mut hostile = Vec::new();
    for _ in 0..CLIENTS {
        hostile.push(connect(&serve, "").await.0);
    }
    let part = format!("{EVENT}\u{1e}{attachment}");
    let mut holding = Vec::new();
    // Sent in groups that fit into the quota of bodies.
    for some in hostile.chunks(8) {
        let statuses = join_all(some.iter().map(|session| post(session, &part))).await;
        holding.extend(some.iter().zip(statuses).filter(|(_, status)| *status == 200));
    }
    assert!(holding.len() * BYTES <= ROOM, "{} clients hold {BYTES} bytes each", holding.len());
    assert!(holding.len() > 40, "{}", holding.len());
    let refused = (CLIENTS - holding.len()) as f64;
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"incomplete\"}").await, refused);
    assert_unharmed(&serve, before).await;

    // A complete event frees quota for another one.
    let (session, _) = holding[0];
    assert_eq!(post(session, "bAAAA").await, 200);
    poll_for(&serve, session, "437[").await;
    let good = connect(&serve, "").await.0;
    assert_eq!(post(&good, &part).await, 200);
    assert_eq!(post(&good, "bAAAA").await, 200);
}
