//! Answers discovery requests of observers with the namespaces of this process.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::sleep;

use super::Shared;
use crate::Error;

/// The pause after an answer (rate limit).
const PAUSE: Duration = Duration::from_millis(20);

/// The pause between two attempts to listen.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Answers until the adapter ends. Its owner aborts it then.
pub(super) async fn answer(shared: Weak<Shared>) {
    let Some(cluster) = shared.upgrade().map(|shared| shared.cluster.clone()) else { return };
    let mut requests = loop {
        match cluster.discovery_requests().await {
            Ok(requests) => break requests,
            Err(error @ Error::Namespace { .. }) => {
                tracing::debug!(%error, "namespaces cannot be discovered");
                return;
            }
            Err(error) => tracing::debug!(%error, "cannot listen on the discovery channel; retrying"),
        }
        sleep(RETRY_PAUSE).await;
    };
    while let Some(request) = requests.next().await {
        let Some(namespaces) = shared.upgrade().map(|shared| shared.registry.namespaces()) else { return };
        if let Err(error) = cluster.answer_discovery(request, &namespaces).await {
            tracing::debug!(%error, "cannot tell an observer the namespaces");
        }
        sleep(PAUSE).await;
    }
}
