//! Formats the picture as plain text: a snapshot, or one line for each interval.

use jiff::tz::TimeZone;

use super::picture::{Picture, Ranked};
use super::view::Sort;
use crate::cli::duration::short;
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::number;
use crate::cli::output::table::{Column, Table, cell};
use crate::cli::traffic::By;
use crate::safe_text as safe;

/// The text for an unknown value.
pub(super) const UNKNOWN: &str = "-";

/// Prints a whole snapshot.
pub(super) fn snapshot(
    picture: &Picture,
    sort: Sort,
    limit: usize,
    lines: &mut Lines,
) -> Result<(), Failure> {
    let width = lines.width().unwrap_or(usize::MAX);
    for (label, value) in facts(picture) {
        let line: String = format!("{label:<12} {value}").chars().take(width).collect();
        lines.text(&line)?;
    }
    if let Some(trouble) = picture.link.trouble() {
        lines.text(&format!("\x1b[31m{}\x1b[0m", safe::line(trouble)))?;
    }
    let rows = picture.sorted(sort, false, "");
    if rows.is_empty() {
        return Ok(());
    }
    lines.text("")?;
    let mut table = Table::new(vec![
        Column::text(title(picture.by)).sharing(),
        Column::text("NAMESPACE").cut_to(16),
        Column::number("PER SECOND"),
        Column::number("BYTES/S"),
        Column::number("COUNT"),
    ]);
    for row in rows.iter().take(limit) {
        table.row(vec![
            cell(&name(row, picture.by)),
            cell(&row.namespace),
            cell(&rate(row.per_second)),
            cell(&bytes(row.bytes_per_second)),
            cell(&number::count(row.messages)),
        ]);
    }
    table.print(lines)?;
    let more = rows.len().saturating_sub(limit);
    if more > 0 {
        lines.text(&format!("... and {more} more; --limit shows them"))?;
    }
    Ok(())
}

/// The facts about the whole cluster.
fn facts(picture: &Picture) -> Vec<(&'static str, String)> {
    let recent = &picture.recent;
    let of = |count| rate(picture.per_second(count));
    let size = |count| bytes(picture.per_second(count));
    vec![
        ("database", safe::line(&picture.server).into_owned()),
        ("namespaces", picture.namespaces.join(", ")),
        ("servers", picture.nodes.len().to_string()),
        ("sockets", sockets(picture)),
        ("events/s", of(recent.events())),
        ("messages/s", format!("{}, acknowledgements {}", of(recent.messages()), of(recent.acks()))),
        (
            "bytes/s",
            format!(
                "{}: inline {}, attachments {}",
                size(recent.bytes()),
                size(recent.inline_bytes),
                size(recent.attachment_bytes)
            ),
        ),
        ("attachments", attachments(picture)),
        ("queue", queue(picture)),
        ("commits/s", or_unknown(picture.database.commits_per_second, rate)),
        ("WAL/s", or_unknown(picture.database.wal_per_second, bytes)),
    ]
}

/// The header of the lines.
pub(super) fn titles() -> String {
    "TIME      EVENTS/S     BYTES/S  ACKS/S  NODES  SOCKETS  ROWS  QUEUE  COMMITS/S       WAL/S".into()
}

/// Formats the sums as one line.
pub(super) fn line(picture: &Picture) -> String {
    let database = &picture.database;
    let if_connected = |text: String| if picture.link.lost.is_none() { text } else { UNKNOWN.to_owned() };
    let sockets = picture.sockets.map_or(UNKNOWN.to_owned(), |count| count.to_string());
    format!(
        "{}  {:>8}  {:>10}  {:>6}  {:>5}  {:>7}  {:>4}  {:>5}  {:>9}  {:>10}",
        picture.time.to_zoned(TimeZone::system()).strftime("%H:%M:%S"),
        if_connected(rate(picture.per_second(picture.recent.events()))),
        if_connected(bytes(picture.per_second(picture.recent.bytes()))),
        if_connected(rate(picture.per_second(picture.recent.acks()))),
        if_connected(picture.nodes.len().to_string()),
        if_connected(sockets),
        database.table.map_or(UNKNOWN.to_owned(), |table| table.rows.to_string()),
        queue(picture),
        or_unknown(database.commits_per_second, rate),
        or_unknown(database.wal_per_second, bytes),
    )
}

/// `12 (3s ago)`.
pub(super) fn sockets(picture: &Picture) -> String {
    match (picture.sockets, picture.sockets_age) {
        (Some(count), Some(age)) => format!("{} ({} ago)", number::count(count as u64), short(age)),
        _ => UNKNOWN.into(),
    }
}

/// `12 rows, 3.4 MiB, 4.1 MiB on disk, oldest 12s`.
pub(super) fn attachments(picture: &Picture) -> String {
    let Some(table) = picture.database.table else { return UNKNOWN.into() };
    let about = if table.is_estimate { "about " } else { "" };
    let oldest = table.oldest.map_or(String::new(), |age| format!(", oldest {}", short(age)));
    let rows = number::counted(table.rows, "row");
    format!(
        "{about}{rows}, {}, {} on disk{oldest}",
        number::size(table.bytes),
        number::size(table.disk_bytes)
    )
}

/// `0.0%`.
pub(super) fn queue(picture: &Picture) -> String {
    or_unknown(picture.database.queue_usage, |usage| format!("{:.1}%", usage * 100.0))
}

pub(super) fn or_unknown(number: Option<f64>, show: impl Fn(f64) -> String) -> String {
    number.map_or(UNKNOWN.into(), show)
}

/// `0`, `3.5`, `120`, `1,234`.
pub(super) fn rate(number: f64) -> String {
    match number {
        0.0 => "0".into(),
        ..10.0 => format!("{number:.1}"),
        number => number::count(number.round() as u64),
    }
}

/// `1.2 MiB`.
pub(super) fn bytes(number: f64) -> String {
    number::size(number.round() as u64)
}

pub(super) fn title(by: By) -> &'static str {
    match by {
        By::Event => "EVENT",
        By::Room => "ROOM",
        By::Sender => "SENDER",
    }
}

/// The name of a row, or a placeholder.
pub(super) fn name(row: &Ranked, by: By) -> String {
    match (&row.name, by) {
        (Some(name), _) => name.clone(),
        (None, By::Room) => "(all sockets)".into(),
        (None, By::Event | By::Sender) => "(no name)".into(),
    }
}
