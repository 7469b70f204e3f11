//! Delivers events of other servers to the clients of this server: directly to the sockets of idle clients, or to their queues.

use std::sync::Arc;
use std::time::Instant;

use socketioxide_core::adapter::SocketEmitter;
use socketioxide_core::packet::Packet;
use socketioxide_core::parser::Parse;
use tokio::task::yield_now;
use tokio_util::task::AbortOnDropHandle;

use super::burst::Burst;
use super::client_queues::Recipients;
use super::delivery_choice::{Delivery, DeliveryChoice};
use super::local::SHARED_ENCODING_FROM;
use super::{PostgresAdapter, Sid, target};

// The limits of one task that writes to clients, since it does nothing else meanwhile.
const MAX_CLIENTS: usize = 128;
const MAX_BYTES: usize = 1 << 20;

/// The number of packets that are queued before other tasks run. A packet counts once for each client.
const PACKETS_PER_TURN: usize = 16_384;

/// The deliveries of one namespace.
#[derive(Default)]
pub(super) struct Deliveries {
    pub(super) choice: DeliveryChoice,
    /// The packets that were queued since other tasks have run.
    queued: usize,
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    /// Delivers events. `is_last` says that no other message waits.
    pub(super) async fn deliver(self: &Arc<Self>, burst: Burst, is_last: bool, deliveries: &mut Deliveries) {
        let start = Instant::now();
        let count = burst.packets.len();
        let delivery = match burst.bytes < SHARED_ENCODING_FROM {
            true => deliveries.choice.of_events(start, count, is_last),
            false => Delivery::Queued,
        };
        self.send_burst(burst, delivery, &mut deliveries.queued).await;
        let end = Instant::now();
        deliveries.choice.delivered(delivery, start, end);
        self.node.meters.delivery().record_many(end - start, count);
    }

    async fn send_burst(self: &Arc<Self>, burst: Burst, delivery: Delivery, queued: &mut usize) {
        let opts = target::from_wire(burst.opts);
        let Some(queues) = self.client_queues() else {
            burst.packets.into_iter().for_each(|packet| self.send_to_local(packet, opts.clone()));
            return;
        };
        let sids = self.sids_of(&opts);
        let packets: Arc<[Packet]> = burst.packets.into();
        let mut recipients = match delivery {
            Delivery::Direct => {
                let (written, others) = self.write_directly(&packets, &sids, burst.bytes).await;
                let written = (written * packets.len()) as u64;
                self.node.meters.written_directly().increment(written);
                self.node.meters.events_sent().increment(written);
                if others.is_empty() {
                    return;
                }
                let mut recipients = Recipients::new(opts, sids, others);
                self.look_up(&mut recipients);
                recipients
            }
            Delivery::Queued => Recipients::new(opts, sids.clone(), sids),
        };
        self.drop_volatile(queues, packets.len(), &mut recipients);
        for packet in packets.iter() {
            if *queued > PACKETS_PER_TURN {
                *queued = 0;
                yield_now().await;
                self.look_up(&mut recipients);
            }
            self.queue_packet(queues, packet, &mut recipients);
            *queued += recipients.queued().len();
        }
    }

    /// Writes packets to the idle ones of the clients, with several tasks if there are many. Returns their number, and the
    /// others in the same order.
    ///
    /// A client that leaves before its task runs gets the packets all the same.
    async fn write_directly(
        self: &Arc<Self>,
        packets: &Arc<[Packet]>,
        sids: &[Sid],
        bytes: usize,
    ) -> (usize, Vec<Sid>) {
        let size = clients_of_one_task(sids.len(), bytes);
        if sids.len() <= size {
            let others = self.write_to_idle(packets, sids);
            return (sids.len() - others.len(), others);
        }
        let spawn = |part: &[Sid]| {
            let (adapter, packets, part) = (self.clone(), packets.clone(), part.to_vec());
            AbortOnDropHandle::new(tokio::spawn(async move { adapter.write_to_idle(&packets, &part) }))
        };
        let tasks: Vec<_> = sids.chunks(size).map(spawn).collect();
        let (mut written, mut others) = (0, Vec::new());
        for (task, part) in tasks.into_iter().zip(sids.chunks(size)) {
            match task.await {
                Ok(rest) => {
                    written += part.len() - rest.len();
                    others.extend(rest);
                }
                Err(error) => {
                    // They may have missed events, so they must not stay connected.
                    if self.node.report_panic("a write to clients", &error, "disconnecting the clients") {
                        part.iter().for_each(|sid| self.report_slow_client(*sid));
                    }
                }
            }
        }
        (written, others)
    }

    fn write_to_idle(&self, packets: &[Packet], sids: &[Sid]) -> Vec<Sid> {
        let Some(queues) = self.client_queues() else { return sids.to_vec() };
        let encode = || packets.iter().map(|packet| self.local.parser().encode(packet.clone())).collect();
        queues.write_to_idle(sids, &encode)
    }
}

/// The number of clients to which one task writes, of `clients` in all. All tasks have the same share.
fn clients_of_one_task(clients: usize, bytes: usize) -> usize {
    let most = (MAX_BYTES / bytes.max(1)).clamp(1, MAX_CLIENTS);
    clients.div_ceil(clients.div_ceil(most).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tasks_write_to_the_same_number_of_clients() {
        for (clients, bytes, expected) in [
            (0, 0, 1),
            (1, 16_383, 1),
            (128, 100, 128),
            (129, 100, 65),
            (5000, 100, 125),
            (64, 16_383, 64),
            (65, 16_383, 33),
            (1000, 10 << 20, 1),
        ] {
            assert_eq!(clients_of_one_task(clients, bytes), expected, "{clients} {bytes}");
        }
    }
}
