//! The disconnect reasons of sockets for the Admin UIs, kept only while a UI is connected and until they are published.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use socketioxide::socket::DisconnectReason;

use crate::adapter::Sid;

/// The maximum number of kept reasons, the latest ones. Other sockets get the most frequent reason.
const MAX_REASONS: usize = 10_000;

/// The reasons by namespace and socket.
#[derive(Default)]
pub(in crate::server) struct Departures {
    is_on: AtomicBool,
    reasons: Mutex<Reasons>,
}

#[derive(Default)]
struct Reasons {
    of: HashMap<(String, Sid), DisconnectReason>,
    /// The sockets in the order of their departure. Those whose reason was published stay until they are the oldest.
    order: VecDeque<(String, Sid)>,
}

impl Departures {
    /// Switches the recording of reasons on or off.
    pub(super) fn keep(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
        if !is_on {
            *self.reasons() = Reasons::default();
        }
    }

    /// A socket has left a namespace.
    pub(in crate::server) fn add(&self, nsp: &str, sid: Sid, reason: DisconnectReason) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let mut reasons = self.reasons();
        if reasons.order.len() >= MAX_REASONS
            && let Some(oldest) = reasons.order.pop_front()
        {
            reasons.of.remove(&oldest);
        }
        reasons.order.push_back((nsp.to_owned(), sid));
        reasons.of.insert((nsp.to_owned(), sid), reason);
    }

    /// The disconnect reason of a socket, as Node names it.
    pub(super) fn reason(&self, nsp: &str, sid: Sid) -> &'static str {
        let reason = self.reasons().of.get(&(nsp.to_owned(), sid)).copied();
        node_reason(reason.unwrap_or(DisconnectReason::TransportClose))
    }

    /// Deletes the reason of a socket after its publication.
    pub(super) fn forget(&self, nsp: &str, sid: Sid) {
        self.reasons().of.remove(&(nsp.to_owned(), sid));
    }

    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn node_reason(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::TransportClose => "transport close",
        DisconnectReason::TransportError | DisconnectReason::MultipleHttpPollingError => "transport error",
        DisconnectReason::PacketParsingError => "parse error",
        DisconnectReason::HeartbeatTimeout => "ping timeout",
        DisconnectReason::ClientNSDisconnect => "client namespace disconnect",
        DisconnectReason::ServerNSDisconnect => "server namespace disconnect",
        DisconnectReason::ClosingServer => "server shutting down",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_kept_while_they_are_wanted() {
        let (departures, sid) = (Departures::default(), Sid::new());
        departures.add("/", sid, DisconnectReason::HeartbeatTimeout);
        assert_eq!(departures.reason("/", sid), "transport close");
        departures.keep(true);
        departures.add("/", sid, DisconnectReason::HeartbeatTimeout);
        assert_eq!(departures.reason("/", sid), "ping timeout");
        assert_eq!(departures.reason("/other", sid), "transport close");
        departures.forget("/", sid);
        assert_eq!(departures.reason("/", sid), "transport close");
        for _ in 0..MAX_REASONS * 2 {
            departures.add("/", Sid::new(), DisconnectReason::ClosingServer);
        }
        assert_eq!(departures.reasons().of.len(), MAX_REASONS);
        // Sockets that came and went unseen do not displace the latest.
        departures.add("/", sid, DisconnectReason::HeartbeatTimeout);
        assert_eq!(departures.reason("/", sid), "ping timeout");
        departures.keep(false);
        assert!(departures.reasons().of.is_empty());
    }
}
