//! `pgio nodes --watch`: shows nodes that join, leave or change.

use std::io::IsTerminal;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::node_table::{Change, Node, NodeTable, in_millis};
use super::{Nodes, table};
use crate::Error;
use crate::cli::arguments::{Format, Global};
use crate::cli::duration::short;
use crate::cli::exit::{self, Failure};
use crate::cli::namespaces::Newcomers;
use crate::cli::output::{lines::Lines, safe};
use crate::cli::screen::{Input, Screen, Size};
use crate::cluster::NodeMonitor;

/// The interval of the liveness check, and the maximum age of the figures on the screen.
const LOOK: Duration = Duration::from_secs(1);

/// How long a departed node stays listed.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The deadline for publishing a request while Postgres does not answer.
const ASKING: Duration = Duration::from_secs(2);

pub(super) async fn run(
    flags: &Nodes,
    global: &Global,
    monitor: NodeMonitor,
    newcomers: Newcomers,
) -> Result<(), Failure> {
    tokio::select! {
        outcome = watch(flags, global, monitor, newcomers) => outcome,
        // This ends a round in progress as well. The end of the other branch restores the screen.
        () = exit::told_to_end() => Err(Failure::Interrupted),
    }
}

async fn watch(
    flags: &Nodes,
    global: &Global,
    mut monitor: NodeMonitor,
    mut newcomers: Newcomers,
) -> Result<(), Failure> {
    let options = global.adapter_options();
    let mut nodes = NodeTable::new(&options);
    let mut view = View::open(global, options.heartbeat_interval.min(flags.every))?;
    let (mut asking, mut looking) = (interval(flags.every), interval(LOOK));
    asking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changes = tokio::select! {
            event = monitor.next() => match event {
                Some(event) => vec![nodes.apply(event)],
                None => return Ok(()),
            },
            _ = asking.tick() => {
                if nodes.is_listening() {
                    ask(&mut monitor, !flags.no_sockets).await?;
                }
                continue;
            }
            _ = looking.tick() => refresh(&monitor, &mut nodes).await?,
            found = newcomers.next() => {
                match monitor.add(&found).await {
                    Ok(new) if new.is_empty() => {}
                    Ok(_) => asking.reset_immediately(),
                    Err(error) => tracing::debug!(%error, "cannot listen to more namespaces yet; retrying"),
                }
                continue;
            }
            input = view.input() => match input {
                Input::Quit => return Ok(()),
                Input::Interrupt => return Err(Failure::Interrupted),
                Input::Resize => vec![Change::Refreshed],
            },
        };
        if changes.iter().any(|change| matches!(change, Change::Restored(_))) {
            asking.reset_immediately();
        }
        view.show(&nodes, changes)?;
    }
}

/// Updates the servers. Without Postgres nothing is known of them.
async fn refresh(monitor: &NodeMonitor, nodes: &mut NodeTable) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    if nodes.is_listening() {
        changes = nodes.update(monitor.live_nodes().await?);
        know_backends(monitor, nodes).await?;
        nodes.forget(REMEMBERED);
    }
    changes.push(Change::Refreshed);
    Ok(changes)
}

