//! `pgio attachments grants`: prints the privileges that a role needs, as SQL.

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::arguments::{Format, Global};
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::safe;
use crate::postgres::{AttachmentTable, Part};

/// Print the privileges that a role needs, as SQL
///
/// Changes nothing: read the statements, then run them with psql as the owner of the table. The role needs no other
/// privileges. NOTIFY and LISTEN need only CONNECT on the database, which every role has until it is revoked from
/// PUBLIC.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio attachments grants --role cron --for emitter  for pgio emit
  pgio attachments grants --role ops --for observer  for pgio tail
  pgio attachments grants --role app --for node | psql \"$DATABASE_URL\"")]
pub(super) struct Grants {
    /// The role that gets the privileges
    #[arg(long, value_name = "ROLE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    role: String,
    /// The part that the role has in the cluster
    #[arg(long = "for", value_enum, value_name = "PART")]
    part: PartName,
}

#[derive(Clone, Copy, ValueEnum)]
enum PartName {
    /// Publishes events
    Emitter,
    /// Reads all messages, and publishes only requests
    Observer,
    /// Is a server: publishes, reads and cleans up
    Node,
}

impl Grants {
    pub(super) async fn run(self, global: &Global, table: &AttachmentTable) -> Result<(), Failure> {
        let (part, name) = match self.part {
            PartName::Emitter => (Part::Emitter, "emitter"),
            PartName::Observer => (Part::Observer, "observer"),
            PartName::Node => (Part::Node, "node"),
        };
        let statements = table.grants(&self.role, part).await?;
        let mut lines = Lines::stdout();
        match global.output {
            Format::Text => {
                for statement in &statements {
                    lines.text(&safe::line(statement))?;
                }
            }
            Format::Json => {
                lines.json(&json!({ "role": self.role, "for": name, "statements": statements }))?;
            }
        }
        lines.flush()
    }
}
