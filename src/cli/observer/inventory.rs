//! Collects the sockets of the cluster and their rooms, as the servers list them.
//!
//! A server answers a request with all of its sockets and their handshakes, about a kilobyte each, often through the
//! attachment table. So the pause between two requests grows with the number of sockets. The protocol has no request
//! for a count alone: it counts clients only for an event that they receive.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::sleep;

use super::Shared;
use crate::cli::binary_json::BinaryJson;
use crate::cli::exit::Failure;
use crate::cli::socket_inventory::Located;
use crate::cluster::{Answer, Cluster, Collected, NodeName};
use crate::protocol::Uid;
use crate::{Emitter, Namespace, RemoteSocket, Value, safe_text};

/// The shortest pause between two requests.
const SHORTEST: Duration = Duration::from_secs(15);

/// The longest pause between two requests.
const LONGEST: Duration = Duration::from_secs(300);

/// The number of sockets that make the pause one second longer.
const SOCKETS_A_SECOND: usize = 100;

/// The timeout for the answers of the servers.
const PATIENCE: Duration = Duration::from_secs(5);

/// The maximum number of kept sockets. Further sockets are only counted.
const KEPT: usize = 100_000;

/// The maximum number of kept rooms of a socket.
const ROOMS_OF_A_SOCKET: usize = 1000;

/// The maximum number of kept rooms. The largest rooms are kept.
const ROOMS: usize = 100_000;

/// The maximum number of rooms that are counted. Further rooms are ignored.
const COUNTED_ROOMS: usize = 400_000;

/// The maximum number of kept bytes: of a name, and of the data of a socket.
const NAME_BYTES: usize = 120;
const DATA_BYTES: usize = 200;

/// A socket. Its texts are escaped and truncated for display.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct SocketView {
    pub(in crate::cli) id: String,
    pub(in crate::cli) node: Uid,
    pub(in crate::cli) nsp: Namespace,
    /// The rooms of the socket, except the room with its own id.
    pub(in crate::cli) rooms: Vec<Arc<str>>,
    pub(in crate::cli) address: Option<String>,
    pub(in crate::cli) transport: Option<String>,
    pub(in crate::cli) connected_at: Option<Timestamp>,
    /// The application's data, as JSON.
    pub(in crate::cli) data: String,
}

/// A room, with the numbers of its sockets and nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct RoomMembers {
    pub(in crate::cli) nsp: Namespace,
    pub(in crate::cli) room: Arc<str>,
    pub(in crate::cli) sockets: usize,
    pub(in crate::cli) nodes: usize,
}

/// The sockets that the servers listed.
#[derive(Debug)]
pub(in crate::cli) struct Inventory {
    asked: Instant,
    /// The number of sockets, including those beyond the limit of the list.
    pub(in crate::cli) total: usize,
    pub(in crate::cli) sockets: Vec<SocketView>,
    /// The rooms, the largest first.
    pub(in crate::cli) rooms: Vec<RoomMembers>,
    /// The number of rooms, including the rooms that are not kept.
    pub(in crate::cli) rooms_total: usize,
    by_node: HashMap<NodeName, usize>,
    silent: HashSet<NodeName>,
}

/// The number of sockets and nodes of a room.
struct Count {
    sockets: usize,
    nodes: usize,
    /// The node that was counted last. The sockets of a node come together.
    last: Uid,
}

/// Builds an inventory from the answers of one namespace after the other, so that it never holds all of them.
struct InventoryBuilder {
    inventory: Inventory,
    rooms: HashMap<(Namespace, Arc<str>), Count>,
    names: HashSet<Arc<str>>,
}

impl InventoryBuilder {
    fn new(asked: Instant) -> Self {
        let inventory = Inventory {
            asked,
            total: 0,
            sockets: Vec::new(),
            rooms: Vec::new(),
            rooms_total: 0,
            by_node: HashMap::new(),
            silent: HashSet::new(),
        };
        Self { inventory, rooms: HashMap::new(), names: HashSet::new() }
    }

