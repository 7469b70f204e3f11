//! The least that a server can do with Postgres: it receives the notifications, and nothing else. It is a process of its
//! own: `peers bare-listen EVENTS`, with the database in DATABASE_URL.

use std::io;
use std::time::{Duration, Instant};

use super::listener::Listener;
use super::programs::Programs;
use super::publisher::Publisher;
use super::server::Server;
use super::work::Work;

/// The name of the role.
pub const ROLE: &str = "bare-listen";

/// What the process does.
pub fn play(mut arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let events = arguments.next().and_then(|text| text.parse::<u64>().ok());
    let events = events.ok_or_else(|| io::Error::other("the number of events is missing"))?;
    let url = std::env::var("DATABASE_URL").map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut listener = Listener::connect(&url).await?;
        println!("{{\"address\":\"\"}}");
        let mut received = 0_u64;
        while listener.next().await? + 1 < events {
            received += 1;
        }
        println!("{}", received + 1);
        // Until it is killed: its figures are read before.
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    })
}

/// Runs the process in a flood of so many events. Returns as well how many of them it did not receive.
pub async fn measure(programs: &Programs, publisher: &Publisher, events: usize) -> io::Result<(Work, usize)> {
    let mut command = super::own_role(ROLE)?;
    command.arg(events.to_string()).env("DATABASE_URL", programs.url());
    let mut server = Server::start(&mut command)?;
    let transactions = publisher.prepare(events);
    let before = server.processor_time()?;
    let start = Instant::now();
    let receiving = tokio::task::spawn_blocking(move || server.line().map(|line| (line, server)));
    publisher.flood(transactions).await?;
    let (line, server) = receiving.await??;
    let rate = events as f64 / start.elapsed().as_secs_f64();
    let received: usize = line.trim().parse().map_err(io::Error::other)?;
    Ok((Work { rate, processor: server.per_delivery(before, events)? }, events - received))
}
