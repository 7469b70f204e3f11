//! Numbered streams of servers and clients, and ledgers of the events that clients received.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, NodePeer, PeerError, Server};

/// The options of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamOptions {
    /// The name of the stream, and of its events.
    pub name: String,
    /// Events per second.
    pub rate: u32,
    /// The number of the first event. Each later event has the next number.
    pub first: u64,
    /// Adds bytes to each event, so that it goes through the attachment table.
    pub binary: bool,
}

/// A number, and the time at which it was sent (ms since 1970).
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Sent(pub u64, pub i64);

/// A number, the time of its acknowledgement, and 1 for success or 0 for a refusal.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Settled(pub u64, pub i64, pub u8);

/// The name of an event, its number (`None` for an event outside of a stream), and the time at which it was received.
#[derive(Clone, Debug, Deserialize)]
pub struct Received(pub String, pub Option<u64>, pub i64);

/// The records of a process since the last drain, by the names of streams and ledgers.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Drained {
    pub sent: BTreeMap<String, Vec<Sent>>,
    pub settled: BTreeMap<String, Vec<Settled>>,
    pub received: BTreeMap<String, Vec<Received>>,
}

impl NodePeer {
    /// Takes the records of all streams and ledgers of the process.
    pub async fn drain_streams(&self) -> Result<Drained, PeerError> {
        self.request("stream.drain", json!({})).await
    }
}

impl Client {
    /// Starts to emit to the client's server, each event with a request for an acknowledgement.
    pub async fn stream(&self, options: &StreamOptions) {
        self.call("stream.client", json!(options)).await
    }

    /// Starts to record the received events of the client, in a ledger of that name.
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
