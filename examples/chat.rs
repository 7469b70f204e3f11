//! A chat server with socketioxide, in one cluster with whatever Node servers use the same database.
//!
//! `DATABASE_URL=postgres://… cargo run --example chat --features adapter`
//!
//! Clients connect with a name: `io("http://127.0.0.1:3000", { auth: { name: "ada" } })`. They emit `join` with a room and
//! `message` with a room and a text; all other clients in that room receive `message`, on every server.

use axum::serve::ListenerExt;
use pgio::adapter::SocketData;
use pgio::{AdapterOptions, PostgresAdapter, PostgresAdapterCtr, Value};
use socketioxide::SocketIo;
use socketioxide::adapter::Emitter;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide::handler::ConnectHandler;
use tokio::signal::unix::{SignalKind, signal};

type Adapter = PostgresAdapter<Emitter>;
type Socket = SocketRef<Adapter>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let adapter =
        PostgresAdapterCtr::connect(&std::env::var("DATABASE_URL")?, AdapterOptions::default()).await?;
    let (layer, io) = SocketIo::builder()
        // The default of 128 packets is too little for a burst from the cluster.
        .max_buffer_size(100_000)
        .with_adapter::<Adapter>(adapter.clone())
        .build_layer();
    // Lets other servers see handshake and data of our sockets.
    adapter.attach(&io);
    io.ns("/", on_connect.with(require_name)).await?;

    // Other servers may ask with `serverSideEmit("ping", callback)`.
    adapter.on_server_side("/", "ping", async |_event| Some(Value::from("pong from Rust")));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // Without it the second of two packets waits for the acknowledgement of the first, some 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("TCP_NODELAY: {error}");
        }
    });
    let app = axum::Router::new().layer(layer);
    // Systemd and Kubernetes send SIGTERM.
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    // Otherwise the other servers count this one until they detect that its process has ended.
    adapter.close().await?;
    Ok(())
}

/// The payload that a client sends when it connects.
#[derive(serde::Deserialize)]
struct Auth {
    name: String,
}

/// A middleware: it runs before a client is connected to the namespace, and an error refuses the client.
async fn require_name(socket: Socket, Data(auth): Data<Auth>) -> Result<(), &'static str> {
    if auth.name.is_empty() {
        return Err("a name is required");
    }
    // `fetchSockets` shows this as the socket's `data`, here and on Node servers.
    socket.extensions.insert(SocketData(Value::from(auth.name)));
    Ok(())
}

async fn on_connect(socket: Socket) {
    socket.on("join", async |socket: Socket, Data(room): Data<String>, ack: AckSender<Adapter>| {
        socket.join(room);
        // A client that has gone needs no answer.
        ack.send("joined").ok();
    });
    socket.on("message", async |socket: Socket, Data((room, text)): Data<(String, String)>| {
        if let Err(error) = socket.to(room).emit("message", &text).await {
            eprintln!("clients of other servers did not get it: {error}");
        }
    });
}
