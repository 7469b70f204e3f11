//! Consecutive events of other servers with the same targets. A client gets them with one write.

use socketioxide_core::packet::Packet;

use super::local::{SHARED_ENCODING_FROM, size};
use crate::protocol::BroadcastOptions;

/// The maximum number of events in a burst.
const MAX_EVENTS: usize = 128;

/// The maximum size of a burst of several events on the wire, in bytes.
const MAX_BYTES: usize = SHARED_ENCODING_FROM - 1;

/// The bytes of an event on the wire besides its content and its namespace: the heads of its frames and of its packet.
const HEAD_BYTES: usize = 16;

/// At least one event, and those that follow it.
pub(super) struct Burst {
    pub(super) opts: BroadcastOptions,
    pub(super) packets: Vec<Packet>,
    /// The size on the wire, about.
    pub(super) bytes: usize,
}

impl Burst {
    pub(super) fn new(opts: BroadcastOptions, packet: Packet) -> Self {
        let bytes = wire_size(&packet);
        Self { opts, packets: vec![packet], bytes }
    }

    /// Adds an event to a burst, which begins with it if there is none. Returns the burst before it if the event has other
    /// targets, or does not fit.
    #[must_use = "a burst that ends has to be delivered"]
    pub(super) fn add(burst: &mut Option<Self>, opts: BroadcastOptions, packet: Packet) -> Option<Self> {
        match burst {
            Some(burst) if burst.takes(&opts, &packet) => {
                burst.bytes += wire_size(&packet);
                burst.packets.push(packet);
                None
            }
            _ => burst.replace(Self::new(opts, packet)),
        }
    }

    fn takes(&self, opts: &BroadcastOptions, packet: &Packet) -> bool {
        self.packets.len() < MAX_EVENTS && self.bytes + wire_size(packet) <= MAX_BYTES && self.opts == *opts
    }
}

fn wire_size(packet: &Packet) -> usize {
    HEAD_BYTES + packet.ns.len() + size(packet)
}

#[cfg(test)]
mod tests {
    use socketioxide_core::Value as CoreValue;

    use super::*;

    fn to(room: &str) -> BroadcastOptions {
        BroadcastOptions { rooms: vec![room.to_owned()], ..BroadcastOptions::default() }
    }

    fn packet(bytes: usize) -> Packet {
        Packet::event("/", CoreValue::Str("x".repeat(bytes).into(), None))
    }

    const HEAD: usize = HEAD_BYTES + 1;

    /// The number of events and bytes of content in each burst.
    fn bursts(events: impl IntoIterator<Item = (&'static str, usize)>) -> Vec<(usize, usize)> {
        let (mut burst, mut bursts) = (None, Vec::new());
        for (room, bytes) in events {
            bursts.extend(Burst::add(&mut burst, to(room), packet(bytes)));
        }
        bursts.extend(burst);
        bursts.iter().map(|burst| (burst.packets.len(), burst.bytes - HEAD * burst.packets.len())).collect()
    }

    #[test]
    fn a_burst_has_the_same_targets_and_is_bounded() {
        assert_eq!(bursts([]), []);
        assert_eq!(bursts([("a", 1), ("a", 2), ("b", 3), ("a", 4)]), [(2, 3), (1, 3), (1, 4)]);
        assert_eq!(bursts(std::iter::repeat_n(("a", 10), 300)), [(128, 1280), (128, 1280), (44, 440)]);
        assert_eq!(bursts([("a", 9000), ("a", 7349), ("a", 1)]), [(2, 16_349), (1, 1)]);
        assert_eq!(bursts([("a", 1), ("a", 100_000), ("a", 1)]), [(1, 1), (1, 100_000), (1, 1)]);
    }
}
