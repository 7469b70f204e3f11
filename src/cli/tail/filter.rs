//! The filters of `tail`.

use globset::GlobMatcher;

use super::Tail;
use crate::cluster::{Content, Received};
use crate::protocol::{Body, Header, MessageKind};

/// The filter flags of `tail`. Different flags combine with AND; the values of one flag combine with OR.
#[derive(Clone)]
pub(super) struct Filter {
    events: Vec<GlobMatcher>,
    rooms: Vec<String>,
    types: Vec<MessageKind>,
    uids: Vec<String>,
    heartbeats: bool,
}

impl Filter {
    /// Creates the filter from the flags. `senders` are complete uids.
    pub(super) fn of(tail: &Tail, senders: Vec<String>) -> Self {
        Self {
            events: tail.events.clone(),
            rooms: tail.rooms.clone(),
            types: tail.types.clone(),
            uids: senders,
            heartbeats: tail.heartbeats,
        }
    }

    /// Whether the header alone passes the filter, before an attachment is looked up. A message without a header is
    /// always shown, since it is an anomaly.
    pub(super) fn wants(&self, header: Option<&Header>) -> bool {
        let Some(Header { uid, kind, .. }) = header else { return true };
        let type_fits = match self.types.as_slice() {
            [] => self.heartbeats || !kind.is_heartbeat(),
            types => types.contains(kind) || (self.heartbeats && kind.is_heartbeat()),
        };
        type_fits && (self.uids.is_empty() || self.uids.iter().any(|wanted| wanted == uid.as_str()))
    }

    /// Whether the whole message passes the filter. An unreadable message is shown, since it may be one that the user
    /// looks for.
    pub(super) fn shows(&self, received: &Received) -> bool {
        match &received.content {
            Content::Message(message) => self.event_fits(&message.body) && self.room_fits(&message.body),
            Content::Missing(_) | Content::Unreadable(..) => true,
        }
    }

    fn event_fits(&self, body: &Body) -> bool {
        if self.events.is_empty() {
            return true;
        }
        match body {
            Body::Broadcast { event, .. } | Body::ServerSideEmit { event, .. } => {
                let is_wanted = |name: &str| self.events.iter().any(|glob| glob.is_match(name));
                event.event().map_or(true, |name| is_wanted(&name))
            }
            _ => false,
        }
    }

    fn room_fits(&self, body: &Body) -> bool {
        let named = |rooms: &[String]| rooms.iter().any(|room| self.rooms.contains(room));
        self.rooms.is_empty()
            || body.options().is_some_and(|opts| named(&opts.rooms))
            || matches!(body, Body::SocketsJoin { rooms, .. } | Body::SocketsLeave { rooms, .. } if named(rooms))
    }
}

/// Parses the name of a message type.
pub(super) fn parse_kind(name: &str) -> Result<MessageKind, String> {
    name.parse().map_err(|_| {
        let names: Vec<_> = MessageKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("unknown type; the types are {}", names.join(", "))
    })
}
