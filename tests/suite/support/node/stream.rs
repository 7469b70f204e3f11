//! Numbered streams of servers and clients, and ledgers of what clients received.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, NodePeer, PeerError, Server};

/// How to start a stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamOptions {
    /// The name of the stream, and of its events.
    pub name: String,
    /// Events in a second.
    pub rate: u32,
    /// The first event's number; each event after it has the next one.
    pub first: u64,
    /// Adds bytes to each event, so that it goes through the attachment table.
    pub binary: bool,
}

/// A number, and when it was sent (ms since 1970).
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Sent(pub u64, pub i64);

/// A number, when it was acknowledged, and 1 for success or 0 for a refusal.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Settled(pub u64, pub i64, pub u8);

/// An event's name, its number (no number: not of a stream), and when it was received.
#[derive(Clone, Debug, Deserialize)]
pub struct Received(pub String, pub Option<u64>, pub i64);

/// What a process has recorded since the last drain, by the names of streams and ledgers.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Drained {
    pub sent: BTreeMap<String, Vec<Sent>>,
    pub settled: BTreeMap<String, Vec<Settled>>,
    pub received: BTreeMap<String, Vec<Received>>,
}

impl NodePeer {
    /// Takes what all streams and ledgers of the process have recorded.
    pub async fn drain_streams(&self) -> Result<Drained, PeerError> {
        self.request("stream.drain", json!({})).await
    }
}

impl Client {
    /// Starts to emit to the client's server, each event with a request for an acknowledgement.
    pub async fn stream(&self, options: &StreamOptions) {
        self.call("stream.client", json!(options)).await
    }

    /// Starts to record what the client receives, in a ledger of that name.
    pub async fn ledger(&self, name: &str) {
        self.call("stream.ledger", json!({ "name": name })).await
    }
}

impl Server {
    /// Starts to broadcast in a namespace.
    pub async fn stream(&self, nsp: &str, options: &StreamOptions) {
        self.call("stream.server", nsp, json!(options)).await
    }
}
