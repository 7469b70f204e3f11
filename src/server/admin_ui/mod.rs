//! Shows this server in the official Admin UI (`@socket.io/admin-ui`), which an instrumented Node server of the cluster
//! serves.
//!
//! An instrumented server broadcasts the events of its sockets in the namespace of the UI, and the cluster's adapter
//! delivers them to the UIs of all servers. This server does the same as an emitter: it is no member of that namespace, so
//! no server counts it there or waits for its answers. It listens there, and sends nothing while no UI is connected.
//!
//! [`audience`] detects whether a UI is connected, [`ui_state`] computes the changes, and [`documents`] formats the events.
//! [`broadcaster`] is the task around them.

mod audience;
mod broadcaster;
mod departures;
mod documents;
mod ui_state;

use crate::protocol::Namespace;
use crate::setters::setters;

pub(super) use broadcaster::{Sources, start};
pub(super) use departures::Departures;

/// How a [`Server`](super::Server) shows in the Admin UI of Node servers (`instrument` of `@socket.io/admin-ui`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdminUi {
    /// The namespace of the UI, `namespaceName` in Node. Default: `/admin`.
    pub namespace: Namespace,
    /// The name of this server in the UI. It has to be unique in the cluster. Default: the host's name and the process
    /// id.
    pub server_id: Option<String>,
}

setters!(AdminUi {
    namespace: impl Into<Namespace>,
    server_id: impl Into<Option<String>>,
});

impl Default for AdminUi {
    fn default() -> Self {
        Self { namespace: Namespace::new("/admin"), server_id: None }
    }
}
