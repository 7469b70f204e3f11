//! A connection that listens on the channel of the main namespace, and does nothing else.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};

pub struct Listener {
    connection: Connection<Socket, NoTlsStream>,
    /// The connection lasts as long as this.
    _client: Client,
}

impl Listener {
    pub async fn connect(url: &str) -> io::Result<Self> {
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
        Ok(Self { connection, _client: client })
    }

    /// The number of the next event.
    pub async fn next(&mut self) -> io::Result<u64> {
        loop {
            let message = poll_fn(|context| self.connection.poll_message(context)).await;
            let message = message.ok_or_else(|| io::Error::other("Postgres has hung up"))?;
            if let AsyncMessage::Notification(event) = message.map_err(io::Error::other)?
                && let Some(number) = number_of(event.payload())
            {
                return Ok(number);
            }
        }
    }

    /// Receives so many events that carry the nanoseconds since `start`; how long each was on its way.
    pub async fn times(mut self, events: usize, start: Instant) -> io::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(events);
        for _ in 0..events {
            let sent = self.next().await?;
            times.push(start.elapsed().saturating_sub(Duration::from_nanos(sent)));
        }
        Ok(times)
    }
}

fn number_of(payload: &str) -> Option<u64> {
    let (_, rest) = payload.split_once("[\"tick\",")?;
    rest.split_once(']')?.0.parse().ok()
}
