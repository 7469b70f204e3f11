//! The official emitter, `@socket.io/postgres-emitter` 0.1.1.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::NodePeer;
use super::operator::Operator;

/// The options of an [`Emitter`]. An option that is not set has the default of the package.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmitterOptions {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_threshold: Option<u64>,
}

impl EmitterOptions {
    pub fn new(url: impl Into<String>) -> EmitterOptions {
        EmitterOptions { url: url.into(), channel_prefix: None, payload_threshold: None }
    }

    pub fn channel_prefix(mut self, prefix: &str) -> EmitterOptions {
        self.channel_prefix = Some(prefix.into());
        self
    }

    pub fn payload_threshold(mut self, bytes: u64) -> EmitterOptions {
        self.payload_threshold = Some(bytes);
        self
    }
}

/// An official emitter with a separate pool.
pub struct Emitter {
    peer: NodePeer,
    handle: String,
}

impl NodePeer {
    pub async fn emitter(&self, options: EmitterOptions) -> Emitter {
        #[derive(Deserialize)]
        struct Started {
            emitter: String,
        }
        let Started { emitter } = self.call("emitter.start", json!(options)).await;
        Emitter { peer: self.clone(), handle: emitter }
    }
}

impl Emitter {
    /// Selects a namespace for an emit.
    pub fn of(&self, nsp: &str) -> Operator {
        Operator::of_emitter(&self.peer, &self.handle, nsp)
    }

    /// Selects the namespace `/`.
    pub fn io(&self) -> Operator {
        self.of("/")
    }

    /// Closes its connections.
    pub async fn stop(self) {
        self.peer.call("emitter.stop", json!({ "emitter": self.handle })).await
    }
}
