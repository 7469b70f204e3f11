//! The permissions of clients: which rooms they may join, and which events are relayed.

mod pattern;

pub use pattern::RoomPattern;

use crate::protocol::Value;

/// The permissions of clients. By default they can only receive events and acknowledge them.
#[derive(Debug, Clone, Default)]
pub struct ClientRules {
    /// Clients may join and leave a room that one of these patterns matches.
    pub join: Vec<RoomPattern>,
    /// Whether clients may join rooms whose names look like the id of a socket. A room with the id of a socket receives
    /// the messages for that socket, even if the socket is on another server. A pattern without wildcards always allows
    /// such a name. Default: false.
    pub allow_id_rooms: bool,
    /// Which clients receive the events that a client emits.
    pub relay: Relay,
}

/// Which clients receive the events that a client emits (`join` and `leave` excepted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Relay {
    /// No client: the event is refused.
    #[default]
    Off,
    /// The clients that share a room with the sender.
    Rooms,
    /// All other clients of the namespace.
    Namespace,
}

/// The reason why a client may not join a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAllowed {
    /// No pattern matches.
    NoPattern,
    /// The name looks like the id of a socket.
    LooksLikeId,
}

impl ClientRules {
    /// Whether a client with these claims may join a room.
    pub(super) fn may_join(&self, room: &str, own_id: &str, claims: &Value) -> Result<(), NotAllowed> {
        let mut matching = self.join.iter().filter(|pattern| pattern.matches(room, claims)).peekable();
        if matching.peek().is_none() {
            return Err(NotAllowed::NoPattern);
        }
        let is_safe = self.allow_id_rooms || room == own_id || !looks_like_id(room);
        if is_safe || matching.any(RoomPattern::is_literal) { Ok(()) } else { Err(NotAllowed::LooksLikeId) }
    }
}

/// Whether a name has the form of a socket id: 20 characters in Node, 16 in socketioxide.
fn looks_like_id(room: &str) -> bool {
    let is_of_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    matches!(room.len(), 16 | 20) && room.bytes().all(is_of_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(join: &[&str]) -> ClientRules {
        let join = join.iter().map(|pattern| pattern.parse().unwrap()).collect();
        ClientRules { join, ..ClientRules::default() }
    }

    #[test]
    fn rooms_that_look_like_ids_are_left_to_their_sockets() {
        let own = "8pq5UEt2voN_F8cc";
        let may_join = |rules: &ClientRules, room: &str| rules.may_join(room, own, &Value::Null);
        let every = rules(&["*"]);
        for room in ["rx4_lTiafaywBHG5", "l8xd-goCxvf6FHiGAAAA", "sixteenletters16"] {
            assert_eq!(may_join(&every, room), Err(NotAllowed::LooksLikeId), "{room}");
            assert_eq!(may_join(&rules(&["*", room]), room), Ok(()), "{room}");
            let all_rooms = ClientRules { allow_id_rooms: true, ..every.clone() };
            assert_eq!(may_join(&all_rooms, room), Ok(()), "{room}");
        }
        for room in
            [own, "r1", "seventeenletters7", "chat:12345678901", "sixteen letters1", "ä23456789012345"]
        {
            assert_eq!(may_join(&every, room), Ok(()), "{room}");
        }
        assert_eq!(may_join(&rules(&["r*"]), "x"), Err(NotAllowed::NoPattern));
    }
}
