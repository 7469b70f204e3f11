//! The target sockets of a message: converts the protocol's options to socketioxide's, and back.

use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions as CoreOptions, Room, SocketEmitter};

use super::{PostgresAdapter, Sid};
use crate::protocol::{BroadcastOptions, Flags};

/// The options for other servers. In the protocol, the id of a sender or of a single target socket is a room.
pub(super) fn to_wire(opts: &CoreOptions) -> BroadcastOptions {
    let mut rooms = names(opts.rooms.iter().cloned());
    let mut except = names(opts.except.iter().cloned());
    match opts.sid {
        Some(sid) if opts.has_flag(BroadcastFlags::Broadcast) => except.push(sid.to_string()),
        Some(sid) if rooms.is_empty() => rooms.push(sid.to_string()),
        _ => {}
    }
    let volatile = opts.has_flag(BroadcastFlags::Volatile).then_some(true);
    BroadcastOptions { rooms, except, flags: Flags { volatile, ..Flags::default() } }
}

/// The options for sockets of this server.
pub(super) fn from_wire(opts: BroadcastOptions) -> CoreOptions {
    let mut core = CoreOptions::default();
    core.rooms = opts.rooms.into_iter().map(Room::from).collect();
    core.except = opts.except.into_iter().map(Room::from).collect();
    // Without this flag, no rooms would mean no socket.
    core.add_flag(BroadcastFlags::Broadcast);
    if opts.flags.volatile == Some(true) {
        core.add_flag(BroadcastFlags::Volatile);
    }
    core
}

/// One socket of this server.
pub(super) fn one(sid: Sid) -> CoreOptions {
    CoreOptions::new(sid)
}

/// The same sockets, for a packet that is not volatile. A flag cannot be removed, so the options are made anew.
pub(super) fn not_volatile(opts: &CoreOptions) -> CoreOptions {
    let mut same = CoreOptions::default();
    (same.rooms, same.except) = (opts.rooms.clone(), opts.except.clone());
    (same.sid, same.server_id) = (opts.sid, opts.server_id);
    for flag in [BroadcastFlags::Broadcast, BroadcastFlags::Local] {
        if opts.has_flag(flag) {
            same.add_flag(flag);
        }
    }
    same
}

/// The names of rooms in the protocol.
pub(super) fn names(rooms: impl IntoIterator<Item = Room>) -> Vec<String> {
    rooms.into_iter().map(Room::into_owned).collect()
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    /// Whether the message is only for sockets of this server.
    pub(super) fn is_local_only(&self, opts: &CoreOptions) -> bool {
        let is_own_socket = || {
            let one = opts.sid.filter(|_| opts.rooms.is_empty() && !opts.has_flag(BroadcastFlags::Broadcast));
            one.is_some_and(|sid| self.is_local(sid))
        };
        opts.has_flag(BroadcastFlags::Local) || is_own_socket()
    }

    /// The sockets of this server to which the options lead.
    pub(super) fn sids_of(&self, opts: &CoreOptions) -> Vec<Sid> {
        self.ensure_sid_rooms(opts);
        self.local.sockets(opts.clone())
    }

    pub(super) fn is_local(&self, sid: Sid) -> bool {
        !self.local.fetch_sockets(one(sid)).is_empty()
    }

    /// In Node each socket is in a room of its own id. Here it joins that room when its id is first used as a room.
    pub(super) fn ensure_sid_rooms(&self, opts: &CoreOptions) {
        for room in opts.rooms.iter().chain(&opts.except) {
            if let Ok(sid) = room.parse::<Sid>()
                && self.is_local(sid)
            {
                self.local.add_all(sid, room.clone());
                // It may have disconnected meanwhile; then nothing else would remove it from the room.
                if !self.is_local(sid) {
                    self.local.del_all(sid);
                }
            }
        }
    }
}
