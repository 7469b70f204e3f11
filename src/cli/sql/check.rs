//! `pgio sql check`: compares the installed functions with those of this pgio.

use clap::Args;
use serde_json::json;

use super::{Grants, Schema};
use crate::cli::arguments::{Format, Global};
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::safe;
use crate::postgres::sql_emitter::{Difference, Installed, SqlEmitter, differences};

/// Check that the functions are installed and unchanged
///
/// Compares the functions in the database with those of this pgio, and the settings of their installation with
/// --channel-prefix, --table-name and --payload-threshold. With --grant it also checks that these roles may call the
/// functions. Changes nothing. Prints one line for each difference, and exits with 1 if there is any.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio sql check                         the functions in schema socket_io
  pgio sql check --grant app             and the privileges of the role app
  pgio sql check -o json | jq .differences")]
pub(super) struct Check {
    #[command(flatten)]
    schema: Schema,
    #[command(flatten)]
    grants: Grants,
}

impl Check {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let emitter = self.schema.emitter(global)?;
        let schema = emitter.schema();
        let roles = &self.grants.roles;
        let installed = emitter.installed(global.settings()?, roles).await?;
        let found =
            installed.as_ref().map_or_else(Vec::new, |installed| differences(&emitter, installed, roles));
        let mut lines = Lines::stdout();
        match (global.output, &installed) {
            (Format::Json, installed) => lines.json(&object(&emitter, installed.as_ref(), &found))?,
            (Format::Text, None) => {}
            (Format::Text, Some(installed)) if found.is_empty() => {
                let version = installed.version;
                let text = format!("the functions in schema {schema} are unchanged, version {version}");
                lines.text(&safe::line(&text))?;
            }
            (Format::Text, Some(_)) => {
                for Difference { object, problem } in &found {
                    lines.text(&safe::line(&format!("{object}: {problem}")))?;
                }
            }
        }
        lines.flush()?;
        match (installed, found.len()) {
            (None, _) => {
                let failure = format!("the functions are not installed in schema {schema}");
                Err(Failure::Other(failure).with_hint(self.schema.with_flag("pgio sql install")))
            }
            (Some(_), 0) => Ok(()),
            (Some(_), count) => {
                let failure = Failure::Other(match count {
                    1 => format!("1 difference in schema {schema}"),
                    _ => format!("{count} differences in schema {schema}"),
                });
                Err(failure.with_hint(format!(
                    "{} restores the functions",
                    self.schema.with_flag("pgio sql install")
                )))
            }
        }
    }
}

fn object(emitter: &SqlEmitter, installed: Option<&Installed>, found: &[Difference]) -> serde_json::Value {
    let differences: Vec<_> = found
        .iter()
        .map(|Difference { object, problem }| json!({ "object": object, "problem": problem }))
        .collect();
    json!({
        "schema": emitter.schema().as_str(),
        "version": installed.map(|installed| installed.version),
        "settings": installed.and_then(|installed| installed.settings.as_ref()).map(|settings| json!({
            "channelPrefix": settings.channel_prefix,
            "tableName": settings.table_name,
            "payloadThreshold": settings.payload_threshold,
        })),
        "differences": differences,
    })
}
