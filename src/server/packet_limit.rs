//! Bounds the packets in one request of a client that polls.
//!
//! engineioxide handles all packets of a request before anything else runs, and each may start a task. So a request
//! with very many short packets would take much memory at once. Its session ends instead.

/// The maximum number of packets in one request. A browser collects packets only while its last request is in progress.
const MAX_PACKETS: usize = 10_000;

/// The separator of the packets in a request.
const SEPARATOR: u8 = 0x1e;

/// Counts the packets of a request.
#[derive(Default)]
pub(super) struct PacketCount {
    separators: usize,
}

impl PacketCount {
    /// Counts the packets in the next part of the body. Returns false if there are too many.
    pub(super) fn add(&mut self, data: &[u8]) -> bool {
        self.separators += data.iter().filter(|byte| **byte == SEPARATOR).count();
        self.separators < MAX_PACKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_packets_are_allowed() {
        let mut count = PacketCount::default();
        assert!(count.add(&[SEPARATOR; 5000]) && count.add(b"4") && count.add(&[SEPARATOR; 4999]));
        assert!(!count.add(&[SEPARATOR]));
    }
}
