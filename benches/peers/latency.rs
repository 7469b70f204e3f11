//! How long an event is on its way from the statement that publishes it to clients, through each of the servers.
//!
//! All share most of that time: it is Postgres, and this program, which publishes and receives. So that is measured as
//! well, with nothing between: a connection that listens on the same channel.

use std::io;
use std::time::{Duration, Instant};

use super::clients;
use super::listener::Listener;
use super::load::flood;
use super::peers::Peer;
use super::programs::Programs;
use super::publisher::{Publisher, nanoseconds_since};
use super::report::{self, Times};

/// Clients, events a second, and for how many seconds.
const CASES: [(usize, u32, usize); 5] =
    [(1, 100, 5), (1, 1_000, 5), (1, 10_000, 5), (50, 1_000, 5), (100, 1_000, 5)];

/// The number of rounds. To one client the servers differ less than the rounds do, so there are more.
fn rounds(clients: usize) -> usize {
    if clients == 1 { 7 } else { 3 }
}

/// Events before anything is measured.
const WARMING_UP: usize = 20_000;

/// One of the times that are kept.
type Percentile = fn(&Times) -> Duration;

const PERCENTILES: [(&str, Percentile); 3] =
    [("median", |times| times.median), ("p99", |times| times.p99), ("p99.9", |times| times.p999)];

pub async fn run(programs: &Programs) -> io::Result<()> {
    for (clients, pace, seconds) in CASES {
        let count = programs.rounds(rounds(clients));
        let events = pace as usize * seconds;
        let mut rounds = Vec::new();
        for _ in 0..count {
            let listener = Listener::connect(programs.url()).await?;
            let publisher = Peer::Pgio.publisher(programs).await?;
            let mut round =
                vec![at_a_pace(&publisher, events, pace, |start| listener.times(events, start)).await?];
            for peer in Peer::ALL {
                round.push(through(programs, peer, clients, events, pace).await?);
            }
            rounds.push(round);
        }
        let what = if clients == 1 { "a client".into() } else { format!("each of {clients} clients") };
        report::heading(&format!(
            "Latency from NOTIFY to {what} at {pace} events/s: median of {count} rounds"
        ));
        report::draw("p99");
        for (name, percentile) in PERCENTILES {
            let of = |contender: usize| {
                let times = rounds.iter().map(|round| percentile(&round[contender]).as_secs_f64());
                report::median(&mut times.collect::<Vec<_>>())
            };
            let all = [of(0), of(1), of(2), of(3)];
            report_times(name, all);
        }
    }
    Ok(())
}

fn report_times(percentile: &str, [nothing, node, socketioxide, pgio]: [f64; 4]) {
    let row = |name: &str, seconds: f64, command: &str| {
        report::time(&format!("{name}, {percentile}"), Duration::from_secs_f64(seconds), command);
    };
    row("nothing between", nothing, "LISTEN, in the program that publishes");
    for (peer, seconds) in Peer::ALL.into_iter().zip([node, socketioxide, pgio]) {
        row(peer.name(), seconds, peer.command());
    }
    report::ratio("pgio : Node", pgio / node);
    report::ratio("pgio : socketioxide", pgio / socketioxide);
    for (peer, seconds) in [("Node", node), ("socketioxide", socketioxide)] {
        // Where nothing between takes as long, there is nothing to compare.
        if seconds > nothing && pgio > nothing {
            let ratio = (pgio - nothing) / (seconds - nothing);
            report::ratio(&format!("beyond nothing between, pgio : {peer}"), ratio);
        }
    }
}

/// The same for a server that has warmed up.
async fn through(
    programs: &Programs,
    peer: Peer,
    count: usize,
    events: usize,
    pace: u32,
) -> io::Result<Times> {
    let publisher = peer.publisher(programs).await?;
    let server = peer.start(programs)?;
    clients::until_reached(&publisher, &server.address).await?;
    flood(&publisher, clients::connect(&server.address, 1).await?, WARMING_UP).await?;
    let clients = clients::connect(&server.address, count).await?;
    at_a_pace(&publisher, events, pace, |start| clients::receive_times(clients, events, start)).await
}

/// Publishes at a steady pace; how long events took to what receives them.
async fn at_a_pace<R>(
    publisher: &Publisher,
    events: usize,
    pace: u32,
    receive: impl FnOnce(Instant) -> R,
) -> io::Result<Times>
where
    R: Future<Output = io::Result<Vec<Duration>>> + Send + 'static,
{
    let start = Instant::now();
    let receiving = tokio::spawn(receive(start));
    publisher.at_a_pace(events, pace, |_| nanoseconds_since(start)).await?;
    Times::of(receiving.await??)
}
