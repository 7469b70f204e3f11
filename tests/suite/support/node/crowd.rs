//! Many clients at once, of which only the ids are kept.

use serde_json::json;

use super::NodePeer;

impl NodePeer {
    /// Connects `count` clients to the server at `url`, with one connection each. Returns the ids of their sockets.
    pub async fn crowd(&self, url: &str, count: usize) -> Vec<String> {
        self.crowd_in(url, "/", count).await
    }

    /// The same, in a namespace.
    pub async fn crowd_in(&self, url: &str, nsp: &str, count: usize) -> Vec<String> {
        self.call("crowd.connect", json!({ "url": url, "nsp": nsp, "count": count })).await
    }

    /// Makes each of these sockets join the room with the same index. The server has to run in the same process.
    pub async fn spread(&self, ids: &[String], rooms: &[String]) {
        self.call("crowd.join", json!({ "ids": ids, "rooms": rooms })).await
    }
}
