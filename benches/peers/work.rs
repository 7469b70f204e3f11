//! Deliveries of a server that emits the events itself.

use std::io;
use std::time::Instant;

use super::server::Server;
use super::{clients, load};

/// Deliveries, and what they cost.
pub struct Work {
    /// Deliveries a second.
    pub rate: f64,
    /// Processor time for each, in microseconds.
    pub processor: f64,
}

/// Connects so many clients, and orders so many events for them with a line.
pub async fn measure(server: &mut Server, count: usize, events: usize, order: &str) -> io::Result<Work> {
    let clients = clients::connect(&server.address, count).await?;
    let before = server.processor_time()?;
    let receiving = tokio::spawn(clients::receive(clients, events));
    let start = Instant::now();
    server.order(order)?;
    let rate = load::rate(count, events, start, &receiving.await??)?;
    Ok(Work { rate, processor: server.per_delivery(before, count * events)? })
}
