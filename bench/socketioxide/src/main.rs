//! The peer of `pgio serve` in `make bench`: a server with socketioxide and its own Postgres adapter.
//!
//! `socketioxide-peer serve [NAMESPACE...]` hosts the main namespace and the given ones, and prints its address.
//! `socketioxide-peer format` prints the channel of an event `["tick",N]`, and its notification before and after N.
//! `socketioxide-peer alone` is a server without Postgres, see `alone`.
//! The database is that of DATABASE_URL. With SOCKETIOXIDE_DEFAULTS the server has its default limits.

mod alone;
mod format;
mod routes;

use std::error::Error;

use axum::serve::ListenerExt;
use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide_postgres::drivers::sqlx::sqlx_client::postgres::PgPoolOptions;
use socketioxide_postgres::{PostgresAdapterConfig, PostgresAdapterCtr, SqlxAdapter};

/// Packets that wait for a client. The default is 128; a flood loses what does not fit.
const BUFFER: usize = 1 << 20;
/// Acknowledgements that wait to be read. The default is 255; more are lost.
const ACKS: usize = 1 << 14;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("serve") => serve(arguments.collect()).await,
        Some("format") => format::print().await,
        Some("alone") => alone::serve().await,
        _ => Err("usage: socketioxide-peer serve [NAMESPACE...] | format | alone".into()),
    }
}

async fn serve(namespaces: Vec<String>) -> Result<(), Box<dyn Error>> {
    // The adapter keeps a connection for each namespace. Ten is the default of the pool.
    let connections = PgPoolOptions::new().max_connections(u32::try_from(namespaces.len())? + 10);
    let pool = connections.connect(&std::env::var("DATABASE_URL")?).await?;
    let (mut builder, mut config) = (SocketIo::builder(), PostgresAdapterConfig::new());
    if std::env::var_os("SOCKETIOXIDE_DEFAULTS").is_none() {
        builder = builder.max_buffer_size(BUFFER);
        config = config.with_ack_response_buffer(ACKS);
    }
    let adapter = PostgresAdapterCtr::new_with_sqlx_config(pool, config);
    let (layer, io) = builder.with_adapter::<SqlxAdapter<_>>(adapter).build_layer();
    io.ns("/", on_connect).await?;
    for namespace in namespaces.into_iter().filter(|namespace| namespace != "/") {
        io.ns(namespace, on_connect).await?;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", serde_json::json!({ "address": listener.local_addr()?.to_string() }));
    // As Node does. Without it an event can wait for the acknowledgement of the one before it, for 40 ms.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, routes::of(io).layer(layer)).await?)
}

/// Lets each client join the rooms that it names.
async fn on_connect<A: Adapter>(socket: SocketRef<A>) {
    socket.on("join", async |socket: SocketRef<A>, Data(room): Data<String>, ack: AckSender<A>| {
        socket.join(room);
        // A client that has left waits for nothing.
        ack.send(&()).ok();
    });
}
