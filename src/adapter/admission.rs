//! Admission: a dynamic namespace starts with the first admitted client.
//!
//! socketioxide creates a dynamic namespace before the middlewares authorize the client. Until a client is admitted, such a
//! namespace is dormant: it exists only in this process, without LISTEN, heartbeat or goodbye. Invariants: a dormant
//! namespace publishes nothing, and the number of running namespaces stays within the limit.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::node::Node;
use crate::{Error, Result};

/// The permit of a dormant namespace, charged to the connection that requested it until the permit is dropped.
pub(crate) type DormantPermit = Box<dyn Any + Send + Sync>;

/// The limit of the namespaces that clients can create. Without a limit, each namespace starts when it is created.
#[derive(Default)]
pub(super) struct OnAdmission(OnceLock<Limit>);

struct Limit {
    max: usize,
    free: Arc<Semaphore>,
}

impl OnAdmission {
    /// From now on namespaces start on admission. Only the first call has an effect.
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
    /// [`Error::Namespace`] if the limit of namespaces is reached.
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

/// The dormancy of a node.
#[derive(Default)]
pub(super) struct Dormancy(Mutex<State>);

#[derive(Default)]
struct State {
    /// The number of clients that wait for their authorization.
    #[cfg(feature = "server")]
    pending_clients: usize,
    /// Whether the client that created the namespace has not reached the middleware yet.
    expects_creator: bool,
    dormant: Option<DormantPermit>,
    running: Option<OwnedSemaphorePermit>,
}

impl Dormancy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespace becomes dormant, and waits for the client that created it.
    pub(super) fn begin(&self, permit: Option<DormantPermit>) {
        let mut state = self.state();
        state.expects_creator = true;
        state.dormant = permit;
    }

    fn end(&self, permit: OwnedSemaphorePermit) {
        let mut state = self.state();
        state.running = Some(permit);
        let dormant = state.dormant.take();
        drop(state);
        drop(dormant);
    }

    /// Releases the permits of the node.
    pub(super) fn release(&self) {
        let mut state = self.state();
        let permits = (state.dormant.take(), state.running.take());
        drop(state);
        drop(permits);
    }
}

/// Counts a client that waits for its authorization in a namespace, until it is dropped.
#[cfg(feature = "server")]
pub(crate) struct AdmissionGuard(Option<Arc<Node>>);

#[cfg(feature = "server")]
impl AdmissionGuard {
    /// `None` if the namespace was deleted meanwhile.
    pub(super) fn start(node: Option<Arc<Node>>) -> Self {
        if let Some(node) = &node {
            let mut state = node.dormancy.state();
            state.pending_clients += 1;
            state.expects_creator = false;
        }
        Self(node)
    }

    /// Ends the admission of a refused client. Returns whether the namespace is dormant and no other client waits for it,
    /// so that it can be deleted.
    pub(crate) fn end_refused(mut self) -> bool {
        self.0.take().is_some_and(|node| leave(&node))
    }
}

#[cfg(feature = "server")]
impl Drop for AdmissionGuard {
    fn drop(&mut self) {
        if let Some(node) = self.0.take() {
            leave(&node);
        }
    }
}

#[cfg(feature = "server")]
fn leave(node: &Node) -> bool {
    let mut state = node.dormancy.state();
    state.pending_clients = state.pending_clients.saturating_sub(1);
    let is_alone = state.pending_clients == 0 && !state.expects_creator;
    drop(state);
    is_alone && node.readiness.is_dormant()
}
