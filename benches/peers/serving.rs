//! A `pgio serve` beside a Node server: how many events a second get through it, and what its clients cost.

use std::io;
use std::process::Command;
use std::time::Instant;

use pgio::Emitter;

use super::clients::{self, Client};
use super::programs::Programs;
use super::report;
use super::server::{self, Server};

const ROUNDS: usize = 3;
/// Events to one client.
const EVENTS: usize = 100_000;
/// Events to many clients, and how many these are.
const FAN_OUT: (usize, usize) = (1_000, 500);
const IDLE: usize = 1_000;

/// What one server did in one round.
struct Round {
    one: f64,
    fan_out: f64,
    /// Bytes of memory with idle clients.
    memory: u64,
}

pub async fn run(programs: &Programs) -> io::Result<()> {
    let mut node = Vec::new();
    let mut pgio = Vec::new();
    for _ in 0..ROUNDS {
        let [mut node_server, mut pgio_server] = server::both(programs);
        node.push(round(programs, &mut node_server).await?);
        pgio.push(round(programs, &mut pgio_server).await?);
    }
    let [node_command, pgio_command] = server::COMMANDS;
    let both = |of: fn(&Round) -> f64| [median(&node, of), median(&pgio, of)];

    report::heading(&format!(
        "{EVENTS} small events through a server to one client: median of {ROUNDS} rounds"
    ));
    let [theirs, ours] = both(|round| round.one);
    report::rate("Node", theirs, node_command);
    report::rate("pgio", ours, pgio_command);
    report::ratio("pgio : Node", ours / theirs);

    let (events, many) = FAN_OUT;
    report::heading(&format!("{events} small events to {many} clients: deliveries"));
    let [theirs, ours] = both(|round| round.fan_out);
    report::rate("Node", theirs, node_command);
    report::rate("pgio", ours, pgio_command);
    report::ratio("pgio : Node", ours / theirs);

    report::heading(&format!("Resident memory with {IDLE} idle clients"));
    let [theirs, ours] = both(|round| round.memory as f64);
    report::memory("Node", theirs, node_command);
    report::memory("pgio", ours, pgio_command);
    report::ratio("pgio : Node", ours / theirs);
    Ok(())
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    report::median(&mut rounds.iter().map(of).collect::<Vec<_>>())
}

async fn round(programs: &Programs, command: &mut Command) -> io::Result<Round> {
    let emitter = Emitter::connect(programs.url()).await.map_err(io::Error::other)?;
    // Memory first, as the process has only just started.
    let server = Server::start(command)?;
    let idle = clients::connect(&server.address, IDLE).await?;
    let memory = server.memory()?;
    drop(idle);

    // Of a server that has warmed up.
    clients::until_reached(&emitter, &server.address).await?;
    flood(&emitter, clients::connect(&server.address, 1).await?, EVENTS / 10).await?;
    let one = flood(&emitter, clients::connect(&server.address, 1).await?, EVENTS).await?;
    let (events, many) = FAN_OUT;
    let fan_out = flood(&emitter, clients::connect(&server.address, many).await?, events).await?;
    Ok(Round { one, fan_out, memory })
}

/// Emits as fast as it goes; how many events a second reached clients, until the last had the last.
pub async fn flood(emitter: &Emitter, clients: Vec<Client>, events: usize) -> io::Result<f64> {
    let deliveries = (clients.len() * events) as f64;
    let receiving = tokio::spawn(clients::receive(clients, events));
    let start = Instant::now();
    emitter.emit_all((0..events).map(|number| ("tick", number))).await.map_err(io::Error::other)?;
    let received = receiving.await??;
    let last = received.iter().map(|received| received.last).max().unwrap_or(start);
    let are_whole = received.iter().all(|received| received.numbers.iter().copied().eq(0..events as u64));
    if !are_whole {
        return Err(io::Error::other("events were lost or came in another order"));
    }
    Ok(deliveries / (last - start).as_secs_f64())
}
