//! Formats nodes as a table.

use std::time::Duration;

use super::node_table::Node;
use crate::cli::output::number;
use crate::cli::output::table::{Cell, Color, Column, Table, cell};

/// The silence from which a node counts as late, in heartbeat intervals.
const LATE: f64 = 1.5;

/// The indexes of the columns whose colour shows the state of a node.
const LAST_SEEN: usize = 3;
const STATE: usize = 7;

/// The purpose of the table.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A list of live nodes.
    Once,
    /// A live view. Its colours compare the silence of a node with the heartbeat interval.
    Watch {
        /// The longest interval between two messages of a healthy node.
        interval: Duration,
    },
}

pub(super) fn of(nodes: &[&Node], kind: Kind) -> Table {
    // The live view has one column more, and shows addresses on a terminal of 80 columns as well.
    let last_seen = match kind {
        Kind::Once => "LAST SEEN",
        Kind::Watch { .. } => "SEEN",
    };
    let mut columns = vec![
        Column::text("UID"),
        Column::text("NAMESPACE").sharing(),
        Column::number("RTT"),
        Column::number(last_seen),
        Column::number("SOCKETS"),
        Column::text("ADDRESS").optional(),
        Column::text("APPLICATION").optional(),
    ];
    if let Kind::Watch { .. } = kind {
        columns.push(Column::text("STATE"));
    }
    let mut table = Table::new(columns);
    for node in nodes {
        let mut cells = vec![
            cell(node.uid()),
            cell(node.nsp().as_str()),
            cell(&node.round_trip.map_or("-".to_owned(), round_trip)),
            cell(&format!("{} ago", ago(node.last_heard.elapsed(), kind))),
            cell(&node.sockets.map_or("-".to_owned(), |count| number::count(count as u64))),
            cell(node.address().unwrap_or("-")),
            cell(node.application().unwrap_or("-")),
        ];
        if let Kind::Watch { interval } = kind {
            let (state, colour) = state(node, interval);
            cells.push(cell(&state));
            let is_coloured = |index| !node.is_live() || index == LAST_SEEN || index == STATE;
            let cells_now = cells.into_iter().enumerate();
            cells = cells_now
                .map(|(i, cell): (_, Cell)| if is_coloured(i) { cell.fg(colour) } else { cell })
                .collect();
        }
        table.row(cells);
    }
    table
}

fn state(node: &Node, interval: Duration) -> (String, Color) {
    match node.gone {
        Some(gone) => (gone.how.name().to_owned(), Color::DarkGrey),
        None if node.last_heard.elapsed() > interval.mul_f64(LATE) => ("late".to_owned(), Color::DarkYellow),
        None => ("live".to_owned(), Color::DarkGreen),
    }
}

/// Formats a round-trip time: `0.8 ms`, `12 ms`, `1.2 s`.
fn round_trip(time: Duration) -> String {
    match time.as_secs_f64() * 1e3 {
        millis if millis < 10.0 => format!("{millis:.1} ms"),
        millis if millis < 1000.0 => format!("{millis:.0} ms"),
        millis => format!("{:.1} s", millis / 1e3),
    }
}

/// Formats an age. A live view shows whole seconds, since finer values would flicker.
fn ago(time: Duration, kind: Kind) -> String {
    match kind {
        Kind::Once => format!("{:.1} s", time.as_secs_f64()),
        Kind::Watch { .. } => crate::cli::duration::short(time),
    }
}
