//! A pgio node in the test's own process: socketioxide with our adapter, and clients of it in a Node process.

use std::time::Duration;

use axum::serve::ListenerExt;
use pgio::{AdapterOptions, Cluster, PostgresAdapter, PostgresAdapterCtr, Settings};
use serde_json::{Value, json};
use socketioxide::adapter::Emitter;
use socketioxide::extract::{AckSender, Data, SocketRef, TryData};
use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder};
use tokio_util::task::AbortOnDropHandle;

use super::node::{Client, ClientOptions, NodePeer, Parser};

pub type Adapter = PostgresAdapter<Emitter>;

pub struct PgioNode {
    pub io: SocketIo<Adapter>,
    pub adapter: PostgresAdapterCtr,
    pub url: String,
    parser: Parser,
    server: AbortOnDropHandle<()>,
}

impl PgioNode {
    /// Starts a node that serves `/` and `/admin`.
    pub async fn start(url: &str) -> PgioNode {
        Self::start_with(url, AdapterOptions::default(), Parser::Default, |builder| builder).await
    }

    pub async fn start_with(
        url: &str,
        options: AdapterOptions,
        parser: Parser,
        build: impl FnOnce(SocketIoBuilder<Adapter>) -> SocketIoBuilder<Adapter>,
    ) -> PgioNode {
        Self::launch(url, options, parser, build, |adapter, io| adapter.attach(io)).await
    }

    /// The same as [`start`](Self::start), for an application that does not attach its io.
    pub async fn start_detached(url: &str) -> PgioNode {
        Self::launch(url, AdapterOptions::default(), Parser::Default, |builder| builder, |_, _| ()).await
    }

    async fn launch(
        url: &str,
        options: AdapterOptions,
        parser: Parser,
        build: impl FnOnce(SocketIoBuilder<Adapter>) -> SocketIoBuilder<Adapter>,
        attach: impl FnOnce(&PostgresAdapterCtr, &SocketIo<Adapter>),
    ) -> PgioNode {
        let cluster = Cluster::connect(Settings::parse(url).unwrap(), options).await.unwrap();
        let adapter = PostgresAdapterCtr::new(cluster);
        let mut builder = SocketIo::builder().max_buffer_size(100_000).with_adapter(adapter.clone());
        if matches!(parser, Parser::Msgpack) {
            builder = builder.with_parser(ParserConfig::msgpack());
        }
        let (layer, io) = build(builder).build_layer();
        attach(&adapter, &io);
        for nsp in ["/", "/admin"] {
            io.ns(nsp, on_connect).await.unwrap();
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let app = axum::Router::new().layer(layer);
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        PgioNode { io, adapter, url, parser, server: AbortOnDropHandle::new(server) }
    }

    /// Drops the handle of the adapter only.
    pub fn without_handle(self) -> (SocketIo<Adapter>, AbortOnDropHandle<()>) {
        (self.io, self.server)
    }

    /// Connects a client from a Node process.
    pub async fn client(&self, peer: &NodePeer, nsp: &str) -> Client {
        peer.client(ClientOptions::new(&self.url).namespace(nsp).parser(self.parser)).await
    }

    /// Makes a client join rooms, through its own request.
    pub async fn join(&self, client: &Client, rooms: &[&str]) {
        client.emit_with_ack("join", json!([rooms])).await.unwrap();
    }

    /// The number of servers that this node counts in the main namespace.
    pub async fn server_count(&self) -> usize {
        self.adapter.server_count("/").await.unwrap()
    }

    /// Waits until the node counts this many servers.
    pub async fn wait_for_server_count(&self, count: usize) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while self.server_count().await != count {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{} servers, not {count}",
                self.server_count().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn on_connect(socket: SocketRef<Adapter>) {
    socket.on(
        "join",
        async |socket: SocketRef<Adapter>, Data(rooms): Data<Vec<String>>, ack: AckSender<Adapter>| {
            socket.join(rooms);
            ack.send("joined").unwrap();
        },
    );
    socket.on(
        "data",
        async |socket: SocketRef<Adapter>, Data(data): Data<Value>, ack: AckSender<Adapter>| {
            socket.extensions.insert(pgio::adapter::SocketData(data.into()));
            ack.send("kept").unwrap();
        },
    );
    socket.on("to others", async |socket: SocketRef<Adapter>, TryData(text): TryData<String>| {
        socket.broadcast().emit("from a client", &text.unwrap()).await.unwrap();
    });
}
