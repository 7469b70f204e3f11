//! `pgio rooms`: lists rooms.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use clap::{Args, ValueEnum};
use globset::GlobMatcher;
use serde::Serialize;

use super::arguments::{Format, Global};
use super::duration;
use super::exit::Failure;
use super::listing::Listing;
use super::namespaces::ObservedNamespaces;
use super::output::number;
use super::output::table::{Column, Table, cell};
use super::socket_inventory::{self, Located};
use super::target::Target;
use crate::Namespace;
use crate::protocol::Uid;

/// Show the rooms of the whole cluster
///
/// Prints each room with the number of its sockets and of their servers. Every socket is in a room named by its own id;
/// such a room is omitted unless another socket is in it. If a server does not answer before the timeout, stderr names
/// it, and the exit status is 4. pgio is not a member of the cluster: no server counts it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio rooms                        all rooms in /, the largest first
  pgio rooms 'chat.*' --limit 10    filter by name
  pgio rooms --room r1              the rooms of the sockets in r1
  pgio rooms -n / -n admin --count  count the rooms
  pgio rooms -o json | jq -r 'select(.sockets > 100).room'")]
pub(super) struct Rooms {
    /// Print only rooms whose name matches: *, ?, [a-z], {a,b}
    #[arg(value_name = "GLOB", value_parser = super::glob::parse)]
    names: Vec<GlobMatcher>,
    #[command(flatten)]
    namespaces: ObservedNamespaces,
    #[command(flatten)]
    target: Target,
    /// Print also the rooms named by a socket id
    #[arg(short, long)]
    all: bool,
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
    /// By the number of sockets, the most first
    #[default]
    Sockets,
    /// By the number of servers, the most first
    Nodes,
    /// By name
    Room,
}

/// A row of the list. The namespace is present only if the command may observe several.
#[derive(Serialize)]
struct Room<'a> {
    room: &'a str,
    sockets: usize,
    nodes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

impl Rooms {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let several = self.namespaces.may_be_several();
        let inventory = socket_inventory::take(global, &self.namespaces, self.target, self.timeout).await?;
        let is_wanted =
            |room: &str| self.names.is_empty() || self.names.iter().any(|glob| glob.is_match(room));
        let mut rooms = count(&inventory.sockets, self.all, several);
        rooms.retain(|room| is_wanted(room.room));
        rooms.sort_by(|a, b| {
            let order = match self.sort {
                Sort::Sockets => Reverse(a.sockets).cmp(&Reverse(b.sockets)),
                Sort::Nodes => Reverse(a.nodes).cmp(&Reverse(b.nodes)),
                Sort::Room => std::cmp::Ordering::Equal,
            };
            a.namespace.cmp(&b.namespace).then(order).then_with(|| a.room.cmp(b.room))
        });
        let mut lines = self.listing.lines();
        let (total, shown) = (rooms.len(), self.listing.shown(&rooms));
        match (global.output, self.count) {
            (Format::Json, true) => lines.json(&serde_json::json!({ "rooms": total }))?,
            (Format::Text, true) => lines.text(&total.to_string())?,
            (Format::Json, false) => shown.iter().try_for_each(|room| lines.json(room))?,
            (Format::Text, false) if shown.is_empty() => {}
            (Format::Text, false) => table(shown, several).print(&mut lines)?,
        }
        lines.flush()?;
        if !self.count {
            self.listing.tell_total(global, total, "room");
        }
        inventory.judge(global, total, "rooms", self.listing.min)
    }
}

/// Counts the sockets and the servers of each room.
fn count(sockets: &[Located], all: bool, several_namespaces: bool) -> Vec<Room<'_>> {
    #[derive(Default)]
    struct Members<'a> {
        sockets: usize,
        nodes: HashSet<&'a Uid>,
        /// Whether a socket other than the one with this id is in the room.
        has_others: bool,
    }
    let mut rooms: HashMap<(&Namespace, &str), Members<'_>> = HashMap::new();
    for Located { nsp, node, socket } in sockets {
        for room in &socket.rooms {
            let members = rooms.entry((nsp, room)).or_default();
            members.sockets += 1;
            members.nodes.insert(node);
            members.has_others |= *room != socket.id;
        }
    }
    let shown = rooms.into_iter().filter(|(_, members)| all || members.has_others);
    shown
        .map(|((nsp, room), members)| Room {
            room,
            sockets: members.sockets,
            nodes: members.nodes.len(),
            namespace: several_namespaces.then_some(nsp.as_str()),
        })
        .collect()
}

fn table(rooms: &[Room<'_>], several_namespaces: bool) -> Table {
    let mut columns =
        vec![Column::text("ROOM").sharing(), Column::number("SOCKETS"), Column::number("NODES")];
    if several_namespaces {
        columns.insert(0, Column::text("NAMESPACE").cut_to(16));
    }
    let mut table = Table::new(columns);
    for room in rooms {
        let number = |count: usize| cell(&number::count(count as u64));
        let mut cells = vec![cell(room.room), number(room.sockets), number(room.nodes)];
        if several_namespaces {
            cells.insert(0, cell(room.namespace.unwrap_or_default()));
        }
        table.row(cells);
    }
    table
}
