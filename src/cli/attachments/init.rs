//! `pgio attachments init`: creates the attachment table and its indexes.

use clap::Args;
use serde_json::json;

use crate::cli::arguments::{Format, Global};
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::safe;
use crate::postgres::{AttachmentTable, Change, Storage};

/// Create the attachment table, or add its missing indexes
///
/// Adds the index on created_at, which the cleanup uses, and the index on id if they are missing. It creates them
/// concurrently, so publishing is not blocked. The owner also sets the replica identity: without one, every cleanup
/// fails as soon as a publication (logical replication) contains the table. It checks the columns, and never changes them. The command is
/// idempotent, and several may run at the same time.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio attachments init                        create socket_io_attachments
  pgio attachments init --table-name app.io    another name, in a schema
  pgio attachments init --unlogged             faster, and empty after a crash
  pgio attachments init -o json | jq .created  for scripts")]
pub(super) struct Init {
    /// Make the table unlogged: rows write no WAL, which is half the work. A crash of Postgres empties the table, and
    /// standbys have no rows. Rewrites an existing table, and blocks publishers of attachments meanwhile
    #[arg(long)]
    unlogged: bool,
    /// Make an unlogged table logged: rows write WAL again
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
                let is_unlogged = table.existing_shape().await?.definition.is_unlogged;
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
        Change::ReplicaIdentity => format!("set the replica identity of {name} to its index on id"),
        Change::Storage(Storage::Logged) => format!("made {name} logged"),
        Change::Storage(Storage::Unlogged) => format!("made {name} unlogged"),
    }
}
