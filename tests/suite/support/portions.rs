//! Many numbered events, in portions that fit into the buffer of a client.

use std::time::Duration;

use pgio::Emitter;

use super::node::Client;

const PATIENCE: Duration = Duration::from_secs(120);

/// Events `n` with the numbers from 0, each with a padding.
pub struct Numbered {
    pub count: u64,
    /// The number of events that are emitted before the clients must have received them.
    pub portion: u64,
    /// The size of the padding, in bytes.
    pub padding: usize,
}

impl Numbered {
    /// Emits the events. The clients count them.
    pub async fn emit(self, url: &str, clients: &[&Client]) {
        let emitter = Emitter::connect(url).await.unwrap();
        let padding = "x".repeat(self.padding);
        let mut next = 0;
        while next < self.count {
            let numbers = next..self.count.min(next + self.portion);
            next = numbers.end;
            emitter.emit_all(numbers.map(|n| ("n", (n, &padding)))).await.unwrap();
            for client in clients {
                client.wait_for_tally("n", next, PATIENCE).await;
            }
        }
    }
}
