//! Attacks by hostile clients, in small. Each test asserts a limit that the attack must not reach.

mod buffers;
mod exposure;
mod handshakes;
mod logs;
mod namespaces;
mod origins;
mod peers;
mod polls;
mod rates;
mod relay;
mod rooms;
mod session_ids;
mod table;
mod tls;
mod tokens;

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::pgio_serve::PgioServe;

/// The memory that one hostile client may cost a server, in bytes.
const MEMORY: usize = 64 << 20;

const PATIENCE: Duration = Duration::from_secs(30);

/// Asserts that a server answers health checks and uses little more memory than before.
async fn assert_unharmed(serve: &PgioServe, before: usize) {
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(serve.get("/readyz").await.0, 200);
        times.push(start.elapsed());
    }
    times.sort();
    // The slower half shows the load of other tests on the machine.
    assert!(times[9] < Duration::from_millis(100), "{times:?}");
    let more = serve.peak_memory().saturating_sub(before);
    assert!(more < MEMORY, "{} MiB more than before", more >> 20);
}

/// A connection for raw requests.
struct Raw(TcpStream);

impl Raw {
    async fn connect(serve: &PgioServe) -> Raw {
        Raw(TcpStream::connect(serve.address()).await.unwrap())
    }

    /// Connects from another loopback address.
    async fn connect_from(address: [u8; 4], serve: &PgioServe) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        Raw(socket.connect(serve.address().parse().unwrap()).await.unwrap())
    }

    /// Writes as much as the server reads within the timeout. Returns whether that is all.
    async fn write(&mut self, bytes: &[u8]) -> bool {
        timeout(Duration::from_secs(2), self.0.write_all(bytes)).await.is_ok_and(|written| written.is_ok())
    }

    /// Reads until the end of a head, or of the stream.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match timeout(PATIENCE, self.0.read_u8()).await.expect("it answers") {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(head).unwrap()
    }

    /// Waits until the server closes the connection without a response.
    async fn ended(&mut self) {
        let read = timeout(PATIENCE, self.0.read_u8()).await.expect("the server closes the connection");
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    }

    /// The status of the next response; 0 if the server closes the connection.
    async fn status(&mut self) -> u16 {
        let head = self.head().await;
        head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    }
}

/// Sends one request, with additional lines for its head. Returns the status and the body of the response.
async fn ask(serve: &PgioServe, method: &str, path: &str, more: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.0\r\nhost: pgio\r\ncontent-length: {length}\r\n{more}\r\n{body}");
    let (head, body) = serve.request(&request).await;
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Opens a polling session. Returns its id.
async fn open(serve: &PgioServe, more: &str) -> String {
    let (status, body) = ask(serve, "GET", POLLING, more, "").await;
    assert_eq!(status, 200, "{body}");
    body.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// Polls until the packets contain the text. A ping may come before them.
async fn poll_for(serve: &PgioServe, session: &str, text: &str) -> String {
    loop {
        let (status, packets) = ask(serve, "GET", &format!("{POLLING}&sid={session}"), "", "").await;
        assert_eq!(status, 200, "{packets}");
        if packets.contains(text) {
            return packets;
        }
    }
}

/// Opens a polling session and connects it to the main namespace. Returns the id of the session and that of the socket.
async fn connect(serve: &PgioServe, auth: &str) -> (String, String) {
    let session = open(serve, "").await;
    let path = format!("{POLLING}&sid={session}");
    assert_eq!(ask(serve, "POST", &path, "", &format!("40{auth}")).await.1, "ok");
    let connected = poll_for(serve, &session, "40{").await;
    let socket = connected.split("40{\"sid\":\"").nth(1).unwrap_or_else(|| panic!("{connected}"));
    (session, socket.split('"').next().unwrap().to_owned())
}
