//! What it costs to list the sockets and the rooms of a large cluster.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::asker::{Asker, Question};
use super::clients;
use super::peers::Peer;
use super::programs::{Programs, successful};
use super::report::{self, Row};

const ROUNDS: usize = 5;
const NODES: usize = 4;
const SOCKETS: usize = 10_000;
const ROOMS: usize = 1_000;

pub async fn run(programs: &Programs) -> io::Result<()> {
    let mut rows = Vec::new();
    let mut listed = (Duration::ZERO, Duration::ZERO);
    for peer in Peer::ALL {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let node = peer.start(programs)?;
            let mut clients = clients::connect(&node.address, SOCKETS / NODES).await?;
            for (i, client) in clients.iter_mut().enumerate() {
                client.join(&format!("room {}", i % ROOMS)).await?;
            }
            nodes.push((node, clients));
        }
        let asker = Asker::start(programs, peer).await?;
        asker.until(Question::Sockets, SOCKETS).await?;
        let mut times = Vec::new();
        for _ in 0..programs.rounds(ROUNDS) {
            let start = Instant::now();
            let count = asker.ask(Question::Sockets).await?;
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            if count != SOCKETS {
                return Err(io::Error::other(format!("{count} sockets of {} are listed", peer.name())));
            }
        }
        rows.push(Row::new(peer.name(), times, Asker::command(peer, Question::Sockets)));
        if let Peer::Pgio = peer {
            listed = rooms(programs)?;
        }
    }
    report::heading(&format!("Listing all {SOCKETS} sockets of {NODES} nodes (fetchSockets): time"));
    report::draw("");
    let [node, socketioxide, pgio] = report::rows("ms", &mut rows);
    report::ratio("Node : pgio", node / pgio);
    report::ratio("socketioxide : pgio", socketioxide / pgio);

    report::heading(&format!("{SOCKETS} sockets in {ROOMS} rooms on {NODES} nodes"));
    report::time("until all is printed", listed.0, ROOMS_COMMAND);
    report::time("processor time of its own", listed.1, ROOMS_COMMAND);
    Ok(())
}

const ROOMS_COMMAND: &str = "pgio rooms -o json";

/// How long the program takes to list the rooms, and its processor time.
fn rooms(programs: &Programs) -> io::Result<(Duration, Duration)> {
    let (start, own) = (Instant::now(), time_of_children()?);
    let mut command = programs.pgio();
    let output = command.args(["rooms", "-o", "json"]).stderr(Stdio::inherit()).output()?;
    successful(&command, output.status)?;
    let (took, own) = (start.elapsed(), time_of_children()? - own);
    let rooms = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    match rooms == ROOMS {
        true => Ok((took, own)),
        false => Err(io::Error::other(format!("{rooms} rooms are listed, not {ROOMS}"))),
    }
}

/// The processor time of the programs that this one has run to their end.
fn time_of_children() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let sum = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(u64::try_from(sum.num_microseconds()).map_err(io::Error::other)?))
}
