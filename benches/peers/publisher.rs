//! Publishes events for any of the servers, with the same statements: what differs is the server.

use std::io;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{Client, NoTls, Statement};

use super::format::Format;
use super::publishing::TRANSACTION;

/// How many statements wait for Postgres at once in a flood.
const PIPELINE: usize = 8;

/// A connection that publishes with `synchronous_commit` off.
pub struct Publisher {
    client: Client,
    notify: Statement,
    format: Format,
}

impl Publisher {
    pub async fn connect(url: &str, format: Format) -> io::Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(io::Error::other)?;
        // Every statement fails once the connection does.
        tokio::spawn(connection);
        client.batch_execute("SET synchronous_commit = off").await.map_err(io::Error::other)?;
        let notify = "SELECT pg_notify($1, event) FROM unnest($2::text[]) event";
        let notify = client.prepare(notify).await.map_err(io::Error::other)?;
        Ok(Self { client, notify, format })
    }

    /// Publishes one event.
    pub async fn publish(&self, number: u64) -> io::Result<()> {
        self.send(vec![self.format.text(number)]).await
    }

    /// The notifications of so many events, in transactions.
    pub fn prepare(&self, events: usize) -> Vec<Vec<String>> {
        let numbers: Vec<_> = (0..events as u64).collect();
        let texts = |some: &[u64]| some.iter().map(|number| self.format.text(*number)).collect();
        numbers.chunks(TRANSACTION).map(texts).collect()
    }

    /// Publishes the transactions at full speed.
    pub async fn flood(&self, transactions: Vec<Vec<String>>) -> io::Result<()> {
        let sending = stream::iter(transactions).map(|texts| self.send(texts));
        sending.buffered(PIPELINE).try_for_each(|()| std::future::ready(Ok(()))).await
    }

    /// Publishes so many events at a steady pace. `number` makes the number of each, at the time when it is due. Events
    /// that are due while Postgres is busy share the next transaction.
    pub async fn at_a_pace(&self, events: usize, pace: u32, number: impl Fn(usize) -> u64) -> io::Result<()> {
        let (due, mut waiting) = mpsc::channel(1 << 14);
        let ticking = async move {
            // The clock of the runtime has milliseconds.
            let group = usize::try_from(pace / 1000).map_err(io::Error::other)?.max(1);
            let mut ticks = interval(Duration::from_secs(1) / pace * u32::try_from(group).unwrap_or(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for event in 0..events {
                if event.is_multiple_of(group) {
                    ticks.tick().await;
                }
                due.send(number(event)).await.map_err(io::Error::other)?;
            }
            Ok(())
        };
        let sending = async {
            let mut numbers = Vec::new();
            while waiting.recv_many(&mut numbers, TRANSACTION).await > 0 {
                self.send(numbers.drain(..).map(|number| self.format.text(number)).collect()).await?;
            }
            Ok(())
        };
        futures_util::future::try_join(ticking, sending).await.map(|_| ())
    }

    async fn send(&self, texts: Vec<String>) -> io::Result<()> {
        let (channel, notify) = (&self.format.channel, &self.notify);
        self.client.execute(notify, &[channel, &texts]).await.map(|_| ()).map_err(io::Error::other)
    }
}

/// The nanoseconds since then.
pub fn nanoseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
