//! Counts the traffic of a cluster: by kind of message, and by event, room and sender, per second for ten minutes.
//!
//! Input: the messages of a subscription, each with the second of its arrival. Output: totals, and the heaviest rows of
//! each ranking. Every message is counted. Invariant: the memory is bounded for any number of events, rooms and senders
//! with names of any length. A [`Ranking`] has a fixed number of rows, and counts the rest as one row.

mod labelled;
mod ranking;
mod ring;
mod sketch;

pub(super) use labelled::Labelled;
pub(super) use ranking::{Ranking, Row};
pub(super) use ring::{Ring, SECONDS};

use crate::cluster::{Content, Received};
use crate::protocol::{Body, Header, MessageKind};

/// The maximum number of rooms of one message that are counted by name. The others count as other rooms.
const ROOMS_OF_A_MESSAGE: usize = 256;

/// The number of kinds of messages.
const KINDS: usize = MessageKind::ALL.len();

/// The counters of one second, or of the whole time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    kinds: [u64; KINDS],
    /// Notifications that are not a valid message.
    pub(super) malformed: u64,
    /// Bytes in notifications.
    pub(super) inline_bytes: u64,
    /// Messages that came as a row of the attachment table.
    pub(super) attachments: u64,
    /// Bytes in these rows.
    pub(super) attachment_bytes: u64,
    /// Messages whose row was already deleted.
    pub(super) missing: u64,
    /// Messages that were dropped before they were counted, since this process was too slow.
    pub(super) missed: u64,
}

impl Counts {
    /// The number of messages of this kind.
    pub(super) fn of_kind(&self, kind: MessageKind) -> u64 {
        self.kinds.get(index(kind)).copied().unwrap_or_default()
    }

    /// The number of messages of all kinds, including malformed ones.
    pub(super) fn messages(&self) -> u64 {
        self.kinds.iter().sum::<u64>() + self.malformed
    }

    /// The number of events, for clients or for servers.
    pub(super) fn events(&self) -> u64 {
        self.of_kind(MessageKind::Broadcast) + self.of_kind(MessageKind::ServerSideEmit)
    }

    /// The number of acknowledgements of clients, and of answers of servers to events.
    pub(super) fn acks(&self) -> u64 {
        self.of_kind(MessageKind::BroadcastAck) + self.of_kind(MessageKind::ServerSideEmitResponse)
    }

    /// The number of bytes, inline and in attachments.
    pub(super) fn bytes(&self) -> u64 {
        self.inline_bytes + self.attachment_bytes
    }

    /// The sum of both.
    pub(super) fn plus(mut self, other: &Self) -> Self {
        for (sum, more) in self.kinds.iter_mut().zip(&other.kinds) {
            *sum += more;
        }
        self.malformed += other.malformed;
        self.inline_bytes += other.inline_bytes;
        self.attachments += other.attachments;
        self.attachment_bytes += other.attachment_bytes;
        self.missing += other.missing;
        self.missed += other.missed;
        self
    }

    fn add(&mut self, received: &Received, kind: Option<MessageKind>) {
        match kind.and_then(|kind| self.kinds.get_mut(index(kind))) {
            Some(count) => *count += 1,
            None => self.malformed += 1,
        }
        self.inline_bytes += received.text.len() as u64;
        if let Some(attachment) = received.attachment {
            self.attachments += 1;
            self.attachment_bytes += attachment.bytes.unwrap_or_default() as u64;
        }
        self.missing += u64::from(matches!(received.content, Content::Missing(_)));
    }
}

/// The index of a kind. The numbers of the kinds start at 1.
fn index(kind: MessageKind) -> usize {
    usize::from(kind.number()).saturating_sub(1)
}

/// The subject of a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum By {
    /// Events, by their name
    #[default]
    Event,
    /// Events, by the room that they are for
    Room,
    /// Messages of every kind, by the server or emitter that sent them
    Sender,
}

impl By {
    pub(super) const ALL: [Self; 3] = [Self::Event, Self::Room, Self::Sender];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Room => "room",
            Self::Sender => "sender",
        }
    }
}

