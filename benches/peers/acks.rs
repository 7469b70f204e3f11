//! How many acknowledgements of clients a second reach a member of the cluster that asks for them.

use std::io;
use std::time::Instant;

use super::asker::{Asker, Question};
use super::clients;
use super::peers::Peer;
use super::programs::Programs;
use super::report::{self, Row};

const ROUNDS: usize = 3;
/// Clients of one server, and events that they all acknowledge, one after the other.
const CASES: [(usize, usize); 2] = [(1, 300), (1_000, 5)];

pub async fn run(programs: &Programs) -> io::Result<()> {
    for (count, events) in CASES {
        let mut rows =
            Peer::ALL.map(|peer| Row::new(peer.name(), Vec::new(), Asker::command(peer, Question::Acks)));
        for _ in 0..programs.rounds(ROUNDS) {
            for (peer, row) in Peer::ALL.into_iter().zip(&mut rows) {
                row.values.push(round(programs, peer, count, events).await?);
            }
        }
        let who = if count == 1 { "one client".into() } else { format!("each of {count} clients") };
        report::heading(&format!("{events} events, each acknowledged by {who}: acknowledgements"));
        report::draw("");
        let [node, socketioxide, pgio] = report::rows("acks/s", &mut rows);
        report::ratio("pgio : Node", pgio / node);
        report::ratio("pgio : socketioxide", pgio / socketioxide);
    }
    Ok(())
}

async fn round(programs: &Programs, peer: Peer, count: usize, events: usize) -> io::Result<f64> {
    let server = peer.start(programs)?;
    let asker = Asker::start(programs, peer).await?;
    let clients = clients::connect(&server.address, count).await?;
    let _answering = clients::answer(clients);
    asker.until(Question::Acks, count).await?;
    let start = Instant::now();
    for _ in 0..events {
        let acks = asker.ask(Question::Acks).await?;
        if acks != count {
            return Err(io::Error::other(format!(
                "{acks} of {count} clients of {} acknowledged",
                peer.name()
            )));
        }
    }
    Ok((count * events) as f64 / start.elapsed().as_secs_f64())
}
