//! Sends packets to the clients of a server that counts what it queues for each of them. A `pgio` server does; a server of
//! another program, which only uses the adapter, does not.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions as CoreOptions, SocketEmitter};
use socketioxide_core::packet::Packet;

use super::local::{SHARED_ENCODING_FROM, size};
use super::{PostgresAdapter, Sid, target};

/// The queues of a server's clients.
pub(crate) trait ClientQueues: Send + Sync {
    /// Writes packets at once to each client for which nothing waits, with one write. `encode` encodes them. Returns the
    /// other clients, in the same order.
    fn write_to_idle(&self, sids: &[Sid], encode: &dyn Fn() -> Vec<CoreValue>) -> Vec<Sid>;

    /// Counts a packet with this content before it is queued for clients of a namespace. Disconnects the clients whose
    /// buffers are full, and returns them. All other clients must have room in socketioxide's queue.
    fn queue(&self, nsp: &str, sids: &[Sid], content_bytes: usize) -> Vec<Sid>;

    /// The clients that do not keep up, in the same order.
    fn busy(&self, sids: &[Sid]) -> Vec<Sid>;

    /// Gives up the count for clients: a packet was or will be queued that is not counted, or the other way round.
    fn lose_count(&self, sids: &[Sid]);
}

/// The clients to which the options of a broadcast lead, and those of them that get its packets through their queues.
pub(super) struct Recipients {
    opts: CoreOptions,
    /// All clients, at the last look-up.
    all: Vec<Sid>,
    /// They get nothing through their queues: they have got the packets already, or must not get them.
    excluded: HashSet<Sid, RandomState>,
    /// The others.
    queued: Vec<Sid>,
    route: Option<Route>,
}

/// How a packet gets to the queued clients.
enum Route {
    /// By the id of each.
    Each,
    /// By options that lead to all of them.
    Broadcast(Box<CoreOptions>),
}

impl Recipients {
    /// `all` are the clients to which `opts` lead. Those in `queued`, in the same order, get the packets through their queues.
    pub(super) fn new(opts: CoreOptions, all: Vec<Sid>, queued: Vec<Sid>) -> Self {
        let excluded = without(&all, &queued).into_iter().collect();
        Self { opts, all, excluded, queued, route: None }
    }

    /// Those of the clients that get packets through their queues.
    pub(super) fn queued(&self) -> &[Sid] {
        &self.queued
    }

    /// Excludes clients, which have the same order.
    pub(super) fn exclude(&mut self, sids: &[Sid]) {
        if !sids.is_empty() {
            self.excluded.extend(sids);
            remove(&mut self.queued, sids);
            self.route = None;
        }
    }

    /// Takes the clients of another look-up.
    fn replace(&mut self, all: Vec<Sid>) {
        if all == self.all {
            return;
        }
        self.queued = all.iter().filter(|sid| !self.excluded.contains(sid)).copied().collect();
        self.all = all;
        self.route = None;
    }
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    /// The queues of the clients, if the server counts what it queues.
    pub(super) fn client_queues(&self) -> Option<&dyn ClientQueues> {
        #[cfg(feature = "server")]
        return self.ctr.0.hooks.client_queues();
        #[cfg(not(feature = "server"))]
        None
    }

    /// Looks up the clients again. Call this if other tasks may have run since the last time.
    pub(super) fn look_up(&self, recipients: &mut Recipients) {
        recipients.replace(self.sids_of(&recipients.opts));
    }

    /// Drops volatile packets for clients that do not keep up.
    pub(super) fn drop_volatile(
        &self,
        queues: &dyn ClientQueues,
        packets: usize,
        recipients: &mut Recipients,
    ) {
        if recipients.opts.has_flag(BroadcastFlags::Volatile) && !recipients.queued.is_empty() {
            let busy = queues.busy(&recipients.queued);
            recipients.exclude(&busy);
            metrics::counter!("pgio_volatile_dropped_total").increment((busy.len() * packets) as u64);
        }
    }