    /// Adds the answers of a namespace.
    fn add(&mut self, nsp: &Namespace, collected: Collected<RemoteSocket>) {
        let name = |uid| NodeName { nsp: nsp.clone(), uid };
        self.inventory.silent.extend(collected.silent.into_iter().map(name));
        for Answer { node, value: socket } in collected.answers {
            self.inventory.total += 1;
            *self.inventory.by_node.entry(name(node.clone())).or_default() += 1;
            if self.inventory.sockets.len() < KEPT {
                let rooms = self.count_rooms(nsp, &node, &socket);
                self.inventory.sockets.push(view(Located { nsp: nsp.clone(), node, socket }, rooms));
            }
        }
    }

    /// Counts the rooms of a socket. Returns them without that of its own id.
    fn count_rooms(&mut self, nsp: &Namespace, node: &Uid, socket: &RemoteSocket) -> Vec<Arc<str>> {
        let mut own = Vec::new();
        for room in socket.rooms.iter().filter(|room| **room != socket.id).take(ROOMS_OF_A_SOCKET) {
            let room = safe_text::cut(room, NAME_BYTES);
            let room = match self.names.get(&*room) {
                Some(known) => known.clone(),
                None if self.names.len() >= COUNTED_ROOMS => continue,
                None => {
                    let room: Arc<str> = room.into();
                    self.names.insert(room.clone());
                    room
                }
            };
            let count = self.rooms.entry((nsp.clone(), room.clone()));
            let count = count.or_insert_with(|| Count { sockets: 0, nodes: 1, last: node.clone() });
            count.sockets += 1;
            if count.last != *node {
                count.nodes += 1;
                count.last = node.clone();
            }
            own.push(room);
        }
        own
    }

    fn build(self) -> Inventory {
        let Self { mut inventory, rooms, .. } = self;
        inventory.rooms_total = rooms.len();
        let members = |((nsp, room), count): ((Namespace, Arc<str>), Count)| RoomMembers {
            nsp,
            room,
            sockets: count.sockets,
            nodes: count.nodes,
        };
        inventory.rooms = rooms.into_iter().map(members).collect();
        inventory.rooms.sort_by(|a, b| {
            Reverse(a.sockets)
                .cmp(&Reverse(b.sockets))
                .then_with(|| (&a.nsp, &a.room).cmp(&(&b.nsp, &b.room)))
        });
        inventory.rooms.truncate(ROOMS);
        inventory.sockets.sort_by(|a, b| (&a.nsp, &a.node, &a.id).cmp(&(&b.nsp, &b.node, &b.id)));
        inventory
    }
}

impl Inventory {
    /// The age of the inventory.
    pub(in crate::cli) fn age(&self) -> Duration {
        self.asked.elapsed()
    }

    /// The number of sockets of a server that is live since this time, or `None` if the server did not answer or was
    /// not asked.
    pub(super) fn sockets_of(&self, node: &NodeName, since: Instant) -> Option<usize> {
        let listed = self.by_node.get(node).copied();
        // A server without sockets answers with an empty list.
        let answered = (since < self.asked && !self.silent.contains(node)).then_some(0);
        listed.or(answered)
    }
}

fn view(located: Located, rooms: Vec<Arc<str>>) -> SocketView {
    let cut = |text: &str| safe_text::cut(text, NAME_BYTES).into_owned();
    let data = match &located.socket.data {
        Value::Null => String::new(),
        Value::Object(entries) if entries.is_empty() => String::new(),
        value => serde_json::to_string(&BinaryJson(value)).unwrap_or_default(),
    };
    SocketView {
        id: cut(&located.socket.id),
        address: located.address().map(|address| cut(address.strip_prefix("::ffff:").unwrap_or(address))),
        transport: located.transport().map(cut),
        connected_at: located.connected_at(),
        data: safe_text::cut(&data, DATA_BYTES).into_owned(),
        node: located.node,
        nsp: located.nsp,
        rooms,
    }
}

