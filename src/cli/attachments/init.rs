//! `pgio attachments init`: the table as the protocol needs it.

use clap::Args;
use serde_json::json;

use crate::cli::arguments::{Format, Global};
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::safe;
use crate::postgres::{AttachmentTable, Change, Storage};

/// Create the attachment table, or complete the one that is there
///
/// Adds an index on created_at, by which rows are cleaned up, and one on id, where they are missing: concurrently, so
/// that publishing goes on meanwhile. Columns are checked, and never changed. Does nothing where nothing is missing, and
/// any number may run it at once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio attachments init                        create socket_io_attachments
  pgio attachments init --table-name app.io    another name, in a schema
  pgio attachments init --unlogged             faster, and empty after a crash
  pgio attachments init -o json | jq .created  for scripts")]
pub(super) struct Init {
    /// Do not write rows to the server's log: half the work. A crash of the server empties the table, and standbys have
    /// nothing in it. Rewrites a table that is there; publishers of attachments wait until that is done
    #[arg(long)]
    unlogged: bool,
    /// Write rows to the server's log again, if they were not
    #[arg(long, conflicts_with = "unlogged")]
    logged: bool,
}

impl Init {
    pub(super) async fn run(self, global: &Global, table: &AttachmentTable) -> Result<(), Failure> {
        let storage = match (self.unlogged, self.logged) {
            (true, _) => Some(Storage::Unlogged),
            (_, true) => Some(Storage::Logged),
            _ => None,
        };
        let changes = table.init(storage).await?;
        let mut lines = Lines::stdout();
        match global.output {
            Format::Text if changes.is_empty() => {
                lines.text(&safe::line(&format!("{} is complete already", table.name())))?;
            }
            Format::Text => {
                for change in changes {
                    lines.text(&safe::line(&describe(change, table)))?;
                }
            }
            Format::Json => {
                let is_unlogged = table.existing_shape().await?.is_unlogged;
                let indexed = changes.iter().filter_map(|change| match change {
                    Change::Index(column) => Some(column),
                    _ => None,
                });
                lines.json(&json!({
                    "table": table.name().as_sql(),
                    "created": changes.iter().any(|change| matches!(change, Change::Table(_))),
                    "indexed": indexed.collect::<Vec<_>>(),
                    "unlogged": is_unlogged,
                    "changed": !changes.is_empty(),
                }))?;
            }
        }
        lines.flush()
    }
}

fn describe(change: Change, table: &AttachmentTable) -> String {
    let name = table.name();
    match change {
        Change::Table(Storage::Logged) => format!("created {name}, with an index on created_at"),
        Change::Table(Storage::Unlogged) => format!("created {name}, unlogged, with an index on created_at"),
        Change::Index(column) => format!("added an index on {column} to {name}"),
        Change::Storage(Storage::Logged) => format!("made {name} logged"),
        Change::Storage(Storage::Unlogged) => format!("made {name} unlogged"),
    }
}
