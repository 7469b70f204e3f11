//! Computes the differences between the sockets that the Admin UIs show and the sockets of this server.
//!
//! In: a snapshot of the sockets. Out: the changes to publish, up to a maximum at a time. The comparison finds a change
//! whatever caused it, and a socket that connects and disconnects between two snapshots costs nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::adapter::Sid;

/// The sockets of this server at a moment, by namespace.
pub(super) type Snapshot = BTreeMap<String, BTreeMap<Sid, ConnectedSocket>>;

/// A socket that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectedSocket {
    /// `websocket` or `polling`.
    pub(super) transport: &'static str,
    /// The rooms, without the room of the socket's own id.
    pub(super) rooms: BTreeSet<String>,
}

/// A change that has to be published to the UIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) nsp: String,
    pub(super) sid: Sid,
    pub(super) what: ChangeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChangeKind {
    /// The socket has connected, and is in these rooms.
    Connected(ConnectedSocket),
    /// The socket has changed its transport.
    Upgraded(&'static str),
    Joined(String),
    Left(String),
    /// The socket has disconnected. Its rooms follow as `Left`, one by one.
    Disconnected,
}

/// Whether the UIs list a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    Listed,
    /// The UIs may list the socket or not.
    Unsure,
    /// The UIs no longer list the socket, but still list some of its rooms.
    Unlisted,
}

#[derive(Debug)]
struct Entry {
    listing: Listing,
    transport: &'static str,
    rooms: BTreeSet<String>,
}

/// The sockets and rooms that the UIs show.
#[derive(Debug, Default)]
pub(super) struct UiState(BTreeMap<String, BTreeMap<Sid, Entry>>);

impl UiState {
    /// The state after the first UI has received the sockets of these namespaces. The UI may show other sockets as
    /// well, if the list is incomplete.
    pub(super) fn given(now: Snapshot, namespaces: &[String]) -> Self {
        let listed = |(sid, ConnectedSocket { transport, rooms })| {
            let rooms = with_own(sid, rooms);
            (sid, Entry { listing: Listing::Listed, transport, rooms })
        };
        let of_nsp =
            |(nsp, sockets): (String, BTreeMap<_, _>)| (nsp, sockets.into_iter().map(listed).collect());
        let mut shown = Self(now.into_iter().map(of_nsp).collect());
        shown.mark_uncertain_except(namespaces);
        shown
    }

    /// The state of the UIs becomes uncertain.
    pub(super) fn mark_uncertain(&mut self) {
        self.mark_uncertain_except(&[]);
    }

    /// Another UI has received the sockets of these namespaces. It is uncertain whether it shows the other sockets.
    pub(super) fn mark_uncertain_except(&mut self, namespaces: &[String]) {
        let certain: HashSet<&str> = namespaces.iter().map(String::as_str).collect();
        let doubtful = self.0.iter_mut().filter(|(nsp, _)| !certain.contains(nsp.as_str()));
        for entry in doubtful.flat_map(|(_, sockets)| sockets.values_mut()) {
            if entry.listing == Listing::Listed {
                entry.listing = Listing::Unsure;
            }
        }
    }

    /// Clears the state, since no UI is connected.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The changes that bring the UIs to the state `now`, at most `max`. The next call returns the rest.
    pub(super) fn changes(&self, now: &Snapshot, max: usize) -> Vec<Change> {
        let mut changes = Changes { list: Vec::new(), max };
        // Disconnects come first, since they shrink the state.
        for (nsp, shown) in &self.0 {
            let present = now.get(nsp);
            for (sid, entry) in shown {
                if changes.is_full() {
                    return changes.list;
                }
                if present.is_none_or(|present| !present.contains_key(sid)) {
                    changes.disconnect(nsp, *sid, entry);
                }
            }
        }
        for (nsp, present) in now {
            let shown = self.0.get(nsp);
            for (sid, socket) in present {
                if changes.is_full() {
                    return changes.list;
                }
                changes.update(nsp, *sid, shown.and_then(|shown| shown.get(sid)), socket);
            }
        }
        changes.list
    }

