//! The sockets of the whole cluster, and their rooms.
//!
//! `DATABASE_URL=postgres://… cargo run --example rooms_and_sockets`

use pgio::Emitter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let emitter = Emitter::connect(&std::env::var("DATABASE_URL")?).await?;

    // Everybody in r1 joins two more rooms, and leaves one of them again.
    emitter.within("r1").join(["r2", "r3"]).await?;
    emitter.within("r2").leave("r3").await?;

    // Each server answers with its sockets. `silent` names the servers that do not answer in time.
    let sockets = emitter.fetch_sockets().await?;
    for answer in &sockets.answers {
        let socket = &answer.value;
        println!("{} on {} in {}, data {}", socket.id, answer.node, socket.rooms.join(" "), socket.data);
    }
    println!("{} sockets on {} servers", sockets.answers.len(), sockets.nodes);

    // A socket's id is the name of a room that only this socket is in. `true` closes its connection, `false` only
    // takes it out of the namespace.
    if let Some(first) = sockets.answers.first() {
        emitter.within(&first.value.id).disconnect(false).await?;
    }
    Ok(())
}
