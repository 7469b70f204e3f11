//! Sends packets to the clients of a server that counts what it queues for each of them. A `pgio` server does; a server of
//! another program, which only uses the adapter, does not.

use std::collections::HashSet;

use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions as CoreOptions, SocketEmitter};
use socketioxide_core::packet::Packet;
use socketioxide_core::parser::Parse;

use super::delivery::Delivery;
use super::local::{SHARED_ENCODING_FROM, size};
use super::{PostgresAdapter, Sid, target};

// The limits of an event that is written directly: one task writes it to all clients, and does nothing else meanwhile.
const MAX_DIRECT_CLIENTS: usize = 512;
const MAX_DIRECT_BYTES: usize = SHARED_ENCODING_FROM - 1;
const MAX_DIRECT_BYTES_OF_ALL: usize = 1 << 20;

/// The queues of a server's clients.
pub(crate) trait ClientQueues: Send + Sync {
    /// Writes a packet at once to each client for which nothing waits, encoded by `encode`. Returns the other clients, in
    /// the same order.
    fn write_to_idle(&self, sids: &[Sid], encode: &dyn Fn() -> CoreValue) -> Vec<Sid>;

    /// Counts a packet with this content before it is queued for clients of a namespace. Disconnects the clients whose
    /// buffers are full, and returns them. All other clients must have room in socketioxide's queue.
    fn queue(&self, nsp: &str, sids: &[Sid], content_bytes: usize) -> Vec<Sid>;

    /// The clients that do not keep up, in the same order.
    fn busy(&self, sids: &[Sid]) -> Vec<Sid>;

    /// Gives up the count for clients: a packet was or will be queued that is not counted, or the other way round.
    fn lose_count(&self, sids: &[Sid]);
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    /// The queues of the clients, if the server counts what it queues.
    pub(super) fn client_queues(&self) -> Option<&dyn ClientQueues> {
        #[cfg(feature = "server")]
        return self.ctr.0.hooks.client_queues();
        #[cfg(not(feature = "server"))]
        None
    }

    /// Sends a packet to the clients `sids`, to which `opts` leads.
    pub(super) fn send_counted(
        &self,
        queues: &dyn ClientQueues,
        packet: &Packet,
        opts: &CoreOptions,
        sids: &[Sid],
        delivery: Delivery,
    ) {
        let mut others = match delivery {
            Delivery::Direct if may_be_direct(size(packet), sids.len()) => {
                queues.write_to_idle(sids, &|| self.local.parser().encode(packet.clone()))
            }
            _ => sids.to_vec(),
        };
        self.node.meters.written_directly().increment((sids.len() - others.len()) as u64);
        let mut dropped = 0;
        if opts.has_flag(BroadcastFlags::Volatile) && !others.is_empty() {
            let busy = queues.busy(&others);
            dropped = remove(&mut others, &busy);
            metrics::counter!("pgio_volatile_dropped_total").increment(dropped as u64);
        }
        self.node.meters.events_sent().increment((sids.len() - dropped) as u64);
        if !others.is_empty() {
            let full = queues.queue(self.node.nsp.as_str(), &others, size(packet));
            remove(&mut others, &full);
        }
        self.queue_for(queues, packet, opts, sids, &others);
    }

    /// Queues a packet for some of the clients `all`, to which `opts` leads.
    fn queue_for(
        &self,
        queues: &dyn ClientQueues,
        packet: &Packet,
        opts: &CoreOptions,
        all: &[Sid],
        sids: &[Sid],
    ) {
        if sids.is_empty() {
            return;
        }
        let are_few = sids.len() <= all.len() / 2;
        if are_few && size(packet) < SHARED_ENCODING_FROM {
            for sid in sids {
                if let Err(errors) = self.local.broadcast(packet.clone(), target::one(*sid)) {
                    self.report_missed(&[*sid], &errors);
                }
            }
            return;
        }
        // socketioxide keeps only the last volatile packet of a client, and it may overtake others.
        let mut same = target::not_volatile(opts);
        if sids.len() < all.len() {
            let mut excluded = all.to_vec();
            remove(&mut excluded, sids);
            self.exclude(&excluded, &mut same);
        }
        let outcome = self.local.broadcast(packet.clone(), same);
        self.check_recipients(queues, opts, all);
        if let Err(errors) = outcome {
            self.report_missed(sids, &errors);
        }
    }

    /// Call this after a packet was queued for the clients `counted`. socketioxide looks up the clients again, so some that
    /// have joined meanwhile have got a packet that was not counted, and some that have left have missed it.
    ///
    /// A client that does both while one packet is queued is not noticed.
    pub(super) fn check_recipients(&self, queues: &dyn ClientQueues, opts: &CoreOptions, counted: &[Sid]) {
        let now = self.local.sockets(opts.clone());
        if now != counted {
            let (before, now): (HashSet<_>, HashSet<_>) = (counted.iter().collect(), now.iter().collect());
            let changed: Vec<_> = before.symmetric_difference(&now).map(|sid| **sid).collect();
            queues.lose_count(&changed);
        }
    }
}

/// Whether an event of this size may be written directly to so many clients.
fn may_be_direct(bytes: usize, clients: usize) -> bool {
    clients <= MAX_DIRECT_CLIENTS
        && bytes <= MAX_DIRECT_BYTES
        && bytes.saturating_mul(clients) <= MAX_DIRECT_BYTES_OF_ALL
}

/// Removes `dropped` from the clients, which has the same order. Returns their number.
fn remove(sids: &mut Vec<Sid>, dropped: &[Sid]) -> usize {
    let before = sids.len();
    let mut dropped = dropped.iter().peekable();
    if dropped.peek().is_some() {
        sids.retain(|sid| dropped.next_if_eq(&sid).is_none());
    }
    before - sids.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_directly_if_it_is_small_and_has_few_clients() {
        for (bytes, clients, expected) in [
            (0, 512, true),
            (0, 513, false),
            (16_383, 1, true),
            (16_384, 1, false),
            (16_383, 64, true),
            (16_383, 65, false),
            (2048, 512, true),
            (2049, 512, false),
        ] {
            assert_eq!(may_be_direct(bytes, clients), expected, "{bytes} {clients}");
        }
    }

    #[test]
    fn some_clients_are_removed_in_order() {
        let sids: [Sid; 4] = std::array::from_fn(|_| Sid::new());
        let [a, b, c, d] = sids;
        for (dropped, expected) in
            [(&[][..], &sids[..]), (&[b, d], &[a, c]), (&sids, &[]), (&[a], &[b, c, d])]
        {
            let mut left = sids.to_vec();
            assert_eq!(remove(&mut left, dropped), dropped.len());
            assert_eq!(left, expected);
        }
    }
}
