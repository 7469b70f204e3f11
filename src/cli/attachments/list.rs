//! `pgio attachments list`: lists the newest rows with a summary of their messages.

use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::json;

use super::{age, millis};
use crate::cli::arguments::{Format, Global};
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::number;
use crate::cli::output::table::{Cell, Color, Column, Table, cell};
use crate::postgres::{AttachmentTable, Brief};
use crate::protocol::Summary;

/// The number of rows in one query.
const PAGE: u32 = 50;

/// List the newest rows of the attachment table
///
/// The age of an expired row is yellow. Only the first 64 KiB of each message are read and shown. Servers with adapter
/// 0.3 write no namespace.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio attachments list                           the newest 20
  pgio attachments list --limit 1000 | less       more of them
  pgio attachments list -o json | jq .event       the names of the events")]
pub(super) struct List {
    /// The maximum number of rows, the newest first
    #[arg(short, long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl List {
    pub(super) async fn run(self, global: &Global, table: &AttachmentTable) -> Result<(), Failure> {
        let mut lines = Lines::stdout();
        let mut rows = Table::new(vec![
            Column::number("ID"),
            Column::text("CREATED").optional(),
            Column::number("AGE"),
            Column::number("SIZE"),
            Column::text("TYPE"),
            Column::text("NAMESPACE").cut_to(20),
            Column::text("EVENT").sharing(),
        ]);
        let expired_at = global.adapter_options().cleanup_interval;
        let (mut left, mut before) = (self.limit, None);
        while left > 0 {
            let page = table.newest(before, left.min(PAGE)).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            left -= u32::try_from(page.len()).unwrap_or(left).min(left);
            for row in &page {
                let summary = Summary::of_start(&row.start);
                match global.output {
                    Format::Json => lines.json(&object(row, &summary))?,
                    Format::Text => rows.row(cells(row, &summary, expired_at)),
                }
            }
            lines.flush()?;
        }
        if global.output == Format::Text {
            match before {
                Some(_) => rows.print(&mut lines)?,
                None => global.note(&format!("{} is empty", table.name())),
            }
        }
        lines.flush()
    }
}

fn object(row: &Brief, summary: &Summary) -> serde_json::Value {
    json!({
        "id": row.id.to_string(),
        "createdAt": row.created.at.map(|at| format!("{at:.3}")),
        "ageMs": row.created.age.map(millis),
        "bytes": row.bytes,
        "type": summary.kind.map(|kind| kind.name()),
        "namespace": summary.nsp.as_ref().map(|nsp| nsp.as_str()),
        "event": summary.event,
        "uid": summary.uid,
    })
}

fn cells(row: &Brief, summary: &Summary, expired_at: Duration) -> Vec<Cell> {
    let created = row.created.at.map(|at| {
        let is_recent = row.created.age.is_some_and(|age| age < Duration::from_secs(12 * 3600));
        at.to_zoned(TimeZone::system()).strftime(if is_recent { "%T" } else { "%F %R" }).to_string()
    });
    let mut aged = cell(&row.created.age.map_or("-".into(), age));
    if row.created.age.is_some_and(|age| age >= expired_at) {
        aged = aged.fg(Color::Yellow);
    }
    let or_dash = |text: Option<&str>| cell(text.unwrap_or("-"));
    vec![
        cell(&row.id.to_string()),
        or_dash(created.as_deref()),
        aged,
        cell(&number::size(row.bytes)),
        or_dash(summary.kind.map(|kind| kind.name())),
        or_dash(summary.nsp.as_ref().map(|nsp| nsp.as_str())),
        or_dash(summary.event.as_deref()),
    ]
}
