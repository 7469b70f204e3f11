//! Clients and peers that write into the log cannot forge a line or fill the disk.

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::pgio::{Running, pgio};
use crate::support::pgio_serve::until;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

/// A separate line, a cleared screen, and text from right to left.
const FORGERY: &str = "x\n2026-01-01T00:00:00.000000Z ERROR pgio: forged\r\x1b[2J\u{202e}\u{2028}";

/// The maximum length of a log line, in bytes.
const LINE: usize = 800;

const SERVE: [&str; 6] = ["serve", "--listen", "127.0.0.1:0", "-n", "/org/{id}", "--cleanup-interval=1h"];

/// Starts the server, and returns the address for its clients.
async fn start(url: &str, more: &[&str]) -> (Running, String) {
    let mut serve = Running::start(&mut pgio(url, &[&SERVE, more].concat()));
    let line = serve.line().await;
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    (serve, address.to_owned())
}

/// A message of that sender whose row does not exist.
fn message_without_row(uid: &str) -> String {
    let header = json!({ "uid": uid, "type": 3, "attachmentId": "4711" }).to_string();
    format!("SELECT pg_notify('socket.io#/', $forged${header}$forged$);")
}

async fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[track_caller]
fn is_clean(log: &str) {
    for line in log.lines() {
        let is_own = line.len() > 40 && line.as_bytes()[10] == b'T' && line[26..].starts_with("Z ");
        assert!(is_own && !line[27..].trim_start().starts_with("ERROR pgio: forged"), "{line:?}");
        assert!(!line.contains(['\x1b', '\r', '\u{202e}', '\u{2028}']), "{line:?}");
        assert!(line.len() <= LINE, "{} bytes: {line:?}", line.len());
    }
}

#[tokio::test]
async fn log_lines_cannot_be_forged() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "a token that nobody guesses").unwrap();
    let file = tokens.path().to_str().unwrap();
    let (mut serve, address) = start(postgres.url(), &["-n", "/", "--auth-token-file", file, "-vv"]).await;

    // A peer.
    execute(postgres.url(), &message_without_row(&format!("{FORGERY}{}", "y".repeat(4000)))).await;
    serve.wait_for_note("skipped").await;
    // A client, in a namespace that it creates.
    let mut client = RawWebsocket::open(&address).await;
    client.send(&format!("40/org/{FORGERY}{},{{}}", "y".repeat(4000))).await;
    client.send("40/org/short\nERROR pgio: forged,{}").await;
    client.hears("44/org/short").await;

    serve.signal(Signal::SIGTERM);
    let log = serve.end().await.succeeded().stderr;
    is_clean(&log);
    assert!(log.contains("forged"), "{log}");
}

#[tokio::test]
async fn repeated_log_messages_are_counted() {
    const COUNT: usize = 3000;
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let (serve, address) = start(postgres.url(), &["-n", "/"]).await;
    let messages: String = (0..COUNT).map(|n| message_without_row(&format!("{n:016x}"))).collect();
    execute(postgres.url(), &messages).await;
    let counted = format!("pgio_attachments_missing_total {COUNT}\n");
    until("all are skipped", async || metrics(&address).await.contains(&counted)).await;
    serve.signal(Signal::SIGTERM);
    let log = serve.end().await.succeeded().stderr;
    is_clean(&log);
    assert!(
        log.lines().count() < 30 && log.len() < 8 << 10,
        "{} lines, {} bytes",
        log.lines().count(),
        log.len()
    );
    assert_eq!(counted_in(&log, "skipped"), COUNT, "{log}");
}

/// The lines with this message, the suppressed ones included.
fn counted_in(log: &str, message: &str) -> usize {
    let lines = log.lines().filter(|line| line.contains(message));
    let count = |line: &str| line.split(" more=").nth(1).map_or(1, |more| more.trim().parse().unwrap());
    lines.map(count).sum()
}

#[tokio::test]
async fn a_flood_of_refusals_writes_few_lines_and_says_how_many_are_missing() {
    const CLIENTS: usize = 30;
    const REFUSALS: usize = 100;
    let postgres = postgres().await;
    let (serve, address) = start(postgres.url(), &["-n", "/"]).await;
    for _ in 0..CLIENTS {
        let mut client = RawWebsocket::open(&address).await;
        for _ in 0..REFUSALS {
            client.send("40/other,").await;
            assert!(client.hears("Invalid namespace").await);
        }
        client.send("40/other,").await;
        client.read_to_end().await;
    }
    serve.signal(Signal::SIGTERM);
    let log = serve.end().await.succeeded().stderr;
    is_clean(&log);
    // Ten of each message in ten seconds.
    assert!(log.lines().count() < 80, "{} lines", log.lines().count());
    assert_eq!(counted_in(&log, "client refused"), CLIENTS * REFUSALS, "{log}");
    assert_eq!(counted_in(&log, "disconnecting a client"), CLIENTS, "{log}");
}
