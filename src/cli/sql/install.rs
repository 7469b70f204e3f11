//! `pgio sql install`: installs or upgrades the functions.

use clap::Args;
use serde_json::json;

use super::{Grants, Schema};
use crate::Error;
use crate::cli::arguments::{Format, Global};
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::safe;
use crate::postgres::sql_emitter::{Outcome, SqlEmitter, VERSION, hint};

/// Install the functions, or upgrade them
///
/// Runs the output of pgio sql print in one transaction. It creates the schema and the attachment table if they do not
/// exist, and replaces functions that are older or were changed. The functions use --channel-prefix, --table-name and
/// --payload-threshold, which have to match those of the servers. Roles keep their privileges; --grant adds to them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio sql install                           only the owner may emit
  pgio sql install --grant app --grant jobs  two roles may emit as well
  pgio sql install --schema events           in schema events
  pgio sql install --channel-prefix chat     for servers with that prefix")]
pub(super) struct Install {
    #[command(flatten)]
    schema: Schema,
    #[command(flatten)]
    grants: Grants,
}

impl Install {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let emitter = self.schema.emitter(global)?;
        let outcome = emitter.install(global.settings()?, &self.grants.roles).await.map_err(advised)?;
        if let (Some(owner), Some(settings)) = (outcome.after.superuser(), &outcome.after.settings) {
            global.warn(&format!(
                "the functions run with the privileges of the superuser {owner}; install as the owner of {} instead",
                settings.table_name
            ));
        }
        let mut lines = Lines::stdout();
        match global.output {
            Format::Text => lines.text(&safe::line(&describe(&emitter, &outcome)))?,
            Format::Json => lines.json(&json!({
                "schema": emitter.schema().as_str(),
                "version": VERSION,
                "previousVersion": outcome.before.as_ref().map(|before| before.version),
                "changed": outcome.before.as_ref() != Some(&outcome.after),
            }))?,
        }
        lines.flush()
    }
}

/// Adds the hint of the installation script.
fn advised(error: Error) -> Failure {
    match hint(&error).map(str::to_owned) {
        Some(hint) => Failure::from(error).with_hint(hint),
        None => error.into(),
    }
}

fn describe(emitter: &SqlEmitter, outcome: &Outcome) -> String {
    let schema = emitter.schema();
    match &outcome.before {
        None => format!("installed the functions in schema {schema}, version {VERSION}"),
        Some(before) if *before == outcome.after => {
            format!("the functions in schema {schema} are up to date, version {VERSION}")
        }
        Some(before) if before.version == VERSION => {
            format!("updated the functions in schema {schema}, version {VERSION}")
        }
        Some(before) => {
            format!("updated the functions in schema {schema} from version {} to {VERSION}", before.version)
        }
    }
}
