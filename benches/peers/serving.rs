//! A `pgio serve` beside a Node server: how fast events get through it to its clients, and what its clients cost.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgio::Emitter;
use tokio::time::{MissedTickBehavior, interval};

use super::clients::{self, Client};
use super::programs::Programs;
use super::report;

const ROUNDS: usize = 3;
/// Events to one client.
const EVENTS: usize = 100_000;
/// Events to many clients, and how many these are.
const FAN_OUT: (usize, usize) = (1_000, 500);
/// Events at a steady pace, how many a second, and to how few and how many clients.
const PACED: (usize, u32) = (5_000, 1_000);
const PACED_CLIENTS: [usize; 2] = [1, 50];
const IDLE: usize = 1_000;

/// What one server did in one round.
struct Round {
    one: f64,
    fan_out: f64,
    /// The median and the 99th percentile, for few clients and for many.
    latencies: [[Duration; 2]; 2],
    /// Bytes of memory with idle clients.
    memory: u64,
}

pub async fn run(programs: &Programs) -> io::Result<()> {
    let mut node = Vec::new();
    let mut pgio = Vec::new();
    for _ in 0..ROUNDS {
        node.push(round(programs, &mut programs.node("server.js")).await?);
        let mut serve = programs.pgio();
        pgio.push(round(programs, serve.args(["serve", "-o", "json", "--listen", "127.0.0.1:0"])).await?);
    }
    let (node_command, pgio_command) = ("node server.js   # @socket.io/postgres-adapter 0.5.0", "pgio serve");
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

    for (few_or_many, clients) in PACED_CLIENTS.iter().enumerate() {
        let what = if *clients == 1 { "a client".to_owned() } else { format!("each of {clients} clients") };
        report::heading(&format!("From the emitter to {what} at {} events/s", PACED.1));
        for (percentile, name) in ["median", "p99"].iter().enumerate() {
            let of = |round: &Round| round.latencies[few_or_many][percentile].as_secs_f64();
            let [theirs, ours] = [median(&node, of), median(&pgio, of)];
            report::time(&format!("Node, {name}"), Duration::from_secs_f64(theirs), node_command);
            report::time(&format!("pgio, {name}"), Duration::from_secs_f64(ours), pgio_command);
            report::ratio("pgio : Node", ours / theirs);
        }
    }

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

/// A server process, which ends with this.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| io::Error::other("the server has no stdout"))?;
        let mut server = Self { process, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let said: serde_json::Value = serde_json::from_str(&line)?;
        let address = said["address"].as_str();
        server.address = address.ok_or_else(|| io::Error::other("the server did not start"))?.to_owned();
        Ok(server)
    }

    /// Resident bytes.
    fn memory(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kilobytes: u64 =
            resident.and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::other("no VmRSS"))?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which whoever waits for its answers has noticed.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

async fn round(programs: &Programs, command: &mut Command) -> io::Result<Round> {
    let emitter = Emitter::connect(programs.url()).await.map_err(io::Error::other)?;
    // Memory first, as the process has only just started.
    let server = Server::start(command)?;
    let idle = clients::connect(&server.address, IDLE).await?;
    let memory = server.memory()?;
    drop(idle);

    // Of a server that has warmed up.
    flood(&emitter, clients::connect(&server.address, 1).await?, EVENTS / 10).await?;
    let one = flood(&emitter, clients::connect(&server.address, 1).await?, EVENTS).await?;
    let (events, many) = FAN_OUT;
    let fan_out = flood(&emitter, clients::connect(&server.address, many).await?, events).await?;
    let mut latencies = [[Duration::ZERO; 2]; 2];
    for (latency, count) in latencies.iter_mut().zip(PACED_CLIENTS) {
        *latency = at_a_pace(&emitter, clients::connect(&server.address, count).await?).await?;
    }
    Ok(Round { one, fan_out, latencies, memory })
}

/// Emits as fast as it goes; how many events a second reached clients, until the last had the last.
async fn flood(emitter: &Emitter, clients: Vec<Client>, events: usize) -> io::Result<f64> {
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

/// Emits at a steady pace; the median and the 99th percentile of the time until clients have it.
async fn at_a_pace(emitter: &Emitter, clients: Vec<Client>) -> io::Result<[Duration; 2]> {
    let (events, pace) = PACED;
    let start = Instant::now();
    let mut ticks = interval(Duration::from_secs(1) / pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let receiving = tokio::spawn(clients::receive_times(clients, events, start));
    let mut receipts = Vec::with_capacity(events);
    for _ in 0..events {
        ticks.tick().await;
        let now = u64::try_from(start.elapsed().as_nanos()).map_err(io::Error::other)?;
        receipts.push(emitter.to(&[] as &[String]).enqueue("tick", now).await.map_err(io::Error::other)?);
    }
    for receipt in receipts {
        receipt.await.map_err(io::Error::other)?;
    }
    let mut times = receiving.await??;
    times.sort();
    Ok([times[times.len() / 2], times[times.len() * 99 / 100]])
}
