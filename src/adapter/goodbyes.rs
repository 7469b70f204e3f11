//! Announces closed namespaces to the other servers (`ADAPTER_CLOSE`).
//!
//! socketioxide polls `CoreAdapter::close` once and drops it when it deletes a namespace. So `close` only hands the node
//! over to the task here, which publishes one goodbye after the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::node::Node;
use crate::{Error, Result};

/// The bound of the queue. Beyond it, goodbyes are dropped, and other servers detect the departure when this process ends.
const MAX_GOODBYES: usize = 1 << 17;

type Outcome = oneshot::Sender<Result<()>>;

/// The queue of goodbyes, and the task that publishes them.
#[derive(Default)]
pub(super) struct Goodbyes {
    queue: Arc<Queue>,
    task: OnceLock<AbortOnDropHandle<()>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<(Arc<Node>, Outcome)>>,
    added: Notify,
}

impl Goodbyes {
    /// Queues the goodbye of a node at once. The returned future resolves when the goodbye is committed. The goodbye is
    /// published also without awaiting it.
    pub(super) fn push(&self, node: Arc<Node>) -> impl Future<Output = Result<()>> + Send + use<> {
        let (outcome, outcome_receiver) = oneshot::channel();
        let is_queued = {
            let mut waiting = self.queue.waiting();
            let fits = waiting.len() < MAX_GOODBYES;
            if fits {
                waiting.push_back((node, outcome));
            }
            fits
        };
        if is_queued {
            let queue = self.queue.clone();
            self.task.get_or_init(|| AbortOnDropHandle::new(tokio::spawn(run(queue))));
            self.queue.added.notify_one();
        } else {
            tracing::warn!(
                limit = MAX_GOODBYES,
                "too many namespaces close at once; other servers detect the departure when this process ends"
            );
        }
        async move { outcome_receiver.await.unwrap_or(Err(Error::Closed)) }
    }
}

/// The cluster handle may outlive the adapter, so it gets the queued goodbyes.
impl Drop for Goodbyes {
    fn drop(&mut self) {
        for (node, _) in self.queue.waiting().drain(..) {
            node.queue_goodbye_on_drop();
        }
    }
}

impl Queue {
    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<(Arc<Node>, Outcome)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node whose goodbye is not committed. If its task is dropped, the cluster handle publishes the goodbye.
struct Unannounced(Option<Arc<Node>>);

impl Unannounced {
    /// The goodbye is committed, handed over, or given up.
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Unannounced {
    fn drop(&mut self) {
        if let Some(node) = &self.0 {
            node.queue_goodbye_on_drop();
        }
    }
}

async fn run(queue: Arc<Queue>) {
    // Receipts are awaited together, so that many goodbyes share a commit.
    let mut commits = tokio::task::JoinSet::new();
    loop {
        // It stays in the queue meanwhile, so that it is handed over if this task ends here.
        let next = queue.waiting().front().map(|(node, _)| node.clone());
        let Some(node) = next else {
            tokio::select! {
                () = queue.added.notified() => {}
                Some(_) = commits.join_next() => {}
            }
            continue;
        };
        let queued = node.enqueue_goodbye().await;
        let Some((node, outcome)) = queue.waiting().pop_front() else { continue };
        let unannounced = Unannounced(Some(node.clone()));
        commits.spawn(async move {
            let result = match queued {
                Ok(receipt) => receipt.await,
                Err(error) => Err(error),
            };
            if let Err(error) = &result {
                tracing::debug!(%error, nsp = %node.nsp, "cannot announce the departure of a namespace");
                if let Err(error) = node.queue_goodbye().await {
                    tracing::debug!(%error, nsp = %node.nsp, "giving up the announcement of a departure");
                }
            }
            unannounced.end();
            // The caller may not wait for the outcome.
            outcome.send(result).ok();
        });
        while commits.try_join_next().is_some() {}
    }
}
