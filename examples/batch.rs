//! Many events, fast: each is queued without waiting for the one before, and many share a transaction.
//!
//! `DATABASE_URL=postgres://… cargo run --release --example batch`

use std::time::Instant;

use pgio::Emitter;

const EVENTS: u32 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let emitter = Emitter::connect(&std::env::var("DATABASE_URL")?).await?;
    let room = emitter.to("r1");
    let start = Instant::now();

    // Queuing waits only while the queue is full. Order is kept; equal events are not merged.
    let mut receipts = Vec::new();
    for number in 0..EVENTS {
        receipts.push(room.enqueue("tick", number).await?);
    }
    // A receipt tells when its event is committed, or why it is not.
    for receipt in receipts {
        receipt.await?;
    }
    println!("{EVENTS} events in {:.0?}", start.elapsed());

    // The same in short, where all are at hand and the first error is enough to know.
    room.emit_all((0..EVENTS).map(|number| ("tick", number))).await?;
    Ok(())
}
