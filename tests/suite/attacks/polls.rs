//! Responses to polls that their client does not read.

use pgio::Emitter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{PATIENCE, POLLING};
use crate::support::certificates::Certified;
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::{Postgres, postgres};
use crate::support::small_buffers;

const TOO_SLOW: &str = "pgio_clients_cut_off_total{reason=\"too_slow\"}";

trait Connection: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection for S {}

/// A session that polls on many connections with small buffers.
struct Polling<'a> {
    address: &'a str,
    has_tls: bool,
    path: String,
}

impl Polling<'_> {
    /// Connects to the main namespace.
    async fn connect(address: &str, has_tls: bool) -> Polling<'_> {
        let mut session = Polling { address, has_tls, path: POLLING.to_owned() };
        let open = session.response("GET", "").await;
        let sid = open.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
        session.path = format!("{POLLING}&sid={sid}");
        session.response("POST", "40").await;
        while !session.response("GET", "").await.contains("40{") {}
        session
    }

    /// Sends a request on a new connection.
    async fn request(&self, method: &str, body: &str) -> Box<dyn Connection> {
        let mut connection: Box<dyn Connection> = match self.has_tls {
            true => Box::new(small_buffers::connect_with_tls(self.address).await),
            false => Box::new(small_buffers::connect(self.address).await),
        };
        let length = body.len();
        let head =
            format!("{method} {} HTTP/1.0\r\nhost: pgio\r\ncontent-length: {length}\r\n\r\n", self.path);
        connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        connection
    }

    /// The whole response to a request.
    async fn response(&self, method: &str, body: &str) -> String {
        let mut connection = self.request(method, body).await;
        let mut response = String::new();
        timeout(PATIENCE, connection.read_to_string(&mut response)).await.expect("it answers").unwrap();
        response
    }

    /// Polls, and reads only the first byte of the response.
    async fn begin_poll(&self) -> Box<dyn Connection> {
        let mut connection = self.request("GET", "").await;
        timeout(PATIENCE, connection.read_u8()).await.expect("it answers").unwrap();
        connection
    }
}

/// Lets a client poll events of 300 KB at a time without reading them, until it is disconnected.
async fn poll_without_reading(postgres: &Postgres, serve: &PgioServe, has_tls: bool) {
    let session = Polling::connect(serve.address(), has_tls).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..8 {
        emitter.emit_all((0..75).map(|n| ("n", (n, "x".repeat(4000))))).await.unwrap();
        unread.push(session.begin_poll().await);
    }
    serve.wait_for_metric(TOO_SLOW, 1.0).await;
}

#[tokio::test]
async fn events_that_a_client_polls_and_does_not_read_count_for_its_buffer() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["--client-buffer", "1MB"]).await;
    poll_without_reading(&postgres, &serve, false).await;
}

#[tokio::test]
async fn events_that_a_client_polls_with_tls_and_does_not_read_count_for_its_buffer() {
    let postgres = postgres().await;
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = Certified::root("localhost").write_pem_files(files.path());
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--admin-listen", "127.0.0.1:0"];
    let serve = PgioServe::start(postgres.url(), &[&tls[..], &["--client-buffer", "1MB"]].concat()).await;
    poll_without_reading(&postgres, &serve, true).await;
}
