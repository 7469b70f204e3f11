//! A question to all clients in a room, and what they answer.
//!
//! `DATABASE_URL=postgres://… cargo run --example acknowledgements`

use std::time::Duration;

use pgio::{Emitter, Value};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let emitter = Emitter::connect(&std::env::var("DATABASE_URL")?).await?;

    // Returns as soon as every client has answered, at the latest after two seconds. Where the answers are known to be
    // of one type, name it instead of `Value`.
    let answers =
        emitter.to("r1").timeout(Duration::from_secs(2)).emit_with_ack::<Value>("ready?", "game 42").await?;

    println!("{} of {} clients on {} servers:", answers.answers.len(), answers.expected, answers.nodes);
    if !answers.is_complete() {
        println!("(not complete: {:?})", answers.silent);
    }
    for answer in answers {
        println!("  {answer}");
    }
    Ok(())
}
