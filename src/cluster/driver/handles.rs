//! The types between handles and the driver: the parts of a response, and the reaper that reports dropped handles.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::Result;
use crate::cluster::state::{Reply, SubscriptionId, Summary};
#[cfg(feature = "adapter")]
use crate::protocol::Channel;
use crate::protocol::{RemoteSocket, RequestId, Uid, Value};

/// A part of the response to a request.
#[derive(Debug)]
pub(in crate::cluster) enum ResponsePart {
    /// A peer's answer.
    Answer { node: Uid, reply: Reply },
    /// An answer that cannot be read, and why.
    Unread { node: Uid, reason: String },
    /// The end.
    Finished(Result<Summary>),
}

/// A dropped handle, or a closed node.
pub(in crate::cluster) enum Dropped {
    Subscription(SubscriptionId),
    Request(RequestId),
    /// A node that publishes its goodbye itself. This comes before its subscription is dropped.
    #[cfg(feature = "adapter")]
    Member {
        channel: Channel,
        uid: Uid,
    },
    /// A node that could not publish its goodbye.
    #[cfg(feature = "adapter")]
    Goodbye {
        channel: Channel,
        uid: Uid,
    },
}

/// The queue of dropped handles, which the driver reads. It never holds more entries than there were handles.
#[derive(Clone, Default)]
pub(in crate::cluster) struct Reaper(Arc<Inner>);

#[derive(Default)]
struct Inner {
    dropped: Mutex<Vec<Dropped>>,
    changed: Notify,
}

impl Reaper {
    pub(in crate::cluster) fn add(&self, dropped: Dropped) {
        self.0.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(dropped);
        self.0.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    pub(super) fn take(&self) -> Vec<Dropped> {
        std::mem::take(&mut *self.0.dropped.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reply {
    /// The approximate memory, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Ack(value) | Self::Answer(value) => size_of_value(value),
            Self::Sockets(sockets) => size_of_sockets(sockets),
        }
    }
}

/// The approximate memory of sockets, in bytes.
pub(crate) fn size_of_sockets(sockets: &[RemoteSocket]) -> usize {
    let size = |socket: &RemoteSocket| {
        let rooms: usize = socket.rooms.iter().map(String::len).sum();
        size_of_value(&socket.handshake) + size_of_value(&socket.data) + rooms + NODE_BYTES
    };
    sockets.iter().map(size).sum()
}

/// The memory of a value without its texts, in bytes.
const NODE_BYTES: usize = 64;

fn size_of_value(value: &Value) -> usize {
    NODE_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Binary(bytes) => bytes.len(),
            Value::Array(items) => items.iter().map(size_of_value).sum(),
            Value::Object(entries) => {
                entries.iter().map(|(key, value)| key.len() + size_of_value(value)).sum()
            }
            _ => 0,
        }
}
