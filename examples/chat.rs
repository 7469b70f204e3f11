//! A chat server with socketioxide, in one cluster with whatever Node servers use the same database.
//!
//! `DATABASE_URL=postgres://… cargo run --example chat --features adapter`
//!
//! Clients emit `join` with a room and `message` with a room and a text; all clients in that room receive
//! `message`, those of the other servers too.

use pgio::adapter::SocketData;
use pgio::{AdapterOptions, PostgresAdapter, PostgresAdapterCtr, Value};
use socketioxide::SocketIo;
use socketioxide::adapter::Emitter;
use socketioxide::extract::{AckSender, Data, SocketRef};

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
    io.ns("/", on_connect).await?;

    // Other servers may ask with `serverSideEmit("ping", callback)`.
    adapter.on_server_side("/", "ping", async |_args| Some(Value::from("pong from Rust")));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}", listener.local_addr()?);
    let app = axum::Router::new().layer(layer);
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        _ = tokio::signal::ctrl_c() => {}
    }
    // The other servers need not wait for our silence to know that we are gone.
    adapter.close().await?;
    Ok(())
}

async fn on_connect(socket: Socket) {
    // What `fetchSockets` shows as the socket's `data`, here and on Node servers.
    socket.extensions.insert(SocketData(Value::from("a chatter")));

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
