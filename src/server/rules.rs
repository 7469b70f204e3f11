//! What clients may do: join rooms, and have their events relayed.

use std::str::FromStr;

use globset::{Glob, GlobMatcher};

use crate::{Error, Result};

/// What clients may do. By default they can only receive events and acknowledge them.
#[derive(Debug, Clone, Default)]
pub struct ClientRules {
    /// Clients may join and leave a room that one of these patterns matches.
    pub join: Vec<RoomPattern>,
    /// Which clients receive the events that a client emits.
    pub relay: Relay,
}

/// A pattern of room names, with `*`, `?`, `[a-z]` and `{a,b}`.
///
/// ```
/// let rules = pgio::server::ClientRules { join: vec!["chat:*".parse()?], ..Default::default() };
/// # Ok::<_, pgio::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RoomPattern(GlobMatcher);

impl FromStr for RoomPattern {
    type Err = Error;

    /// Reads a pattern.
    ///
    /// # Errors
    /// [`Error::Setting`] for a text that is no pattern, such as `[a`.
    fn from_str(pattern: &str) -> Result<Self> {
        let glob = Glob::new(pattern)
            .map_err(|error| Error::Setting { setting: "join".into(), reason: error.kind().to_string() })?;
        Ok(Self(glob.compile_matcher()))
    }
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
        self.join.iter().any(|RoomPattern(glob)| glob.is_match(room))
    }
}
