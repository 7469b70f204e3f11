//! `pgio sql uninstall`: removes the functions.

use clap::Args;
use serde_json::json;

use super::Schema;
use crate::cli::arguments::{Format, Global};
use crate::cli::confirm::confirm;
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::safe;

/// Remove the functions, their settings and their schema
///
/// Refuses while a trigger uses the functions, and names the trigger. The attachment table stays, since the servers
/// need it. The schema stays if it contains other objects. Asks for confirmation on a terminal, and needs --yes without
/// one.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio sql uninstall                     with a confirmation
  pgio sql uninstall --yes               for scripts
  pgio sql uninstall --schema events -y  in schema events")]
pub(super) struct Uninstall {
    #[command(flatten)]
    schema: Schema,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

impl Uninstall {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let emitter = self.schema.emitter(global)?;
        let schema = emitter.schema();
        let settings = global.settings()?;
        let Some(installed) = emitter.installed(settings.clone(), &[]).await? else {
            return Err(Failure::Other(format!("the functions are not installed in schema {schema}")));
        };
        if !installed.triggers.is_empty() {
            let triggers = installed.triggers.join(", ");
            let failure = format!("triggers use the functions in schema {schema}: {triggers}");
            return Err(Failure::Other(failure).with_hint("drop these triggers first"));
        }
        let question = format!("remove the functions in schema {schema} from {}", settings.target());
        confirm(&question, self.yes).await?;
        let stays = emitter.uninstall(settings).await?;
        let mut lines = Lines::stdout();
        match global.output {
            Format::Text => {
                let text = match stays {
                    true => format!("removed the functions; schema {schema} stays"),
                    false => format!("removed the functions and schema {schema}"),
                };
                lines.text(&safe::line(&text))?;
            }
            Format::Json => {
                lines.json(&json!({ "schema": schema.as_str(), "schemaRemoved": !stays }))?;
            }
        }
        lines.flush()
    }
}