/// All counters.
pub(super) struct Traffic {
    total: Counts,
    seconds: Ring<Counts>,
    by_event: Ranking,
    by_room: Ranking,
    by_sender: Ranking,
    event_names: Labelled,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            total: Counts::default(),
            seconds: Ring::new(),
            by_event: Ranking::new(),
            by_room: Ranking::new(),
            by_sender: Ranking::new(),
            event_names: Labelled::default(),
        }
    }

    /// Counts a message that arrived in this second.
    pub(super) fn count(&mut self, second: u64, received: &Received) {
        let (nsp, uid, kind) = match &received.content {
            Content::Message(message) => (message.nsp.as_str(), message.uid.as_str(), message.kind()),
            Content::Missing(Header { uid, nsp, kind })
            | Content::Unreadable(Some(Header { uid, nsp, kind }), _) => (nsp.as_str(), uid.as_str(), *kind),
            Content::Unreadable(None, _) => {
                self.total.add(received, None);
                self.seconds.at(second).add(received, None);
                return;
            }
        };
        self.total.add(received, Some(kind));
        self.seconds.at(second).add(received, Some(kind));
        let bytes = size(received);
        self.by_sender.add(second, nsp, Some(uid), bytes);
        let Content::Message(message) = &received.content else { return };
        if let Body::Broadcast { event, .. } | Body::ServerSideEmit { event, .. } = &message.body {
            let name = event.event().ok();
            self.by_event.add(second, nsp, name.as_deref(), bytes);
            self.event_names.add(name.as_deref().unwrap_or_default());
        }
        if let Body::Broadcast { opts, .. } = &message.body {
            if opts.rooms.is_empty() {
                self.by_room.add(second, nsp, None, bytes);
            }
            for room in opts.rooms.iter().take(ROOMS_OF_A_MESSAGE) {
                self.by_room.add(second, nsp, Some(room), bytes);
            }
            for _ in opts.rooms.iter().skip(ROOMS_OF_A_MESSAGE) {
                self.by_room.add_other(second, bytes);
            }
        }
    }

    /// Counts messages that were dropped before they were counted.
    pub(super) fn miss(&mut self, second: u64, count: u64) {
        self.total.missed += count;
        self.seconds.at(second).missed += count;
    }

    /// The counters since the start.
    pub(super) fn total(&self) -> &Counts {
        &self.total
    }

    /// The counters of at most `seconds` seconds before `second`, the oldest first. There are none before the start.
    pub(super) fn before(&self, second: u64, seconds: usize) -> impl Iterator<Item = Counts> + '_ {
        self.seconds.before(second, seconds)
    }

    /// The events by name, for counters that never decrease.
    pub(super) fn event_names(&self) -> &Labelled {
        &self.event_names
    }

    /// The ranking of this subject.
    pub(super) fn ranking(&self, by: By) -> &Ranking {
        match by {
            By::Event => &self.by_event,
            By::Room => &self.by_room,
            By::Sender => &self.by_sender,
        }
    }
}

