//! A Node cluster: a primary with `setupPrimary` of adapter 0.5.0, and its workers.

use serde_json::json;

use super::{NodePeer, PATIENCE, millis};

impl NodePeer {
    /// Makes the process the primary of a Node cluster. Returns its workers. A worker ends with the process.
    pub async fn workers<const N: usize>(&self, url: &str) -> [NodePeer; N] {
        self.call::<()>("primary.start", json!({ "url": url, "count": N })).await;
        std::array::from_fn(|at| NodePeer { process: self.process.clone(), worker: Some(at + 1) })
    }

    /// Waits until the primary listens on the channels of these namespaces. It does so once a worker has them.
    pub async fn wait_for_primary(&self, namespaces: &[&str]) {
        let parameters = json!({ "namespaces": namespaces, "timeout": millis(PATIENCE) });
        self.call("primary.waitListening", parameters).await
    }

    /// The errors of the primary, as text.
    pub async fn primary_errors(&self) -> Vec<String> {
        self.call("primary.errors", json!({})).await
    }
}
