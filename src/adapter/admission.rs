//! Dynamic namespaces that start with the first client that is admitted.
//!
//! socketioxide creates a dynamic namespace before any middleware has judged the client. Until a client is admitted,
//! such a namespace is dormant: it exists in this process only, without LISTEN, heartbeat or goodbye. Invariants: a
//! dormant namespace publishes nothing, and no more than the limit are awake.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::node::Node;
use crate::{Error, Result};

/// Accounts for a dormant namespace on behalf of the connection that asked for it, until it is dropped.
pub(crate) type DormantPermit = Box<dyn Any + Send + Sync>;

/// The limit of the namespaces that clients can create. Without one, each starts as soon as it is created.
#[derive(Default)]
pub(super) struct OnAdmission(OnceLock<Limit>);

struct Limit {
    max: usize,
    free: Arc<Semaphore>,
}

impl OnAdmission {
    /// From now on namespaces start on admission. The first call counts.
    pub(super) fn enable(&self, max: usize) {
        let max = max.min(Semaphore::MAX_PERMITS);
        self.0.get_or_init(|| Limit { max, free: Arc::new(Semaphore::new(max)) });
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.0.get().is_some()
    }

    /// Wakes a dormant namespace. Returns true if the caller has to start it.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the server has as many namespaces as it may have.
    pub(super) fn wake(&self, node: &Node) -> Result<bool> {
        let Some(limit) = self.0.get().filter(|_| node.readiness.is_dormant()) else { return Ok(false) };
        let permit = limit.free.clone().try_acquire_owned().map_err(|_| Error::Namespace {
            namespace: node.nsp.to_string(),
            reason: format!("the limit of {} namespaces of this server is reached", limit.max),
        })?;
        let is_first = node.readiness.wake();
        if is_first {
            node.dormancy.end(permit);
        }
        Ok(is_first)
    }
}

/// What a node knows of its dormancy.
#[derive(Default)]
pub(super) struct Dormancy(Mutex<State>);

#[derive(Default)]
struct State {
    /// The clients that are being judged.
    #[cfg(feature = "server")]
    visitors: usize,
    /// The client that created the namespace has not been seen yet.
    expects_creator: bool,
    dormant: Option<DormantPermit>,
    awake: Option<OwnedSemaphorePermit>,
}

impl Dormancy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespace is dormant from now on, and the client that created it is on its way.
    pub(super) fn begin(&self, permit: Option<DormantPermit>) {
        let mut state = self.state();
        state.expects_creator = true;
        state.dormant = permit;
    }

    fn end(&self, permit: OwnedSemaphorePermit) {
        let mut state = self.state();
        state.awake = Some(permit);
        let dormant = state.dormant.take();
        drop(state);
        drop(dormant);
    }

    /// Gives back what the node counts for.
    pub(super) fn release(&self) {
        let mut state = self.state();
        let permits = (state.dormant.take(), state.awake.take());
        drop(state);
        drop(permits);
    }
}

/// A client that is being judged at the door of a namespace.
#[cfg(feature = "server")]
pub(crate) struct Visit(Option<Arc<Node>>);

#[cfg(feature = "server")]
impl Visit {
    /// `None` stands for a namespace that was deleted meanwhile.
    pub(super) fn start(node: Option<Arc<Node>>) -> Self {
        if let Some(node) = &node {
            let mut state = node.dormancy.state();
            state.visitors += 1;
            state.expects_creator = false;
        }
        Self(node)
    }

    /// Ends the visit of a client that was refused. Returns whether the namespace is dormant and no other client asks
    /// for it, so that it can be deleted.
    pub(crate) fn end_refused(mut self) -> bool {
        self.0.take().is_some_and(|node| leave(&node))
    }
}

#[cfg(feature = "server")]
impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(node) = self.0.take() {
            leave(&node);
        }
    }
}

#[cfg(feature = "server")]
fn leave(node: &Node) -> bool {
    let mut state = node.dormancy.state();
    state.visitors = state.visitors.saturating_sub(1);
    let is_alone = state.visitors == 0 && !state.expects_creator;
    drop(state);
    is_alone && node.readiness.is_dormant()
}
