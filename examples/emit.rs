//! Events for the clients of a cluster, from a process that serves none itself.
//!
//! `DATABASE_URL=postgres://… cargo run --example emit`

use pgio::Emitter;
use serde::Serialize;
use serde_json::json;

#[derive(Serialize)]
struct Order {
    id: u64,
    state: &'static str,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let emitter = Emitter::connect(&std::env::var("DATABASE_URL")?).await?;

    // To everybody. On return Postgres has committed it; the servers receive it a moment later.
    emitter.emit("news", "hello").await?;

    // To some rooms, except clients that are in another one as well. A tuple is several arguments, `()` is none.
    emitter.to("r1").to("r2").except("quiet").emit("tick", (1, json!({ "a": [true, null] }))).await?;

    // A struct arrives as an object, bytes as a Buffer (an ArrayBuffer in browsers).
    emitter.to("r1").emit("order", Order { id: 7, state: "paid" }).await?;
    emitter.to("r1").emit("thumbnail", serde_bytes::Bytes::new(&[0x89, 0x50, 0x4e, 0x47])).await?;

    // Another namespace; and an event that clients may miss while they are not ready to receive.
    emitter.of("/admin").volatile().emit("load", 0.5).await?;
    Ok(())
}
