//! What handles and the driver share: the parts of an answer, and how the driver learns that a handle was dropped.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::Result;
use crate::cluster::state::{Reply, SubscriptionId, Summary};
#[cfg(feature = "adapter")]
use crate::protocol::Channel;
use crate::protocol::{RemoteSocket, RequestId, Uid, Value};

/// A part of what a request brings.
#[derive(Debug)]
pub(in crate::cluster) enum Part {
    /// A peer's answer.
    Answer { node: Uid, reply: Reply },
    /// An answer that cannot be read, and why.
    Unread { node: Uid, reason: String },
    /// The end.
    Finished(Result<Summary>),
}

/// A handle that was dropped, or a node that is closed.
pub(in crate::cluster) enum Gone {
    Subscription(SubscriptionId),
    Request(RequestId),
    /// A node that says goodbye itself. This comes before the subscription that it drops.
    #[cfg(feature = "adapter")]
    Member {
        channel: Channel,
        uid: Uid,
    },
    /// A node that was to say goodbye itself, and did not come to it.
    #[cfg(feature = "adapter")]
    Goodbye {
        channel: Channel,
        uid: Uid,
    },
}

/// Dropped handles, for the driver to forget. There are never more of them than there were handles.
#[derive(Clone, Default)]
pub(in crate::cluster) struct Reaper(Arc<Inner>);

#[derive(Default)]
struct Inner {
    gone: Mutex<Vec<Gone>>,
    changed: Notify,
}

impl Reaper {
    pub(in crate::cluster) fn add(&self, gone: Gone) {
        self.0.gone.lock().unwrap_or_else(PoisonError::into_inner).push(gone);
        self.0.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    pub(super) fn take(&self) -> Vec<Gone> {
        std::mem::take(&mut *self.0.gone.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reply {
    /// About how much memory it holds, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Ack(value) | Self::Answer(value) => size_of_value(value),
            Self::Sockets(sockets) => size_of_sockets(sockets),
        }
    }
}

/// About how much memory sockets hold, in bytes.
pub(crate) fn size_of_sockets(sockets: &[RemoteSocket]) -> usize {
    let size = |socket: &RemoteSocket| {
        let rooms: usize = socket.rooms.iter().map(String::len).sum();
        size_of_value(&socket.handshake) + size_of_value(&socket.data) + rooms + NODE_BYTES
    };
    sockets.iter().map(size).sum()
}

/// What a value costs besides its texts.
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
