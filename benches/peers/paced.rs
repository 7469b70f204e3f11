//! The processor time of a delivery at a steady pace: the servers side by side, and beside them the least that it can cost.
//!
//! At a pace the cost of a delivery depends more on the state of the machine than at full speed, so there are more rounds.

use std::io;

use super::peers::Peer;
use super::programs::Programs;
use super::report::{self, Row};
use super::server::Server;
use super::{alone, bare_write, clients, load, one_worker};

const ROUNDS: usize = 7;

/// Clients, events, and events a second.
const PACED: [(usize, usize, u32); 2] = [(100, 1_000, 200), (5_000, 40, 10)];

/// Events to one client, before the measurement.
const WARM_UP: usize = 10_000;

pub async fn run(programs: &Programs) -> io::Result<()> {
    let mut tables = PACED.map(|_| {
        Contender::ALL.map(|contender| {
            let (name, command) = contender.name_and_command();
            Row::new(name, Vec::new(), command)
        })
    });
    for _ in 0..programs.rounds(ROUNDS) {
        for (row, contender) in Contender::ALL.into_iter().enumerate() {
            for (table, cost) in tables.iter_mut().zip(contender.costs(programs).await?) {
                table[row].values.push(cost);
            }
        }
    }
    for (rows, (clients, _, pace)) in tables.iter_mut().zip(PACED) {
        report::heading(&format!(
            "{pace} small events a second to {clients} clients: processor time a delivery"
        ));
        report::draw("");
        report::processor_times(rows);
        let [pgio, alone, write] =
            [&rows[2], &rows[4], &rows[5]].map(|row| report::median(&mut row.values.clone()));
        report::ratio("pgio : bare write", pgio / write);
        report::ratio("socketioxide, no Postgres : bare write", alone / write);
    }
    Ok(())
}

/// What is measured, in the order of the rows.
#[derive(Clone, Copy)]
enum Contender {
    Server(Peer),
    OneWorker,
    Alone,
    BareWrite,
}

impl Contender {
    const ALL: [Self; 6] = [
        Self::Server(Peer::Node),
        Self::Server(Peer::Socketioxide),
        Self::Server(Peer::Pgio),
        Self::OneWorker,
        Self::Alone,
        Self::BareWrite,
    ];

    fn name_and_command(self) -> (&'static str, &'static str) {
        match self {
            Self::Server(peer) => (peer.name(), peer.command()),
            Self::OneWorker => (one_worker::NAME, one_worker::COMMAND),
            Self::Alone => (alone::NAME, alone::COMMAND),
            Self::BareWrite => (bare_write::NAME, bare_write::COMMAND),
        }
    }

    /// The processor time of a delivery for each of [`PACED`], in microseconds.
    async fn costs(self, programs: &Programs) -> io::Result<Vec<f64>> {
        match self {
            Self::Server(peer) => deliver(programs, peer, &peer.start(programs)?).await,
            Self::OneWorker => deliver(programs, Peer::Pgio, &one_worker::start(programs)?).await,
            Self::Alone => {
                let mut server = alone::start(programs)?;
                alone::measure(&mut server, 1, WARM_UP, 0).await?;
                let mut costs = Vec::new();
                for (count, events, pace) in PACED {
                    costs.push(alone::measure(&mut server, count, events, pace).await?.processor);
                }
                Ok(costs)
            }
            Self::BareWrite => {
                let mut costs = Vec::new();
                for (count, events, pace) in PACED {
                    costs.push(bare_write::measure(count, events, pace).await?.processor);
                }
                Ok(costs)
            }
        }
    }
}

async fn deliver(programs: &Programs, peer: Peer, server: &Server) -> io::Result<Vec<f64>> {
    let publisher = peer.publisher(programs).await?;
    clients::until_reached(&publisher, &server.address).await?;
    load::flood(&publisher, clients::connect(&server.address, 1).await?, WARM_UP).await?;
    let mut costs = Vec::new();
    for (count, events, pace) in PACED {
        let clients = clients::connect(&server.address, count).await?;
        let before = server.processor_time()?;
        load::paced(&publisher, clients, events, pace).await?;
        costs.push(server.per_delivery(before, count * events)?);
    }
    Ok(costs)
}
