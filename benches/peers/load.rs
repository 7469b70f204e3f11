//! Events for the clients of a server, at full speed or at a pace.

use std::io;
use std::time::Instant;

use super::clients::{self, Client, Received};
use super::publisher::Publisher;

/// Publishes at full speed. Returns the deliveries a second, until the last client has received the last event.
pub async fn flood(publisher: &Publisher, clients: Vec<Client>, events: usize) -> io::Result<f64> {
    let transactions = publisher.prepare(events);
    let count = clients.len();
    let receiving = tokio::spawn(clients::receive(clients, events));
    let start = Instant::now();
    publisher.flood(transactions).await?;
    rate(count, events, start, &receiving.await??)
}

/// Publishes at a steady pace, until all clients have all events.
pub async fn paced(publisher: &Publisher, clients: Vec<Client>, events: usize, pace: u32) -> io::Result<()> {
    let count = clients.len();
    let receiving = tokio::spawn(clients::receive(clients, events));
    let start = Instant::now();
    publisher.at_a_pace(events, pace, |number| number as u64).await?;
    rate(count, events, start, &receiving.await??).map(|_| ())
}

/// The deliveries a second of all that the clients have received; an error if that is not all, in order.
pub fn rate(clients: usize, events: usize, start: Instant, received: &[Received]) -> io::Result<f64> {
    let last = received.iter().map(|received| received.last).max().unwrap_or(start);
    let are_whole = received.iter().all(|received| received.numbers.iter().copied().eq(0..events as u64));
    match are_whole {
        true => Ok((clients * events) as f64 / (last - start).as_secs_f64()),
        false => Err(io::Error::other("events were lost or came in another order")),
    }
}