    /// Records a change that was published to the UIs.
    pub(super) fn record_published(&mut self, Change { nsp, sid, what }: Change) {
        let sockets = self.0.entry(nsp.clone()).or_default();
        match what {
            ChangeKind::Connected(ConnectedSocket { transport, rooms }) => {
                let rooms = with_own(sid, rooms);
                let entry = sockets.entry(sid).or_insert_with(|| Entry {
                    listing: Listing::Listed,
                    transport,
                    rooms: BTreeSet::new(),
                });
                (entry.listing, entry.transport) = (Listing::Listed, transport);
                entry.rooms.extend(rooms);
            }
            ChangeKind::Upgraded(transport) => {
                if let Some(entry) = sockets.get_mut(&sid) {
                    entry.transport = transport;
                }
            }
            ChangeKind::Joined(room) => {
                if let Some(entry) = sockets.get_mut(&sid) {
                    entry.rooms.insert(room);
                }
            }
            ChangeKind::Left(room) => {
                if let Some(entry) = sockets.get_mut(&sid) {
                    entry.rooms.remove(&room);
                    if entry.listing == Listing::Unlisted && entry.rooms.is_empty() {
                        sockets.remove(&sid);
                    }
                }
            }
            ChangeKind::Disconnected => {
                if let Some(entry) = sockets.get_mut(&sid) {
                    entry.listing = Listing::Unlisted;
                }
            }
        }
        if sockets.is_empty() {
            self.0.remove(&nsp);
        }
    }
}

/// Adds the room of the socket's own id. In Node every socket is in it.
fn with_own(sid: Sid, mut rooms: BTreeSet<String>) -> BTreeSet<String> {
    rooms.insert(sid.to_string());
    rooms
}

struct Changes {
    list: Vec<Change>,
    max: usize,
}

impl Changes {
    fn is_full(&self) -> bool {
        self.list.len() >= self.max
    }

    fn push(&mut self, nsp: &str, sid: Sid, what: ChangeKind) {
        if !self.is_full() {
            self.list.push(Change { nsp: nsp.to_owned(), sid, what });
        }
    }

    /// Adds the changes of a disconnect in the order of Node: the socket, then its rooms.
    fn disconnect(&mut self, nsp: &str, sid: Sid, entry: &Entry) {
        if entry.listing != Listing::Unlisted {
            self.push(nsp, sid, ChangeKind::Disconnected);
        }
        for room in &entry.rooms {
            self.push(nsp, sid, ChangeKind::Left(room.clone()));
        }
    }

