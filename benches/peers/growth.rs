//! What changes in a server when a cluster grows: its clients, its namespaces, its nodes.

use std::io;
use std::time::Duration;

use super::peers::Peer;
use super::programs::Programs;
use super::report::{self, Row};
use super::server::Server;
use super::{alone, clients, load};

const ROUNDS: usize = 2;
const IDLE: [usize; 2] = [1_000, 10_000];
const NAMESPACES: [usize; 2] = [1, 200];
const NODES: [usize; 2] = [2, 8];

/// Clients in all, events to each, and events a second.
const PACED: (usize, usize, u32) = (96, 300, 200);

pub async fn run(programs: &Programs) -> io::Result<()> {
    for count in IDLE {
        let mut rows = rows(Peer::command);
        for (peer, row) in Peer::ALL.into_iter().zip(&mut rows) {
            row.values.push(memory_a_client(&peer.start(programs)?, count).await?);
        }
        let of_alone = memory_a_client(&alone::start(programs)?, count).await?;
        let mut rows = Vec::from(rows);
        rows.push(Row::new(alone::NAME, vec![of_alone], alone::COMMAND));
        report::heading(&format!("{count} idle clients: memory for each"));
        compare("KiB", &mut rows);
    }
    for count in NAMESPACES {
        let (mut times, mut memories) = (rows(Peer::command), rows(Peer::command));
        for _ in 0..programs.rounds(ROUNDS) {
            for (index, peer) in Peer::ALL.into_iter().enumerate() {
                let namespaces = (0..count).map(|i| if i == 0 { "/".into() } else { format!("/n{i}") });
                let server = Server::start(&mut peer.server(programs, &namespaces.collect::<Vec<_>>()))?;
                memories[index].values.push(server.memory()? as f64 / f64::from(1 << 20));
                times[index].values.push(per_delivery(programs, peer, &[server]).await?);
            }
        }
        let what = if count == 1 { "1 namespace".into() } else { format!("{count} namespaces") };
        let (clients, _, pace) = PACED;
        report::heading(&format!(
            "{what}, {pace} small events a second to {clients} clients: processor time a delivery"
        ));
        compare("µs", &mut times);
        report::heading(&format!("{what}: memory of the server without clients"));
        compare("MiB", &mut memories);
    }
    for count in NODES {
        let mut times = rows(Peer::command);
        for _ in 0..programs.rounds(ROUNDS) {
            for (peer, row) in Peer::ALL.into_iter().zip(&mut times) {
                let servers = (0..count).map(|_| peer.start(programs)).collect::<io::Result<Vec<_>>>()?;
                row.values.push(per_delivery(programs, peer, &servers).await?);
            }
        }
        let (clients, _, pace) = PACED;
        report::heading(&format!(
            "{count} nodes, {pace} small events a second to {clients} clients of them: processor time of all a delivery"
        ));
        compare("µs", &mut times);
    }
    Ok(())
}

fn rows(command: fn(Peer) -> &'static str) -> [Row; 3] {
    Peer::ALL.map(|peer| Row::new(peer.name(), Vec::new(), command(peer)))
}

fn compare(unit: &str, rows: &mut [Row]) {
    let [node, socketioxide, pgio] = report::rows(unit, rows);
    report::ratio("Node : pgio", node / pgio);
    report::ratio("socketioxide : pgio", socketioxide / pgio);
}

/// In KiB, beyond the memory of the server itself.
async fn memory_a_client(server: &Server, count: usize) -> io::Result<f64> {
    // What the first client brings is the server's.
    let first = clients::connect(&server.address, 1).await?;
    let before = server.memory()?;
    let clients = clients::connect(&server.address, count - 1).await?;
    let memory = server.memory()?.saturating_sub(before) as f64 / 1024.0 / (count - 1) as f64;
    drop((first, clients));
    Ok(memory)
}

/// The processor time of all these servers for each delivery, in microseconds.
async fn per_delivery(programs: &Programs, peer: Peer, servers: &[Server]) -> io::Result<f64> {
    let publisher = peer.publisher(programs).await?;
    let (count, events, pace) = PACED;
    for server in servers {
        clients::until_reached(&publisher, &server.address).await?;
    }
    let mut all = Vec::new();
    for server in servers {
        all.extend(clients::connect(&server.address, count / servers.len()).await?);
    }
    let sum = || servers.iter().map(Server::processor_time).sum::<io::Result<Duration>>();
    let before = sum()?;
    load::paced(&publisher, all, events, pace).await?;
    Ok((sum()? - before).as_secs_f64() * 1e6 / (count * events) as f64)
}
