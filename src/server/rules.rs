//! What clients may do.

use globset::GlobMatcher;

/// What clients may do. By default nothing: they receive what is sent to them, and acknowledge it.
#[derive(Debug, Clone, Default)]
pub struct ClientRules {
    /// The rooms that clients may join and leave by themselves: those that one of these matches.
    pub join: Vec<GlobMatcher>,
    /// Who gets what clients emit.
    pub relay: Relay,
}

/// Who gets what clients emit, apart from `join` and `leave`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Relay {
    /// Nobody.
    #[default]
    Off,
    /// Who shares a room with the sender.
    Rooms,
    /// Everyone else in the namespace.
    Namespace,
}

impl ClientRules {
    pub(super) fn may_join(&self, room: &str) -> bool {
        self.join.iter().any(|glob| glob.is_match(room))
    }
}