/// Requests the sockets periodically.
pub(super) async fn run(shared: Arc<Shared>, cluster: Cluster) -> Result<(), Failure> {
    loop {
        let asked = Instant::now();
        let mut pause = SHORTEST;
        let inventory = ask(&shared.namespaces(), &cluster, asked).await;
        let outcome = inventory.map(|inventory| {
            pause += Duration::from_secs((inventory.total / SOCKETS_A_SECOND) as u64);
            shared.inventory.send_replace(Some(Arc::new(inventory)));
        });
        shared.asked(outcome);
        sleep(pause.min(LONGEST)).await;
    }
}

async fn ask(namespaces: &[Namespace], cluster: &Cluster, asked: Instant) -> crate::Result<Inventory> {
    let emitter = Emitter::new(cluster.clone());
    let mut builder = InventoryBuilder::new(asked);
    for nsp in namespaces {
        let request = emitter.of(nsp.as_str()).timeout(PATIENCE).await_discovered_only();
        builder.add(nsp, request.fetch_sockets().await?);
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(nsp: &Namespace, answers: Collected<RemoteSocket>) -> Inventory {
        let mut builder = InventoryBuilder::new(Instant::now());
        builder.add(nsp, answers);
        builder.build()
    }

    fn socket(id: &str, rooms: &[&str]) -> RemoteSocket {
        RemoteSocket {
            id: id.into(),
            handshake: Value::Object([("address".into(), "::ffff:10.0.0.1".into())].into_iter().collect()),
            rooms: [id].iter().chain(rooms).map(|room| room.to_string()).collect(),
            data: Value::Null,
        }
    }

    fn collected(answers: Vec<(&str, RemoteSocket)>, silent: &[&str]) -> Collected<RemoteSocket> {
        let answer = |(node, value): (&str, RemoteSocket)| Answer { node: node.into(), value };
        Collected {
            answers: answers.into_iter().map(answer).collect(),
            expected: 0,
            silent: silent.iter().map(|uid| Uid::from(*uid)).collect(),
            nodes: 2,
            knew_nodes: true,
            unread: Vec::new(),
            unresponsive: Default::default(),
        }
    }

    #[test]
    fn sockets_rooms_and_nodes_are_counted() {
        let answers = collected(
            vec![("a", socket("2", &["r1", "r2"])), ("b", socket("1", &["r1"])), ("a", socket("3", &[]))],
            &["c"],
        );
        let nsp = Namespace::default();
        let before = Instant::now();
        let inventory = built(&nsp, answers);
        assert_eq!((inventory.total, inventory.rooms_total), (3, 2));
        let rooms: Vec<_> =
            inventory.rooms.iter().map(|room| (&*room.room, room.sockets, room.nodes)).collect();
        assert_eq!(rooms, [("r1", 2, 2), ("r2", 1, 1)]);
        let first = &inventory.sockets[0];
        assert_eq!((first.id.as_str(), first.address.as_deref()), ("2", Some("10.0.0.1")));
        let of =
            |uid: &str, since| inventory.sockets_of(&NodeName { nsp: nsp.clone(), uid: uid.into() }, since);
        assert_eq!((of("a", before), of("b", before), of("c", before)), (Some(2), Some(1), None));
        assert_eq!((of("d", before), of("d", Instant::now())), (Some(0), None));
    }

    #[test]
    fn hostile_texts_are_harmless() {
        let mut hostile = socket("\u{1b}[2J", &["<script>\u{202e}", &"x".repeat(10_000)]);
        hostile.data = Value::String("\n".repeat(10_000));
        let answers = collected(vec![("a", hostile)], &[]);
        let inventory = built(&Namespace::default(), answers);
        let socket = &inventory.sockets[0];
        assert_eq!((socket.id.as_str(), &*socket.rooms[0]), ("\\u{1b}[2J", "<script>\\u{202e}"));
        assert!(socket.rooms[1].len() <= NAME_BYTES + 3 && socket.data.len() <= DATA_BYTES + 3);
    }
}
