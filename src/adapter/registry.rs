//! The registry of nodes: at most one for each namespace of a server.
//!
//! socketioxide looks up a dynamic namespace and creates it in two steps, so clients that connect at the same time can
//! create several objects for one path. Only the first object may serve it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::node::Node;
use crate::protocol::Namespace;

/// The nodes of a server by namespace. An entry whose node is closed or dropped counts as absent.
#[derive(Default)]
pub(super) struct Registry(Mutex<Nodes>);

#[derive(Default)]
struct Nodes {
    by_namespace: HashMap<Namespace, Weak<Node>>,
    /// Whether the adapter was closed. Later connect packets create no namespace.
    is_closed: bool,
}

/// The outcome of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The node serves the namespace.
    Registered,
    /// Another node serves it.
    Taken,
    /// The adapter was closed.
    Closed,
}

impl Registry {
    /// Registers a node, unless another one serves its namespace.
    pub(super) fn claim(&self, node: &Arc<Node>) -> Claim {
        let mut nodes = self.nodes();
        if nodes.is_closed {
            return Claim::Closed;
        }
        if live(nodes.by_namespace.get(&node.nsp)).is_some() {
            return Claim::Taken;
        }
        nodes.by_namespace.insert(node.nsp.clone(), Arc::downgrade(node));
        Claim::Registered
    }

    /// Removes a node; another node of the same namespace stays.
    pub(super) fn release(&self, node: &Arc<Node>) {
        let nodes = &mut self.nodes().by_namespace;
        if nodes.get(&node.nsp).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(node))) {
            nodes.remove(&node.nsp);
        }
    }

    /// The node of a namespace.
    pub(super) fn get(&self, nsp: &Namespace) -> Option<Arc<Node>> {
        live(self.nodes().by_namespace.get(nsp))
    }

    /// The namespaces that other servers may know, sorted.
    pub(super) fn namespaces(&self) -> Vec<Namespace> {
        let nodes: Vec<_> = self.nodes().by_namespace.values().filter_map(|node| live(Some(node))).collect();
        let mut namespaces: Vec<_> =
            nodes.iter().filter(|node| node.has_published()).map(|node| node.nsp.clone()).collect();
        namespaces.sort();
        namespaces
    }

    /// Removes all nodes and returns them. No other node is registered from now on.
    pub(super) fn close(&self) -> Vec<Arc<Node>> {
        let mut nodes = self.nodes();
        nodes.is_closed = true;
        let by_namespace = std::mem::take(&mut nodes.by_namespace);
        drop(nodes);
        by_namespace.into_values().filter_map(|node| node.upgrade()).collect()
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn live(node: Option<&Weak<Node>>) -> Option<Arc<Node>> {
    node?.upgrade().filter(|node| !node.is_closed())
}
