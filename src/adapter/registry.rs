//! Which node serves each namespace of a server: at most one for each name.
//!
//! socketioxide looks up a dynamic namespace and creates it in two steps, so clients that connect at the same time can
//! create several objects for one path. Only the first object may serve it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::node::Node;
use crate::protocol::Namespace;

/// The nodes of a server by namespace. An entry whose node is closed or dropped counts as absent.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<Namespace, Weak<Node>>>);

impl Registry {
    /// Registers a node, unless another one serves its namespace. Returns whether it did.
    pub(super) fn claim(&self, node: &Arc<Node>) -> bool {
        let mut nodes = self.nodes();
        if live(nodes.get(&node.nsp)).is_some() {
            return false;
        }
        nodes.insert(node.nsp.clone(), Arc::downgrade(node));
        true
    }

    /// Removes a node; another node of the same namespace stays.
    pub(super) fn release(&self, node: &Arc<Node>) {
        let mut nodes = self.nodes();
        if nodes.get(&node.nsp).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(node))) {
            nodes.remove(&node.nsp);
        }
    }

    /// The node of a namespace.
    pub(super) fn get(&self, nsp: &Namespace) -> Option<Arc<Node>> {
        live(self.nodes().get(nsp))
    }

    /// Removes all nodes and returns them.
    pub(super) fn take(&self) -> Vec<Arc<Node>> {
        let nodes = std::mem::take(&mut *self.nodes());
        nodes.into_values().filter_map(|node| node.upgrade()).collect()
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<Namespace, Weak<Node>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn live(node: Option<&Weak<Node>>) -> Option<Arc<Node>> {
    node?.upgrade().filter(|node| !node.is_closed())
}
