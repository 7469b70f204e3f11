//! The number of packets that were queued for a client, as long as it is certain.

/// The packets that were queued for a client.
#[derive(Debug, Clone, Copy)]
pub(super) enum QueuedPackets {
    Known {
        packets: u64,
        /// The namespaces to which the client is connecting. socketioxide may not deliver a packet for them yet.
        connecting: u32,
    },
    /// The count was given up: a packet may have been dropped, or not been counted. With msgpack nothing is counted.
    Unknown,
}

impl QueuedPackets {
    pub(super) const NONE: Self = Self::Known { packets: 0, connecting: 0 };

    /// Counts an event or an acknowledgement.
    pub(super) fn add(&mut self) {
        *self = match *self {
            Self::Known { packets, connecting: 0 } => Self::Known { packets: packets + 1, connecting: 0 },
            _ => Self::Unknown,
        };
    }

    /// Counts a response to a connect request, before it is queued.
    pub(super) fn connecting(&mut self) {
        if let Self::Known { packets, connecting } = self {
            *packets += 1;
            *connecting += 1;
        }
    }

    /// The response is queued.
    pub(super) fn connected(&mut self) {
        if let Self::Known { connecting, .. } = self {
            *connecting = connecting.saturating_sub(1);
        }
    }

    /// Whether it is certain that all of them are written.
    pub(super) fn are_written(self, written: u64) -> bool {
        matches!(self, Self::Known { packets, .. } if packets == written)
    }
}
