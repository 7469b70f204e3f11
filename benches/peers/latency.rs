//! How long an event is on its way from the emitter to clients, through a `pgio serve` and through a Node server.
//!
//! Most of that time both share: it is Postgres, and this program, which emits and receives. So that is measured as well,
//! with nothing between: a connection that listens on the same channel.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use pgio::Emitter;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{AsyncMessage, NoTls};

use super::clients;
use super::programs::Programs;
use super::report::{self, Times};
use super::server::{self, Server};
use super::serving::flood;

const ROUNDS: usize = 5;
/// How many events, and how many a second.
const PACED: (usize, u32) = (5_000, 1_000);
const CLIENTS: [usize; 3] = [1, 50, 100];
/// Events before anything is measured.
const WARMING_UP: usize = 20_000;

/// One of the times that are kept.
type Percentile = fn(&Times) -> Duration;

pub async fn run(programs: &Programs) -> io::Result<()> {
    let emitter = Emitter::connect(programs.url()).await.map_err(io::Error::other)?;
    let [node, serve] = server::COMMANDS;
    let names = ["nothing between", "Node", "pgio"];
    let commands = ["LISTEN, in the program that emits", node, serve];
    for count in CLIENTS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let [mut node, mut pgio] = server::both(programs);
            let nothing = at_a_pace(&emitter, listen(programs.url()).await?).await?;
            rounds.push([
                nothing,
                through(&emitter, &mut node, count).await?,
                through(&emitter, &mut pgio, count).await?,
            ]);
        }
        let what = if count == 1 { "a client".to_owned() } else { format!("each of {count} clients") };
        report::heading(&format!(
            "From the emitter to {what} at {} events/s: median of {ROUNDS} rounds",
            PACED.1
        ));
        let percentiles: [(&str, Percentile); 2] =
            [("median", |times| times.median), ("p99", |times| times.p99)];
        for (name, percentile) in percentiles {
            let of = |who: usize| {
                let times = rounds.iter().map(|round: &[Times; 3]| percentile(&round[who]).as_secs_f64());
                report::median(&mut times.collect::<Vec<_>>())
            };
            for who in 0..3 {
                let time = Duration::from_secs_f64(of(who));
                report::time(&format!("{}, {name}", names[who]), time, commands[who]);
            }
            let [nothing, node, pgio] = [of(0), of(1), of(2)];
            report::ratio("pgio : Node", pgio / node);
            report::ratio("beyond nothing between, pgio : Node", (pgio - nothing) / (node - nothing));
        }
    }
    Ok(())
}

/// The same for a server that has warmed up.
async fn through(emitter: &Emitter, command: &mut Command, count: usize) -> io::Result<Times> {
    let server = Server::start(command)?;
    clients::until_reached(emitter, &server.address).await?;
    flood(emitter, clients::connect(&server.address, 1).await?, WARMING_UP).await?;
    let clients = clients::connect(&server.address, count).await?;
    at_a_pace(emitter, |start| clients::receive_times(clients, PACED.0, start)).await
}

/// Emits at a steady pace, and says how long events took to whoever receives them.
async fn at_a_pace<R>(emitter: &Emitter, receive: impl FnOnce(Instant) -> R) -> io::Result<Times>
where
    R: Future<Output = io::Result<Vec<Duration>>> + Send + 'static,
{
    let (events, pace) = PACED;
    let start = Instant::now();
    let receiving = tokio::spawn(receive(start));
    let mut ticks = interval(Duration::from_secs(1) / pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut receipts = Vec::with_capacity(events);
    for _ in 0..events {
        ticks.tick().await;
        let now = u64::try_from(start.elapsed().as_nanos()).map_err(io::Error::other)?;
        receipts.push(emitter.to(&[] as &[String]).enqueue("tick", now).await.map_err(io::Error::other)?);
    }
    for receipt in receipts {
        receipt.await.map_err(io::Error::other)?;
    }
    Times::of(receiving.await??)
}

/// The time that each event is on its way to a connection that listens, and does nothing else.
async fn listen(
    url: &str,
) -> io::Result<impl FnOnce(Instant) -> BoxFuture<'static, io::Result<Vec<Duration>>>> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.map_err(io::Error::other)?;
    {
        let mut listening = pin!(client.batch_execute("LISTEN \"socket.io#/\""));
        loop {
            tokio::select! {
                outcome = &mut listening => break outcome.map_err(io::Error::other)?,
                message = poll_fn(|context| connection.poll_message(context)) => drop(message),
            }
        }
    }
    Ok(move |start: Instant| {
        async move {
            let mut times = Vec::with_capacity(PACED.0);
            while times.len() < PACED.0 {
                let message = poll_fn(|context| connection.poll_message(context)).await;
                let message = message.ok_or_else(|| io::Error::other("Postgres has hung up"))?;
                if let AsyncMessage::Notification(event) = message.map_err(io::Error::other)?
                    && let Some(sent) = sent(event.payload())
                {
                    times.push(start.elapsed().saturating_sub(Duration::from_nanos(sent)));
                }
            }
            drop(client);
            Ok(times)
        }
        .boxed()
    })
}

/// When an event was emitted, in nanoseconds since the start.
fn sent(payload: &str) -> Option<u64> {
    let (_, rest) = payload.split_once("[\"tick\",")?;
    rest.split_once(']')?.0.parse().ok()
}
