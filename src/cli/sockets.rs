//! `pgio sockets`: lists connected sockets.

use std::cmp::Ordering;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::arguments::{Format, Global};
use super::binary_json::BinaryJson;
use super::duration;
use super::exit::Failure;
use super::listing::Listing;
use super::namespaces::ObservedNamespaces;
use super::output::table::{Column, Table, cell};
use super::socket_inventory::{self, Located};
use super::target::Target;
use crate::Value;

/// Show the sockets of the whole cluster
///
/// Requests the sockets of every server, with their rooms and their data. If a server does not answer before the
/// timeout, stderr names it, and the exit status is 4. pgio is not a member of the cluster: no server counts it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio sockets                              all sockets in /
  pgio sockets --room r1 --except staff     filter by room
  pgio sockets -n / -n admin --sort age     in two namespaces, oldest first
  pgio sockets --room r1 --count            count the sockets of a room
  pgio sockets -o json | jq -r .handshake.headers.origin | sort | uniq -c")]
pub(super) struct Sockets {
    #[command(flatten)]
    namespaces: ObservedNamespaces,
    #[command(flatten)]
    target: Target,
    /// The sort order
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    sort: Sort,
    /// Print only the number
    #[arg(long)]
    count: bool,
    #[command(flatten)]
    listing: Listing,
    /// The timeout for the answers of the servers
    #[arg(long, value_parser = duration::parse_positive, default_value = "5s", value_name = "TIME")]
    timeout: Duration,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Sort {
    /// By server
    #[default]
    Node,
    /// By the client's address
    Address,
    /// The oldest first
    Age,
    /// By the number of rooms, the most first
    Rooms,
    /// By socket id
    Id,
}

impl Sockets {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let several = self.namespaces.may_be_several();
        let mut inventory =
            socket_inventory::take(global, &self.namespaces, self.target, self.timeout).await?;
        inventory.sockets.sort_by(|a, b| a.nsp.cmp(&b.nsp).then_with(|| self.sort.compare(a, b)));
        let mut lines = self.listing.lines();
        let (total, shown) = (inventory.sockets.len(), self.listing.shown(&inventory.sockets));
        match (global.output, self.count) {
            (Format::Json, true) => lines.json(&serde_json::json!({ "sockets": total }))?,
            (Format::Text, true) => lines.text(&total.to_string())?,
            (Format::Json, false) => shown.iter().try_for_each(|one| lines.json(one))?,
            (Format::Text, false) if shown.is_empty() => {}
            (Format::Text, false) => table(shown, several).print(&mut lines)?,
        }
        lines.flush()?;
        if !self.count {
            self.listing.tell_total(global, total, "socket");
        }
        inventory.judge(global, total, "sockets", self.listing.min)
    }
}

impl Sort {
    fn compare(self, a: &Located, b: &Located) -> Ordering {
        let order = match self {
            Self::Node => a.node.cmp(&b.node),
            Self::Address => a.address().cmp(&b.address()),
            Self::Age => {
                let since = |one: &Located| one.connected_at().unwrap_or(Timestamp::MAX);
                since(a).cmp(&since(b))
            }
            Self::Rooms => b.socket.rooms.len().cmp(&a.socket.rooms.len()),
            Self::Id => Ordering::Equal,
        };
        order.then_with(|| a.socket.id.cmp(&b.socket.id))
    }
}

impl Located {
    fn handshake(&self, key: &str) -> Option<&Value> {
        self.socket.handshake.get(key)
    }

    /// The address of the client, as the server saw it.
    pub(super) fn address(&self) -> Option<&str> {
        self.handshake("address")?.as_str()
    }

    /// The transport of the handshake. The client may have upgraded since.
    pub(super) fn transport(&self) -> Option<&str> {
        self.handshake("query")?.get("transport")?.as_str()
    }

    pub(super) fn connected_at(&self) -> Option<Timestamp> {
        match self.handshake("issued")? {
            Value::Int(millis) => Timestamp::from_millisecond(*millis).ok(),
            // JavaScript's msgpack encodes a number beyond its integers as a float.
            Value::Float(millis) => Timestamp::from_millisecond(*millis as i64).ok(),
            _ => None,
        }
    }

    /// The rooms of the socket, except the room with its own id.
    fn other_rooms(&self) -> impl Iterator<Item = &str> {
        self.socket.rooms.iter().map(String::as_str).filter(|room| *room != self.socket.id)
    }
}

impl Serialize for Located {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(9))?;
        map.serialize_entry("id", &self.socket.id)?;
        map.serialize_entry("node", &self.node)?;
        map.serialize_entry("namespace", self.nsp.as_str())?;
        map.serialize_entry("rooms", &self.socket.rooms)?;
        map.serialize_entry("address", &self.address())?;
        map.serialize_entry("transport", &self.transport())?;
        map.serialize_entry("data", &BinaryJson(&self.socket.data))?;
        map.serialize_entry("connectedAt", &self.connected_at().map(|time| format!("{time:.3}")))?;
        map.serialize_entry("handshake", &BinaryJson(&self.socket.handshake))?;
        map.end()
    }
}

fn table(sockets: &[Located], several_namespaces: bool) -> Table {
    let mut columns = vec![Column::text("ID").cut_to(24), Column::text("NODE").cut_to(8)];
    if several_namespaces {
        columns.push(Column::text("NAMESPACE").cut_to(16));
    }
    columns.extend([
        Column::number("AGE"),
        Column::text("ADDRESS").cut_to(15).optional(),
        Column::text("TRANSPORT").optional(),
        Column::text("ROOMS").sharing(),
        Column::text("DATA").sharing(),
    ]);
    let mut table = Table::new(columns);
    let now = Timestamp::now();
    for one in sockets {
        let age = one.connected_at().and_then(|since| Duration::try_from(now.duration_since(since)).ok());
        let address = one.address().map_or("-", |address| address.strip_prefix("::ffff:").unwrap_or(address));
        let rooms: Vec<_> = one.other_rooms().collect();
        let mut cells = vec![cell(&one.socket.id), cell(one.node.as_str())];
        if several_namespaces {
            cells.push(cell(one.nsp.as_str()));
        }
        cells.extend([
            cell(&age.map_or("-".to_owned(), duration::short)),
            cell(address),
            cell(one.transport().unwrap_or("-")),
            cell(&or_dash(rooms.join(", "))),
            cell(&data(&one.socket.data)),
        ]);
        table.row(cells);
    }
    table
}

/// Formats the data of a socket. Most sockets have none.
fn data(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Object(entries) if entries.is_empty() => "-".to_owned(),
        value => serde_json::to_string(&BinaryJson(value)).unwrap_or_default(),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