/// The number of bytes of a message, inline and in its attachment.
pub(super) fn size(received: &Received) -> u64 {
    let attached = received.attachment.and_then(|attachment| attachment.bytes).unwrap_or_default();
    (received.text.len() + attached) as u64
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::cluster::Attached;
    use crate::protocol::{AttachmentId, BroadcastOptions, EventArgs, Message, RequestId, Uid};
    use crate::{Error, Namespace, Value};

    /// A message as a subscription returns it.
    pub(in crate::cli) fn received(uid: &str, body: Body, attachment: Option<usize>) -> Received {
        let nsp = Namespace::default();
        let attached = |bytes| Attached { id: AttachmentId(1), bytes: Some(bytes), memory: bytes };
        Received {
            backend: None,
            time: SystemTime::UNIX_EPOCH,
            channel: nsp.channel("socket.io").unwrap(),
            text: "x".repeat(100),
            attachment: attachment.map(attached),
            content: Content::Message(Message { uid: uid.into(), nsp, body }),
            is_replayed: false,
        }
    }

    pub(in crate::cli) fn broadcast(event: &str, rooms: &[&str]) -> Body {
        let opts =
            BroadcastOptions::default().to(rooms.iter().map(|room| room.to_string()).collect::<Vec<_>>());
        Body::Broadcast { opts, event: EventArgs::new(event, [Value::Int(1)]), request_id: None }
    }

    fn names(ranking: &Ranking) -> Vec<(Option<&str>, u64)> {
        let mut names: Vec<_> = ranking.rows().map(|row| (row.name(), row.total().messages)).collect();
        names.sort();
        names
    }

    #[test]
    fn each_message_is_counted_once_in_each_ranking() {
        let mut traffic = Traffic::new();
        traffic.count(0, &received("a", broadcast("chat", &["r1", "r2"]), None));
        traffic.count(1, &received("emitter", broadcast("chat", &[]), Some(5000)));
        let server_side = Body::ServerSideEmit { event: EventArgs::new("who", []), request_id: None };
        traffic.count(1, &received("a", server_side, None));
        traffic.count(2, &received("b", Body::Heartbeat, None));
        let (request_id, answer) = (RequestId::from("1"), Some(Value::Null));
        traffic.count(2, &received("b", Body::BroadcastAck { request_id, answer }, None));
        let total = traffic.total();
        assert_eq!((total.messages(), total.events(), total.acks()), (5, 3, 1));
        assert_eq!((total.inline_bytes, total.attachments, total.attachment_bytes), (500, 1, 5000));
        assert_eq!(names(&traffic.by_event), [(Some("chat"), 2), (Some("who"), 1)]);
        assert_eq!(names(&traffic.by_room), [(None, 1), (Some("r1"), 1), (Some("r2"), 1)]);
        assert_eq!(names(&traffic.by_sender), [(Some("a"), 2), (Some("b"), 2), (Some("emitter"), 1)]);
        let by_second: Vec<_> = traffic.before(3, 10).map(|second| second.messages()).collect();
        assert_eq!(by_second, [1, 2, 2]);
        let sum = traffic.before(3, 10).fold(Counts::default(), |sum, second| sum.plus(&second));
        assert_eq!(sum, *total);
    }

    #[test]
    fn what_cannot_be_read_is_counted_as_well() {
        let mut traffic = Traffic::new();
        let mut message = received("a", Body::Heartbeat, None);
        message.content = Content::Unreadable(None, Error::Closed);
        traffic.count(0, &message);
        let header = Header { uid: Uid::from("a"), nsp: Namespace::default(), kind: MessageKind::Broadcast };
        message.content = Content::Unreadable(Some(header.clone()), Error::Closed);
        traffic.count(0, &message);
        message.content = Content::Missing(header);
        traffic.count(0, &message);
        traffic.miss(0, 7);
        let total = traffic.total();
        assert_eq!((total.messages(), total.malformed, total.missing, total.missed), (3, 1, 1, 7));
        assert_eq!(total.of_kind(MessageKind::Broadcast), 2);
        assert_eq!(names(&traffic.by_sender), [(Some("a"), 2)]);
        let mut no_event = received("a", broadcast("e", &[]), None);
        let event = EventArgs::from_values(vec![Value::Int(1)]);
        let opts = BroadcastOptions::default();
        let body = Body::Broadcast { opts, event, request_id: None };
        no_event.content = Content::Message(Message::new("a".into(), "/", body));
        traffic.count(1, &no_event);
        assert_eq!(names(&traffic.by_event), [(None, 1)]);
    }

    #[test]
    fn a_flood_is_counted_to_the_last_message() {
        let mut traffic = Traffic::new();
        let messages: Vec<_> = (0..1000)
            .map(|i| {
                received(
                    &format!("uid{}", i % 7),
                    broadcast(&format!("event{i}"), &[&format!("room{}", i % 500)]),
                    None,
                )
            })
            .collect();
        for second in 0..20_u64 {
            for message in messages.iter().cycle().take(10_000) {
                traffic.count(second, message);
            }
        }
        assert_eq!((traffic.total().events(), traffic.total().bytes()), (200_000, 20_000_000));
        assert!(traffic.before(20, 20).all(|second| second.events() == 10_000));
        for by in By::ALL {
            let ranking = traffic.ranking(by);
            let counted = ranking.rows().chain([ranking.other()]).map(|row| row.recent(20, 20).messages);
            assert_eq!(counted.sum::<u64>(), 200_000, "{by:?}");
        }
        assert_eq!(names(&traffic.by_sender).len(), 7);
        assert_eq!(traffic.by_event.rows().count(), ranking::ROWS);
    }

    #[test]
    fn a_message_to_very_many_rooms_costs_as_much_as_one_to_some() {
        let mut traffic = Traffic::new();
        let rooms: Vec<_> = (0..1000).map(|i| format!("r{i}")).collect();
        let rooms: Vec<_> = rooms.iter().map(String::as_str).collect();
        traffic.count(0, &received("a", broadcast("e", &rooms), None));
        let named: u64 = traffic.by_room.rows().map(|row| row.total().messages).sum();
        assert_eq!(named, ROOMS_OF_A_MESSAGE as u64);
        assert_eq!(traffic.by_room.other().total().messages, 1000 - named);
    }
}
