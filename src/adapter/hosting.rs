//! What a server that is built on the adapter needs beyond the public handle.

use std::sync::Arc;

use socketioxide_core::Value as CoreValue;
use socketioxide_core::packet::Packet;

use super::{PostgresAdapterCtr, convert};
use crate::protocol::{Uid, Value};
use crate::{Error, Result};

impl PostgresAdapterCtr {
    /// Answers every event of other servers for which there is no handler: with what `answer` makes of this server's uid
    /// in the namespace.
    pub(crate) fn answer_with(&self, answer: impl Fn(&Uid) -> Option<Value> + Send + Sync + 'static) {
        // The handler lives in what it refers to.
        let shared = Arc::downgrade(&self.0);
        self.on_any_server_side(move |nsp, _, _| {
            let node = Self(shared.upgrade()?).node(nsp.as_str()).ok()?;
            answer(&node.uid)
        });
    }
}

/// The name and the arguments of an event that a client has sent.
pub(crate) fn event_of_client(value: CoreValue) -> Result<(String, Vec<Value>)> {
    let event = convert::event_of(&Packet::event("/", value)).map_err(|e| Error::Decode(e.to_string()))?;
    event.into_parts()
}
