//! A `Server` that an application drops.

use std::sync::OnceLock;
use std::time::Duration;

use pgio::cluster::Event;
use pgio::protocol::MessageKind;
use pgio::server::{Hosted, Metrics, Server, ServerOptions};
use pgio::{AdapterOptions, Cluster, Emitter, Namespace, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::support::pgio_serve::until;
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;
use crate::support::sql::query_text;

async fn request(address: &str, text: String) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Opens a polling session, and sends `packet` to it.
async fn poll(address: &str, packet: Option<&str>) {
    let path = "/socket.io/?EIO=4&transport=polling";
    let open = request(address, format!("GET {path} HTTP/1.0\r\n\r\n")).await;
    let sid = open.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    if let Some(packet) = packet {
        let head = format!("POST {path}&sid={sid} HTTP/1.0\r\ncontent-length: {}\r\n\r\n", packet.len());
        assert!(request(address, head + packet).await.ends_with("ok"));
    }
}

const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(300);

async fn server(url: &str) -> Server {
    let adapter = AdapterOptions::default().heartbeat_interval(HEARTBEAT_INTERVAL);
    let cluster = Cluster::connect(Settings::parse(url).unwrap(), adapter).await.unwrap();
    let options = ServerOptions::default()
        .listen("127.0.0.1:0")
        .namespaces([Hosted::new("/"), Hosted::new("/org/{id}")])
        // A polling session ends at its ping timeout, if nothing closes it before.
        .ping_interval(Duration::from_secs(2))
        .ping_timeout(Duration::from_secs(2));
    // The metrics can be installed only once in a process.
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    let metrics = METRICS.get_or_init(|| Metrics::install().unwrap());
    Server::start(cluster, options, metrics.clone()).await.unwrap()
}

#[tokio::test]
async fn a_dropped_server_ends_its_clients_and_its_heartbeats() {
    let postgres = postgres().await;
    let server = server(postgres.url()).await;
    let address = server.address().to_string();
    let mut websocket = RawWebsocket::connect(&address).await;
    let mut org = RawWebsocket::open(&address).await;
    org.send("40/org/1,").await;
    assert!(org.hears("40/org/1,{\"sid\"").await);
    let mut silent = RawWebsocket::open(&address).await;
    poll(&address, Some("40")).await;
    poll(&address, Some("40/org/2,")).await;
    poll(&address, None).await;

    drop(server);
    for socket in [&mut websocket, &mut org, &mut silent] {
        socket.read_to_end().await;
    }
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let nsps = ["/", "/org/1", "/org/2"].map(Namespace::new);
    let mut heard = emitter.cluster().subscribe(&nsps, |_| true).await.unwrap();
    let deadline = Instant::now() + 5 * HEARTBEAT_INTERVAL;
    while let Ok(event) = timeout_at(deadline, heard.next()).await {
        let Some(Event::Message(received)) = event else { continue };
        let kind = received.content.header().unwrap().kind;
        assert_eq!(kind, MessageKind::AdapterClose, "a dropped server says nothing but farewell");
    }
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn a_dropped_server_holds_no_connection_to_postgres() {
    let postgres = postgres().await;
    let server = server(postgres.url()).await;
    let address = server.address().to_string();
    let mut websocket = RawWebsocket::connect(&address).await;
    poll(&address, None).await;
    // The server may read its connect packet before, during or after the drop.
    poll(&address, Some("40/org/2,")).await;
    drop(server);
    websocket.read_to_end().await;
    // A session that never joined a namespace ends at the connect timeout.
    let others = "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    until("no session is left", async || query_text(postgres.url(), others).await == "0").await;
}
