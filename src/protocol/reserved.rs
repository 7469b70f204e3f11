//! The names of events that Socket.IO reserves, so that applications cannot use them.

use super::{EventArgs, Value};
use crate::{Error, Result};

/// `RESERVED_EVENTS` of the Node emitter and of sockets. A client would take them for its own events.
const FOR_CLIENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// `RESERVED_EVENTS` of a Node namespace.
const FOR_SERVERS: [&str; 3] = ["connect", "connection", "new_namespace"];

/// An event for clients.
pub(crate) fn client_event(event: &str, args: Vec<Value>) -> Result<EventArgs> {
    unless(&FOR_CLIENTS, event, args)
}

/// Checks that an event for clients may have that name.
pub(crate) fn check_client_event(event: &str) -> Result<()> {
    unless_reserved(&FOR_CLIENTS, event)
}

/// An event for servers.
pub(crate) fn server_event(event: &str, args: Vec<Value>) -> Result<EventArgs> {
    unless(&FOR_SERVERS, event, args)
}

fn unless(reserved: &[&str], event: &str, args: Vec<Value>) -> Result<EventArgs> {
    unless_reserved(reserved, event)?;
    Ok(EventArgs::new(event, args))
}

fn unless_reserved(reserved: &[&str], event: &str) -> Result<()> {
    match reserved.contains(&event) {
        true => Err(Error::ReservedEvent { event: event.to_owned() }),
        false => Ok(()),
    }
}