/// Looks up the sessions that have published answers. Does nothing during an outage of Postgres.
async fn know_backends(monitor: &NodeMonitor, nodes: &mut NodeTable) -> Result<(), Failure> {
    let unknown = nodes.unknown_backends();
    if unknown.is_empty() || !nodes.is_listening() {
        return Ok(());
    }
    match monitor.backends(&unknown).await {
        Ok(backends) => nodes.know_backends(&backends),
        Err(error) if error.is_disconnected() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Publishes a request to all nodes. During an outage of Postgres, the subscription reports the lost connection.
async fn ask(monitor: &mut NodeMonitor, sockets: bool) -> Result<(), Failure> {
    match timeout(ASKING, monitor.request(sockets)).await {
        Ok(Err(error)) if error.is_disconnected() => Ok(()),
        Err(_) => Ok(()),
        Ok(outcome) => Ok(outcome?),
    }
}

/// The destination of changes.
enum View<'a> {
    /// A table on the whole terminal.
    Screen { screen: Screen, interval: Duration, lost: Option<String> },
    /// One line for each change.
    Lines { lines: Lines, global: &'a Global },
}

impl<'a> View<'a> {
    fn open(global: &'a Global, interval: Duration) -> Result<Self, Failure> {
        if global.output == Format::Text && std::io::stdout().is_terminal() {
            return Ok(Self::Screen { screen: Screen::open()?, interval, lost: None });
        }
        Ok(Self::Lines { lines: Lines::stdout(), global })
    }

    async fn input(&mut self) -> Input {
        match self {
            Self::Screen { screen, .. } => screen.input().await,
            Self::Lines { .. } => std::future::pending().await,
        }
    }

    fn show(&mut self, nodes: &NodeTable, changes: Vec<Change>) -> Result<(), Failure> {
        match self {
            Self::Screen { screen, interval, lost } => {
                for change in changes {
                    match change {
                        Change::Lost(error) => *lost = Some(error.to_string()),
                        Change::Restored(_) => *lost = None,
                        _ => {}
                    }
                }
                screen.draw(&frame(nodes, *interval, lost.as_deref(), Screen::size()))
            }
            Self::Lines { lines, global } => {
                for change in &changes {
                    match change {
                        Change::Lost(error) => global.warn(&format!("{error}; reconnecting")),
                        Change::Restored(away) => global.warn(&format!("reconnected after {away:.1?}")),
                        _ => {}
                    }
                    let Some(line) = Line::of(nodes, change) else { continue };
                    match global.output {
                        Format::Json => lines.json(&line)?,
                        Format::Text => lines.text(&line.text())?,
                    }
                }
                lines.flush()
            }
        }
    }
}

/// The lines of the screen.
fn frame(nodes: &NodeTable, interval: Duration, lost: Option<&str>, size: Size) -> Vec<String> {
    let live = nodes.nodes().filter(|node| node.is_live()).count();
    let gone = nodes.nodes().count() - live;
    let mut title = format!("{live} live");
    if gone > 0 {
        title += &format!(", {gone} gone");
    }
    let now = Zoned::now().strftime("%H:%M:%S").to_string();
    let mut lines = vec![format!("\x1b[1m{title}\x1b[0m  \x1b[2m{now}  q quits\x1b[0m")];
    if let Some(error) = lost {
        lines.push(format!("\x1b[31m{}; reconnecting\x1b[0m", safe::line(error)));
    }
    lines.push(String::new());
    let nodes: Vec<_> = nodes.nodes().collect();
    // Leaves room for the header of the table, and for a line with the number of hidden nodes.
    let room = size.rows.saturating_sub(lines.len() + 1);
    let shown = if nodes.len() > room { room.saturating_sub(1) } else { nodes.len() };
    lines.extend(table::of(&nodes[..shown], table::Kind::Watch { interval }).lines(Some(size.columns)));
    if shown < nodes.len() {
        lines.push(format!("\x1b[2m… and {} more\x1b[0m", nodes.len() - shown));
    }
    lines
}

/// A change, as a line of output.
struct Line<'a> {
    time: Timestamp,
    what: What<'a>,
}

enum What<'a> {
    Node(&'static str, &'a Node),
    Lost(&'a Error),
    Restored(Duration),
}

impl<'a> Line<'a> {
    fn of(nodes: &'a NodeTable, change: &'a Change) -> Option<Self> {
        let of_node = |what, name| nodes.node(name).map(|node| What::Node(what, node));
        let what = match change {
            Change::Nothing | Change::Refreshed => None,
            Change::Joined(name) => of_node("joined", name),
            Change::Left(name) => of_node("left", name),
            Change::Sockets(name) => of_node("sockets", name),
            Change::Lost(error) => Some(What::Lost(error)),
            Change::Restored(away) => Some(What::Restored(*away)),
        };
        Some(Self { time: Timestamp::now(), what: what? })
    }

    fn text(&self) -> String {
        let time = self.time.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string();
        let what = match &self.what {
            What::Node(what, node) => {
                let why = node.gone.map_or(String::new(), |gone| match gone.how {
                    super::node_table::How::Closed => " (closed)".to_owned(),
                    super::node_table::How::Silent => {
                        format!(" (silent for {})", short(node.last_heard.elapsed()))
                    }
                });
                let sockets = match (*what, node.sockets) {
                    ("left", _) | (_, None) => String::new(),
                    (_, Some(1)) => ", 1 socket".to_owned(),
                    (_, Some(count)) => format!(", {count} sockets"),
                };
                let colour = if *what == "left" { "\x1b[31m" } else { "\x1b[32m" };
                let what = if *what == "sockets" { "has" } else { what };
                let (uid, nsp) = (safe::line(node.uid()), safe::line(node.nsp().as_str()));
                format!("{colour}{what}\x1b[0m {uid} in {nsp}{why}{sockets}")
            }
            What::Lost(error) => {
                let error = error.to_string();
                format!("\x1b[31mlost\x1b[0m {}", safe::line(error.strip_prefix("lost ").unwrap_or(&error)))
            }
            What::Restored(away) => format!("\x1b[32mrestored\x1b[0m after {away:.1?}"),
        };
        format!("\x1b[2m{time}\x1b[0m {what}")
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let change = match &self.what {
            What::Node(what, _) => what,
            What::Lost(_) => "lost",
            What::Restored(_) => "restored",
        };
        map.serialize_entry("change", change)?;
        map.serialize_entry("time", &in_millis(self.time))?;
        match &self.what {
            What::Node(_, node) => {
                node.fields(&mut map)?;
                if let Some(gone) = node.gone {
                    map.serialize_entry("reason", gone.how.name())?;
                }
            }
            What::Lost(error) => map.serialize_entry("error", &error.to_string())?,
            What::Restored(away) => {
                map.serialize_entry("awayMs", &u64::try_from(away.as_millis()).unwrap_or(u64::MAX))?;
            }
        }
        map.end()
    }
}
