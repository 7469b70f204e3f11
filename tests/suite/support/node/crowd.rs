//! Many clients at once, of which only the ids are known.

use serde_json::json;

use super::NodePeer;

impl NodePeer {
    /// Connects so many clients to the server at `url`, with one connection each; returns their sockets' ids.
    pub async fn crowd(&self, url: &str, count: usize) -> Vec<String> {
        self.crowd_in(url, "/", count).await
    }

    /// The same, in a namespace.
    pub async fn crowd_in(&self, url: &str, nsp: &str, count: usize) -> Vec<String> {
        self.call("crowd.connect", json!({ "url": url, "nsp": nsp, "count": count })).await
    }

    /// Makes each of these sockets join the room at its place; the server has to live in the same process.
    pub async fn spread(&self, ids: &[String], rooms: &[String]) {
        self.call("crowd.join", json!({ "ids": ids, "rooms": rooms })).await
    }
}