    /// Counts and queues a packet for the queued clients. Looks up the clients again if they have changed.
    pub(super) fn queue_packet(
        &self,
        queues: &dyn ClientQueues,
        packet: &Packet,
        recipients: &mut Recipients,
    ) {
        if recipients.queued.is_empty() {
            return;
        }
        let full = queues.queue(self.node.nsp.as_str(), &recipients.queued, size(packet));
        recipients.exclude(&full);
        self.node.meters.events_sent().increment(recipients.queued.len() as u64);
        if recipients.queued.is_empty() {
            return;
        }
        let route = match recipients.route.take() {
            Some(route) => route,
            None => self.route_to(recipients, packet),
        };
        match &route {
            Route::Each => {
                for sid in &recipients.queued {
                    if let Err(errors) = self.local.broadcast(packet.clone(), target::one(*sid)) {
                        self.report_missed(&[*sid], &errors);
                    }
                }
            }
            Route::Broadcast(opts) => {
                if let Err(errors) = self.local.broadcast(packet.clone(), CoreOptions::clone(opts)) {
                    self.report_missed(&recipients.queued, &errors);
                }
                if self.check_recipients(queues, opts, &recipients.queued) {
                    self.look_up(recipients);
                    return;
                }
            }
        }
        recipients.route = Some(route);
    }

    fn route_to(&self, recipients: &Recipients, packet: &Packet) -> Route {
        let Recipients { opts, all, queued, .. } = recipients;
        if queued.len() <= all.len() / 2 && size(packet) < SHARED_ENCODING_FROM {
            return Route::Each;
        }
        // socketioxide keeps only the last volatile packet of a client, and it may overtake others.
        let mut same = target::not_volatile(opts);
        self.add_to_except(&without(all, queued), &mut same);
        Route::Broadcast(Box::new(same))
    }

    /// Call this after a packet was queued for the clients `counted`. socketioxide looks up the clients again, so some that
    /// have joined meanwhile have got a packet that was not counted, and some that have left have missed it. Returns whether
    /// they have changed.
    ///
    /// A client that joins and leaves, or leaves and joins, while one packet is queued is not noticed.
    pub(super) fn check_recipients(
        &self,
        queues: &dyn ClientQueues,
        opts: &CoreOptions,
        counted: &[Sid],
    ) -> bool {
        let now = self.local.sockets(opts.clone());
        if now == counted {
            return false;
        }
        let (before, now): (HashSet<_>, HashSet<_>) = (counted.iter().collect(), now.iter().collect());
        let changed: Vec<_> = before.symmetric_difference(&now).map(|sid| **sid).collect();
        queues.lose_count(&changed);
        true
    }
}

/// The clients that are not among `removed`, which has the same order.
fn without(sids: &[Sid], removed: &[Sid]) -> Vec<Sid> {
    // Mostly all clients are queued, and nothing has to be copied.
    if removed.len() == sids.len() {
        return Vec::new();
    }
    let mut left = sids.to_vec();
    remove(&mut left, removed);
    left
}

/// Removes `removed` from the clients, which has the same order.
fn remove(sids: &mut Vec<Sid>, removed: &[Sid]) {
    let mut removed = removed.iter().peekable();
    if removed.peek().is_some() {
        sids.retain(|sid| removed.next_if_eq(&sid).is_none());
    }
    debug_assert!(removed.next().is_none());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_clients_are_removed_in_order() {
        let sids: [Sid; 4] = std::array::from_fn(|_| Sid::new());
        let [a, b, c, d] = sids;
        for (removed, expected) in
            [(&[][..], &sids[..]), (&[b, d], &[a, c]), (&sids, &[]), (&[a], &[b, c, d])]
        {
            let mut left = sids.to_vec();
            remove(&mut left, removed);
            assert_eq!(left, expected);
            assert_eq!(without(&sids, removed), expected);
        }
    }

    #[test]
    fn the_excluded_clients_stay_excluded_when_they_are_looked_up_again() {
        let sids: [Sid; 5] = std::array::from_fn(|_| Sid::new());
        let [a, b, c, d, e] = sids;
        let mut recipients = Recipients::new(CoreOptions::default(), vec![a, b, c, d], vec![b, c, d]);
        assert_eq!(recipients.queued(), [b, c, d]);
        recipients.exclude(&[c]);
        assert_eq!(recipients.queued(), [b, d]);
        // `b` has left, and `e` has joined.
        recipients.replace(vec![e, a, d, c]);
        assert_eq!((recipients.queued(), &*recipients.all), (&[e, d][..], &[e, a, d, c][..]));
    }
}
