//! What clients may do: join rooms, and have their events relayed.

use globset::GlobMatcher;

/// What clients may do. By default they can only receive events and acknowledge them.
#[derive(Debug, Clone, Default)]
pub struct ClientRules {
    /// Clients may join and leave a room that one of these patterns matches.
    pub join: Vec<GlobMatcher>,
    /// Which clients receive the events that a client emits.
    pub relay: Relay,
}

/// Which clients receive the events that a client emits (`join` and `leave` excepted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Relay {
    /// None: the event is refused.
    #[default]
    Off,
    /// Those that share a room with the sender.
    Rooms,
    /// All others in the namespace.
    Namespace,
}

impl ClientRules {
    pub(super) fn may_join(&self, room: &str) -> bool {
        self.join.iter().any(|glob| glob.is_match(room))
    }
}
