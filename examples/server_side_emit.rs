//! Events for the servers of a cluster themselves, not for their clients.
//!
//! `DATABASE_URL=postgres://… cargo run --example server_side_emit`
//!
//! A Node server hears them with `io.on("reload", (what) => …)`, and answers through the callback that it gets as the last
//! argument: `io.on("load", (done) => done(os.loadavg()[0]))`.

use std::time::Duration;

use pgio::Emitter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let emitter = Emitter::connect(&std::env::var("DATABASE_URL")?).await?;

    emitter.server_side_emit("reload", "prices").await?;

    let loads = emitter.server_side_emit_with_ack("load", (), Duration::from_secs(2)).await?;
    for answer in &loads.answers {
        println!("{} {}", answer.node, answer.value);
    }
    for node in &loads.silent {
        println!("{node} did not answer");
    }
    Ok(())
}
