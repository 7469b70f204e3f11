//! The sockets of this server: sending, disconnecting, describing.

use std::sync::Arc;
use std::time::Duration;

use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::errors::SocketError;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions as CoreOptions, Room, SocketEmitter};
use socketioxide_core::packet::{Packet, PacketData};

use super::client_queues::Recipients;
use super::io_handle::IoHandle;
use super::{PostgresAdapter, Sid, describe, target};
use crate::protocol::RemoteSocket;

/// From this size on, a packet is encoded once for all clients.
pub(super) const SHARED_ENCODING_FROM: usize = 16 << 10;

/// A namespace without clients: clients ignore its packets.
const PROBE_NAMESPACE: &str = "/pgio/nowhere";

impl<E: SocketEmitter> PostgresAdapter<E> {
    /// Sends a packet with an acknowledgement request to clients of this server. Returns their answers and their number.
    pub(super) fn send_to_local_with_ack(
        &self,
        packet: Packet,
        opts: CoreOptions,
        timeout: Option<Duration>,
    ) -> (E::AckStream, u32) {
        let Some(queues) = self.client_queues() else {
            self.ensure_sid_rooms(&opts);
            return self.local.broadcast_with_ack(packet, opts, timeout);
        };
        let sids = self.sids_of(&opts);
        let full = queues.queue(self.node.nsp.as_str(), &sids, size(&packet));
        let mut others = opts.clone();
        self.add_to_except(&full, &mut others);
        let answers = self.local.broadcast_with_ack(packet, others, timeout);
        self.check_recipients(queues, &opts, &sids);
        answers
    }

    /// Sends a packet to clients of this server.
    ///
    /// socketioxide does not say which client's queue was full for a broadcast. So without a server that counts what is
    /// queued, a small packet is sent to one client at a time, which shows the slow clients; after a large one, a probe
    /// finds them.
    pub(super) fn send_to_local(&self, packet: Packet, opts: CoreOptions) {
        let sids = self.sids_of(&opts);
        if let Some(queues) = self.client_queues() {
            let mut recipients = Recipients::new(opts, sids.clone(), sids);
            self.drop_volatile(queues, 1, &mut recipients);
            self.queue_packet(queues, &packet, &mut recipients);
            return;
        }
        if opts.has_flag(BroadcastFlags::Volatile) {
            // A volatile packet may be lost.
            let _ = self.local.broadcast(packet, opts);
            return;
        }
        self.node.meters.events_sent().increment(sids.len() as u64);
        if size(&packet) < SHARED_ENCODING_FROM {
            for (sid, packet) in sids.iter().copied().zip(std::iter::repeat_n(packet, sids.len())) {
                if is_full(self.local.broadcast(packet, target::one(sid))) {
                    self.report_slow_client(sid);
                }
            }
        } else if let Err(errors) = self.local.broadcast(packet, opts) {
            self.report_missed(&sids, &errors);
        }
    }

    /// Finds the clients that have missed a packet because their queues were full.
    pub(super) fn report_missed(&self, sids: &[Sid], errors: &[SocketError]) {
        let missed = errors.iter().filter(|error| matches!(error, SocketError::InternalChannelFull)).count();
        if missed == 0 {
            return;
        }
        if let Some(queues) = self.client_queues() {
            queues.lose_count(sids);
        }
        let found = sids.iter().filter(|sid| self.probe_backpressure(**sid)).count();
        if found < missed {
            metrics::counter!("pgio_packets_lost_total").increment((missed - found) as u64);
            tracing::error!(clients = missed - found, nsp = %self.node.nsp, "backpressure: a packet was dropped for slow clients");
        }
    }

    /// Excludes clients.
    pub(super) fn add_to_except(&self, sids: &[Sid], opts: &mut CoreOptions) {
        if !sids.is_empty() {
            opts.except.extend(sids.iter().map(|sid| Room::from(sid.to_string())));
            self.ensure_sid_rooms(opts);
        }
    }

    /// Checks whether the buffer of a client is full (backpressure), with a packet that clients ignore.
    pub(super) fn probe_backpressure(&self, sid: Sid) -> bool {
        if !self.is_local(sid) {
            return false;
        }
        let probe = Packet::event(PROBE_NAMESPACE, CoreValue::Str("[\"\"]".into(), None));
        if let Some(queues) = self.client_queues()
            && !queues.queue(PROBE_NAMESPACE, &[sid], size(&probe)).is_empty()
        {
            // It is being disconnected.
            return true;
        }
        let is_slow = is_full(self.local.broadcast(probe, target::one(sid)));
        if is_slow {
            self.report_slow_client(sid);
        }
        is_slow
    }

    /// Handles a slow client, which has missed a packet: it must not stay connected as if nothing was lost.
    pub(super) fn report_slow_client(&self, sid: Sid) {
        metrics::counter!("pgio_slow_clients_total").increment(1);
        if !self.ctr.0.notify_slow_client(&self.node, sid) {
            tracing::warn!(%sid, nsp = %self.node.nsp, "backpressure: the buffer of a client is full");
            // Fails while the buffer is full. The next packet that does not fit retries it.
            drop(self.local.disconnect_socket(target::one(sid)));
        }
    }

    /// Disconnects sockets of this server. With `close` it disconnects them from all their namespaces, and then the client
    /// closes its connection.
    pub(super) fn disconnect_local(&self, opts: CoreOptions, close: bool) {
        let io = self.io().filter(|_| close);
        let sids = self.sids_of(&opts);
        if let Some(queues) = self.client_queues() {
            // No event may overtake a disconnect packet, which is not counted.
            queues.lose_count(&sids);
        }
        for sid in sids {
            if let Some(io) = &io {
                io.disconnect_other_namespaces(self.node.nsp.as_str(), sid);
            }
            if is_full(self.local.disconnect_socket(target::one(sid))) {
                self.report_slow_client(sid);
            }
        }
    }

    /// The sockets of this server for a response to another server.
    pub(super) fn describe_sockets(&self, opts: CoreOptions) -> Vec<RemoteSocket> {
        let io = self.io();
        let describe = |sid: Sid| {
            let own = sid.to_string();
            let mut rooms = target::names(self.local.socket_rooms(sid));
            rooms.retain(|room| *room != own);
            rooms.sort();
            rooms.insert(0, own.clone());
            let known = io.as_ref().and_then(|io| io.describe(self.node.nsp.as_str(), sid));
            let (handshake, data) = known.unwrap_or_else(describe::unknown_socket);
            RemoteSocket { id: own, handshake, rooms, data }
        };
        self.sids_of(&opts).into_iter().map(describe).collect()
    }
}

impl<E> PostgresAdapter<E> {
    fn io(&self) -> Option<Arc<IoHandle>> {
        self.ctr.0.application()?.io()
    }
}

fn is_full(outcome: Result<(), Vec<SocketError>>) -> bool {
    outcome.is_err_and(|errors| errors.iter().any(|error| matches!(error, SocketError::InternalChannelFull)))
}

/// The size of a packet's content, a lower bound of its size on the wire.
pub(super) fn size(packet: &Packet) -> usize {
    match &packet.inner {
        PacketData::Event(value, _) | PacketData::BinaryEvent(value, _) => match value {
            CoreValue::Str(text, binaries) => {
                text.len() + binaries.iter().flatten().map(bytes::Bytes::len).sum::<usize>()
            }
            CoreValue::Bytes(bytes) => bytes.len(),
        },
        _ => 0,
    }
}
