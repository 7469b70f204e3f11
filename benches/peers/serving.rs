//! A `pgio serve` beside a Node server: how many events a second get through it, and what its clients cost.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use pgio::Emitter;

use super::clients::{self, Client};
use super::programs::Programs;
use super::report;
use super::server::{self, Server};

const ROUNDS: usize = 3;
const IDLE: usize = 1_000;

/// Clients, and events to each of them.
const FLOODS: [(usize, usize); 3] = [(1, 100_000), (100, 5_000), (1_000, 1_000)];

/// Events at a steady pace: clients, events, and events a second.
const PACED: (usize, usize, u32) = (100, 1_000, 200);

/// What a server did in one round.
struct Round {
    floods: Vec<Work>,
    paced: Work,
    /// Bytes of memory with idle clients.
    memory: u64,
}

/// Deliveries, and what they cost.
struct Work {
    /// Deliveries a second.
    rate: f64,
    /// Processor time of the server for each, in microseconds.
    processor: f64,
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
    let both = |of: &dyn Fn(&Round) -> f64| [values(&node, of), values(&pgio, of)];

    for (index, (clients, events)) in FLOODS.into_iter().enumerate() {
        let clients = if clients == 1 { "one client".to_owned() } else { format!("{clients} clients") };
        report::heading(&format!("{events} small events at full speed to {clients}: deliveries"));
        let [mut theirs, mut ours] = both(&|round| round.floods[index].rate);
        let theirs = report::rates("Node", &mut theirs, node_command);
        let ours = report::rates("pgio", &mut ours, pgio_command);
        report::ratio("pgio : Node", ours / theirs);
        let [theirs, ours] = both(&|round| round.floods[index].processor);
        processor(theirs, ours);
    }

    let (clients, _, pace) = PACED;
    report::heading(&format!(
        "{pace} small events a second to {clients} clients: processor time of the server"
    ));
    let [theirs, ours] = both(&|round| round.paced.processor);
    processor(theirs, ours);

    report::heading(&format!("Resident memory with {IDLE} idle clients"));
    let [mut theirs, mut ours] = both(&|round| round.memory as f64);
    let [theirs, ours] = [report::median(&mut theirs), report::median(&mut ours)];
    report::memory("Node", theirs, node_command);
    report::memory("pgio", ours, pgio_command);
    report::ratio("pgio : Node", ours / theirs);
    Ok(())
}

fn processor(mut theirs: Vec<f64>, mut ours: Vec<f64>) {
    let [node_command, pgio_command] = server::COMMANDS;
    let theirs = report::processor_times("Node, processor time a delivery", &mut theirs, node_command);
    let ours = report::processor_times("pgio, processor time a delivery", &mut ours, pgio_command);
    report::ratio("Node : pgio", theirs / ours);
}

fn values(rounds: &[Round], of: &dyn Fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(of).collect()
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
    flood(&emitter, clients::connect(&server.address, 1).await?, FLOODS[0].1 / 10).await?;
    let mut floods = Vec::new();
    for (count, events) in FLOODS {
        let clients = clients::connect(&server.address, count).await?;
        let before = server.processor_time()?;
        let rate = flood(&emitter, clients, events).await?;
        floods.push(Work { rate, processor: per_delivery(&server, before, count * events)? });
    }
    let (count, events, pace) = PACED;
    let clients = clients::connect(&server.address, count).await?;
    let before = server.processor_time()?;
    let rate = paced(&emitter, clients, events, pace).await?;
    let paced = Work { rate, processor: per_delivery(&server, before, count * events)? };
    Ok(Round { floods, paced, memory })
}

/// The processor time of the server since then for each delivery, in microseconds.
fn per_delivery(server: &Server, before: Duration, deliveries: usize) -> io::Result<f64> {
    Ok((server.processor_time()? - before).as_secs_f64() * 1e6 / deliveries as f64)
}

/// Emits at a steady pace; returns the deliveries a second.
async fn paced(emitter: &Emitter, clients: Vec<Client>, events: usize, pace: u32) -> io::Result<f64> {
    let deliveries = (clients.len() * events) as f64;
    let receiving = tokio::spawn(clients::receive(clients, events));
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / pace);
    for number in 0..events {
        ticks.tick().await;
        emitter.emit("tick", number).await.map_err(io::Error::other)?;
    }
    receiving.await??;
    Ok(deliveries / start.elapsed().as_secs_f64())
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