    fn update(&mut self, nsp: &str, sid: Sid, shown: Option<&Entry>, socket: &ConnectedSocket) {
        let Some(entry) = shown else {
            return self.push(nsp, sid, ChangeKind::Connected(socket.clone()));
        };
        let own = sid.as_str();
        // A UI that lists the socket does not update it when it connects again. So its other changes are published
        // first.
        if entry.listing != Listing::Unlisted {
            if entry.transport != socket.transport {
                self.push(nsp, sid, ChangeKind::Upgraded(socket.transport));
            }
            for room in socket.rooms.iter().filter(|room| *room != own && !entry.rooms.contains(*room)) {
                self.push(nsp, sid, ChangeKind::Joined(room.clone()));
            }
        }
        if entry.listing != Listing::Listed {
            self.push(nsp, sid, ChangeKind::Connected(socket.clone()));
        }
        for room in entry.rooms.iter().filter(|room| *room != own && !socket.rooms.contains(*room)) {
            self.push(nsp, sid, ChangeKind::Left(room.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = usize::MAX;

    fn present(rooms: &[&str]) -> ConnectedSocket {
        ConnectedSocket {
            transport: "websocket",
            rooms: rooms.iter().map(|room| (*room).to_owned()).collect(),
        }
    }

    fn of(nsp: &str, sockets: &[(Sid, ConnectedSocket)]) -> Snapshot {
        Snapshot::from([(nsp.to_owned(), sockets.iter().cloned().collect())])
    }

    /// Publishes all changes, at most `max` at a time, and returns them.
    fn tell(shown: &mut UiState, now: &Snapshot, max: usize) -> Vec<ChangeKind> {
        let mut record_published = Vec::new();
        loop {
            let changes = shown.changes(now, max);
            assert!(changes.len() <= max);
            if changes.is_empty() {
                return record_published;
            }
            for change in changes {
                record_published.push(change.what.clone());
                shown.record_published(change);
            }
        }
    }

    #[test]
    fn a_socket_comes_moves_and_goes() {
        for max in [1, 2, 3, ALL] {
            let (sid, mut shown) = (Sid::new(), UiState::default());
            let own = sid.to_string();
            let first = present(&["a"]);
            assert_eq!(
                tell(&mut shown, &of("/", &[(sid, first.clone())]), max),
                [ChangeKind::Connected(first)]
            );
            let second = ConnectedSocket { transport: "polling", ..present(&["b", "c"]) };
            let record_published = tell(&mut shown, &of("/", &[(sid, second)]), max);
            assert_eq!(record_published[0], ChangeKind::Upgraded("polling"));
            assert_eq!(
                record_published[1..],
                [
                    ChangeKind::Joined("b".into()),
                    ChangeKind::Joined("c".into()),
                    ChangeKind::Left("a".into())
                ]
            );
            let record_published = tell(&mut shown, &Snapshot::new(), max);
            assert_eq!(record_published[0], ChangeKind::Disconnected);
            let rooms: BTreeSet<_> = [own, "b".into(), "c".into()].into();
            let left = record_published[1..].iter().map(|what| match what {
                ChangeKind::Left(room) => room.clone(),
                other => panic!("{other:?}"),
            });
            assert_eq!(left.collect::<BTreeSet<_>>(), rooms);
            assert!(shown.0.is_empty());
        }
    }

    #[test]
    fn no_change_is_sent_twice_and_an_unpublished_one_is_retried() {
        let (sid, mut shown) = (Sid::new(), UiState::default());
        let now = of("/", &[(sid, present(&["a"]))]);
        assert_eq!(shown.changes(&now, ALL), shown.changes(&now, ALL));
        tell(&mut shown, &now, ALL);
        assert!(shown.changes(&now, ALL).is_empty());
    }

    #[test]
    fn a_ui_with_a_list_of_sockets_gets_the_rest() {
        let (one, two) = (Sid::new(), Sid::new());
        let mut now = of("/", &[(one, present(&["a"]))]);
        now.extend(of("/ours", &[(two, present(&[]))]));
        let mut shown = UiState::given(now.clone(), &["/".into(), "/admin".into()]);
        assert_eq!(tell(&mut shown, &now, ALL), [ChangeKind::Connected(present(&[]))]);
        // Another UI connects.
        shown.mark_uncertain_except(&["/".into()]);
        let changes = shown.changes(&now, ALL);
        assert_eq!((changes.len(), changes[0].nsp.as_str(), changes[0].sid), (1, "/ours", two));
        // Without a list, all sockets are published.
        assert_eq!(UiState::given(now.clone(), &[]).changes(&now, ALL).len(), 2);
        assert_eq!(UiState::given(now.clone(), &[]).changes(&Snapshot::new(), ALL).len(), 5);
        // A listed socket disconnects with all its rooms.
        assert_eq!(tell(&mut shown, &of("/ours", &[(two, present(&[]))]), ALL).len(), 4);
    }

    #[test]
    fn an_uncertain_state_is_sent_again_with_departures() {
        let (stays, goes) = (Sid::new(), Sid::new());
        let mut shown = UiState::default();
        tell(&mut shown, &of("/", &[(stays, present(&["a", "b"])), (goes, present(&[]))]), ALL);
        shown.mark_uncertain();
        let record_published = tell(&mut shown, &of("/", &[(stays, present(&["b", "c"]))]), 1);
        let expected = [
            ChangeKind::Disconnected,
            ChangeKind::Left(goes.to_string()),
            ChangeKind::Joined("c".into()),
            ChangeKind::Connected(present(&["b", "c"])),
            ChangeKind::Left("a".into()),
        ];
        assert_eq!(record_published, expected);
    }

    #[test]
    fn a_socket_that_returns_while_its_rooms_are_being_left_is_connected_again() {
        let (sid, mut shown) = (Sid::new(), UiState::default());
        let before = of("/", &[(sid, present(&["a"]))]);
        tell(&mut shown, &before, ALL);
        for change in shown.changes(&Snapshot::new(), 1) {
            shown.record_published(change);
        }
        let now = of("/", &[(sid, present(&["b"]))]);
        assert_eq!(
            tell(&mut shown, &now, 1),
            [ChangeKind::Connected(present(&["b"])), ChangeKind::Left("a".into())]
        );
    }
}
