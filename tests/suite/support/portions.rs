//! Many numbered events, without filling the buffer of a client that reads.

use std::time::Duration;

use pgio::Emitter;

use super::node::Client;

const PATIENCE: Duration = Duration::from_secs(120);

/// Events `n` with the numbers from 0, each with a padding.
pub struct Numbered {
    pub count: u64,
    /// How many are emitted before the clients have to have received them.
    pub portion: u64,
    /// In bytes.
    pub padding: usize,
}

impl Numbered {
    /// Emits them. The clients count.
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
