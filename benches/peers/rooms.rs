//! What `pgio rooms` costs in a large cluster.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::clients;
use super::programs::{Programs, successful};
use super::report;
use super::server::Server;

const NODES: usize = 4;
const SOCKETS: usize = 10_000;
const ROOMS: usize = 1_000;

pub async fn run(programs: &Programs) -> io::Result<()> {
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let mut serve = programs.pgio();
        serve.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--allow-join", "*"]);
        let node = Server::start(&mut serve)?;
        let mut clients = clients::connect(&node.address, SOCKETS / NODES).await?;
        for (i, client) in clients.iter_mut().enumerate() {
            client.join(&format!("room {}", i % ROOMS)).await?;
        }
        nodes.push((node, clients));
    }

    let arguments = ["rooms", "-o", "json"];
    let (start, own) = (Instant::now(), time_of_children()?);
    let mut command = programs.pgio();
    let output = command.args(arguments).stderr(Stdio::inherit()).output()?;
    successful(&command, output.status)?;
    let (took, own) = (start.elapsed(), time_of_children()? - own);
    let rooms = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    if rooms != ROOMS {
        return Err(io::Error::other(format!("{rooms} rooms are listed, not {ROOMS}")));
    }
    report::heading(&format!("{SOCKETS} sockets in {ROOMS} rooms on {NODES} nodes"));
    let command = format!("pgio {}", arguments.join(" "));
    report::time("until all is printed", took, &command);
    report::time("processor time of its own", own, &command);
    Ok(())
}

/// The processor time of the programs that this one has run to their end.
fn time_of_children() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let sum = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(u64::try_from(sum.num_microseconds()).map_err(io::Error::other)?))
}
