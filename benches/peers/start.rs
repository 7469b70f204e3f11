//! How long a server takes from its start until a client is connected.

use std::io;
use std::time::Instant;

use super::clients;
use super::peers::Peer;
use super::programs::Programs;
use super::report::{self, Row};

const ROUNDS: usize = 9;

pub async fn run(programs: &Programs) -> io::Result<()> {
    let mut rows = Peer::ALL.map(|peer| Row::new(peer.name(), Vec::new(), peer.command()));
    for _ in 0..programs.rounds(ROUNDS) {
        for (peer, row) in Peer::ALL.into_iter().zip(&mut rows) {
            let start = Instant::now();
            let server = peer.start(programs)?;
            let client = clients::connect(&server.address, 1).await?;
            row.values.push(start.elapsed().as_secs_f64() * 1000.0);
            drop((client, server));
        }
    }
    report::heading("Start of a server, until its first client is connected");
    report::draw("");
    let [node, socketioxide, pgio] = report::rows("ms", &mut rows);
    report::ratio("Node : pgio", node / pgio);
    report::ratio("socketioxide : pgio", socketioxide / pgio);
    Ok(())
}
