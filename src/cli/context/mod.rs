//! `pgio context`: lists and edits the named clusters of the configuration file.

mod file;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::arguments::{Format, Global};
use super::config::{self, contexts};
use super::exit::Failure;
use super::output::lines::Lines;
use super::output::safe;
use super::output::table::{Column, Table, cell};
use file::{ConfigFile, Context};

/// Manage the named clusters of the configuration file
///
/// A context is a named set of a database URL and adapter options. `--context NAME` or PGIO_CONTEXT selects it for one
/// command, and overrides DATABASE_URL. `pgio context use NAME` makes it the default, which DATABASE_URL overrides. The
/// file is that of --config or PGIO_CONFIG, else ~/.config/pgio/config.toml. Other content of the file stays unchanged,
/// including comments.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio context add prod postgres://app@db.example.com/app
  pgio context add old postgres://app@db/app --set channel-prefix=chat
  pgio context list                 list contexts; * marks the default
  pgio context use prod             change the default
  pgio nodes --context old          select a context for one command")]
pub(super) struct Contexts {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the contexts; * is the default
    ///
    /// Passwords are never shown.
    #[command(after_help = "\
Examples:
  pgio context list
  pgio context list -o json | jq -r .name
  pgio context list --config ./pgio.toml")]
    List,
    /// Show the settings of a context, without passwords
    #[command(after_help = "\
Examples:
  pgio context show                 the default
  pgio context show prod
  pgio context show prod -o json")]
    Show {
        /// The context [default: the default context]
        #[arg(add = ArgValueCandidates::new(contexts))]
        name: Option<String>,
    },
    /// Add a context, or change one
    ///
    /// A new file is readable by its owner only, since URLs may hold passwords; ~/.pgpass is a better place for
    /// passwords.
    #[command(after_help = "\
Examples:
  pgio context add prod postgres://app@db.example.com/app
  pgio context add prod --set table-name=chat.attachments
  pgio context add dev 'host=/run/postgresql dbname=dev' --use")]
    Add {
        /// The context
        #[arg(value_parser = file::parse_name)]
        name: String,
        /// The database: a URL, or keyword=value pairs
        url: Option<String>,
        /// Set a key, such as channel-prefix=chat. May be repeated
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = file::parse_setting)]
        settings: Vec<(String, String)>,
        /// Make this context the default
        #[arg(long = "use")]
        is_default: bool,
    },
    /// Make a context the default
    #[command(after_help = "\
Examples:
  pgio context use prod
  pgio context use --none           remove the default
  pgio context use dev --config ./pgio.toml")]
    Use {
        /// The context
        #[arg(required_unless_present = "none", add = ArgValueCandidates::new(contexts))]
        name: Option<String>,
        /// Remove the default
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// Remove a context
    #[command(after_help = "\
Examples:
  pgio context remove old
  pgio context remove old -q
  pgio context remove old --config ./pgio.toml")]
    Remove {
        /// The context
        #[arg(add = ArgValueCandidates::new(contexts))]
        name: String,
    },
}

impl Contexts {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let path = global.configuration_file().or_else(config::usual_path);
        let path =
            path.ok_or_else(|| Failure::Usage("no home directory: name a file with --config".into()))?;
        let mut file = ConfigFile::open(path)?;
        match self.command {
            Command::List => list(global, &file),
            Command::Show { name } => show(global, &file, name.as_deref()),
            Command::Add { name, url, mut settings, is_default } => {
                settings.extend(url.map(|url| (file::DATABASE.to_owned(), url)));
                if settings.is_empty() && !is_default {
                    return Err(Failure::Usage(format!(
                        "context {name}: a URL or --set KEY=VALUE is missing"
                    )));
                }
                let is_new = file.set(&name, &settings)?;
                if is_default {
                    file.choose(Some(&name))?;
                }
                file.save()?;
                global.note_on_terminal(&format!(
                    "{} context {name}",
                    if is_new { "added" } else { "changed" }
                ));
                Ok(())
            }
            Command::Use { name, .. } => {
                file.choose(name.as_deref())?;
                file.save()?;
                global.note_on_terminal(&match name {
                    Some(name) => format!("{name} is the default context"),
                    None => "there is no default context".to_owned(),
                });
                Ok(())
            }
            Command::Remove { name } => {
                file.remove(&name)?;
                file.save()?;
                global.note_on_terminal(&format!("removed context {name}"));
                Ok(())
            }
        }
    }
}

fn list(global: &Global, file: &ConfigFile) -> Result<(), Failure> {
    let contexts = file.contexts();
    let mut lines = Lines::stdout();
    match global.output {
        Format::Json => contexts.iter().try_for_each(|context| {
            let Context { name, is_default, database, .. } = context;
            lines.json(&json!({ "name": name, "default": is_default, "database": database }))
        })?,
        Format::Text if contexts.is_empty() => {}
        Format::Text => {
            let mut table = Table::new(vec![
                Column::text(""),
                Column::text("NAME").cut_to(20),
                Column::text("DATABASE").sharing(),
            ]);
            for Context { name, is_default, database, .. } in &contexts {
                let database = database.as_deref().unwrap_or("-");
                table.row(vec![cell(if *is_default { "*" } else { "" }), cell(name), cell(database)]);
            }
            table.print(&mut lines)?;
        }
    }
    lines.flush()?;
    if contexts.is_empty() {
        global.note_on_terminal("no contexts");
    }
    Ok(())
}

fn show(global: &Global, file: &ConfigFile, name: Option<&str>) -> Result<(), Failure> {
    let Context { name, is_default, database, settings } = file.context(name)?;
    let mut lines = Lines::stdout();
    match global.output {
        Format::Json => {
            let settings: serde_json::Map<_, _> =
                settings.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
            lines.json(
                &json!({ "name": name, "default": is_default, "database": database, "settings": settings }),
            )?;
        }
        Format::Text => {
            let default = if is_default { " (default)" } else { "" };
            lines.text(&safe::line(&format!("{name}{default}")))?;
            let database = database.as_deref().unwrap_or("-");
            for (key, value) in
                [("database", database)].into_iter().chain(settings.iter().map(|(k, v)| (*k, v.as_str())))
            {
                lines.text(&safe::line(&format!("  {key}: {value}")))?;
            }
        }
    }
    lines.flush()
}
