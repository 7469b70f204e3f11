//! The configuration file: defaults for flags, and named contexts.
//!
//! A flag overrides a variable, and a variable overrides the file. A context that `--context` or `PGIO_CONTEXT` selects
//! explicitly overrides variables as well.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use clap_complete::engine::CompletionCandidate;
use toml::{Table, Value};

use super::{Cli, complete_command_line, exit};
use crate::error::without_os_code;
use crate::postgres::Settings;

/// The keys of the file: the names of flags.
pub(super) const KEYS: [&str; 8] = [
    "database-url",
    "channel-prefix",
    "table-name",
    "payload-threshold",
    "cleanup-interval",
    "heartbeat-interval",
    "heartbeat-timeout",
    "output",
];
pub(super) const CONTEXT: &str = "context";
pub(super) const DEFAULT_CONTEXT: &str = "default-context";

/// Parses the command line, with defaults from the configuration file. If this fails, it prints the error itself.
pub(super) fn parse_command_line() -> Result<Cli, ExitCode> {
    let usage = |error: clap::Error| exit::usage(&error, complete_command_line);
    let matches = Cli::command().try_get_matches().map_err(usage)?;
    // `pgio context` creates and mends the file, and needs no defaults from it.
    let read = match matches.subcommand_name() {
        Some(CONTEXT) => None,
        _ => Configuration::read(&matches).map_err(|wrong| exit::misconfigured(&wrong.to_string()))?,
    };
    let Some(configuration) = read else {
        return Cli::from_arg_matches(&matches).map_err(usage);
    };
    let command = configuration.defaults.iter().fold(Cli::command(), |command, (key, value)| {
        // libpq's variables override this key, unless the user selected the context explicitly.
        if key == "database-url" && !configuration.is_meant {
            return command;
        }
        command.mut_arg(key.replace('-', "_"), |arg| {
            let arg = arg.default_value(value.clone());
            if configuration.is_meant { arg.env(Resettable::<clap::builder::OsStr>::Reset) } else { arg }
        })
    });
    let wrong = |error: clap::Error| {
        exit::misconfigured(&format!("{}: {}", configuration.path.display(), exit::in_short(&error)))
    };
    let matches = command.try_get_matches().map_err(wrong)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(usage)?;
    let url = configuration.defaults.iter().find(|(key, _)| key == "database-url");
    cli.global.configured_url = url.map(|(_, url)| url.clone());
    cli.global.outranked = configuration.outranked(&matches);
    Ok(cli)
}

/// Checks a value for a key of the file, as the flag with that name does.
pub(super) fn check_value(key: &str, value: &str) -> Result<(), String> {
    let line = ["pgio", "nodes", &format!("--{key}={value}")];
    match complete_command_line().try_get_matches_from(line) {
        Ok(_) => Ok(()),
        Err(error) => Err(exit::in_short(&error)),
    }
}

/// The contexts of the configuration file, for completion.
pub(super) fn contexts() -> Vec<CompletionCandidate> {
    let path = std::env::var_os("PGIO_CONFIG").map(PathBuf::from).or_else(usual_path);
    let table = path.and_then(|path| read_table(&path).ok());
    let contexts = table.as_ref().and_then(|table| table.get(CONTEXT)?.as_table());
    contexts.into_iter().flat_map(Table::keys).map(CompletionCandidate::new).collect()
}

/// An error in the configuration file.
struct Wrong {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// The settings of the configuration file that apply to this run.
struct Configuration {
    path: PathBuf,
    /// The values of flags. Those of the context come first.
    defaults: Vec<(String, String)>,
    /// The selected context, and the keys that it sets.
    context: Option<(String, Vec<String>)>,
    /// Whether `--context` or `PGIO_CONTEXT` named the context.
    is_meant: bool,
}

impl Configuration {
    /// Reads the file that the command line or the environment names, else the usual file if it exists.
    fn read(matches: &ArgMatches) -> Result<Option<Self>, Wrong> {
        let named = matches.get_one::<PathBuf>("config").cloned();
        let wanted = matches.get_one::<String>(CONTEXT).map(String::as_str);
        let is_meant = wanted.is_some();
        let path = match (named, usual_path()) {
            (Some(path), _) => path,
            (None, Some(path)) if path.exists() || wanted.is_some() => path,
            _ => return Ok(None),
        };
        let wrong = |reason: String| Wrong { path: path.clone(), reason };
        if let Some(name) = wanted.filter(|_| !path.exists()) {
            return Err(wrong(format!("no context {name:?}, since this file does not exist")));
        }
        let table = read_table(&path).map_err(wrong)?;
        let known =
            |key: &String| KEYS.contains(&key.as_str()) || [CONTEXT, DEFAULT_CONTEXT].contains(&key.as_str());
        check_keys(&table, known).map_err(wrong)?;
        let none = Table::new();
        let contexts = match table.get(CONTEXT) {
            None => &none,
            Some(contexts) => contexts
                .as_table()
                .ok_or_else(|| wrong("context is not a table such as [context.prod]".into()))?,
        };
        let mut defaults = Vec::new();
        let mut taken = None;
        let default = table
            .get(DEFAULT_CONTEXT)
            .map(|value| scalar(DEFAULT_CONTEXT, value))
            .transpose()
            .map_err(wrong)?;
        if let Some(name) = wanted.or(default.as_deref()) {
            let context = contexts.get(name).and_then(Value::as_table);
            let context = context.ok_or_else(|| wrong(no_such_context(name, contexts)))?;
            check_keys(context, |key| KEYS.contains(&key.as_str()))
                .map_err(|reason| wrong(format!("context {name}: {reason}")))?;
            defaults.extend(values(context).map_err(wrong)?);
            taken = Some((name.to_owned(), defaults.iter().map(|(key, _)| key.clone()).collect()));
        }
        for (key, value) in values(&table).map_err(wrong)? {
            if defaults.iter().all(|(set, _)| *set != key) {
                defaults.push((key, value));
            }
        }
        Ok(Some(Self { path, defaults, context: taken, is_meant }))
    }

    /// One sentence for each setting of the context that a flag or a variable overrides.
    fn outranked(&self, matches: &ArgMatches) -> Vec<String> {
        let Some((name, keys)) = &self.context else { return Vec::new() };
        let by = |key: &str| match matches.value_source(&key.replace('-', "_")) {
            Some(ValueSource::CommandLine) => Some(format!("--{key}")),
            Some(ValueSource::EnvVariable) if key == "database-url" => Some("DATABASE_URL".to_owned()),
            Some(ValueSource::EnvVariable) => Some(format!("PGIO_{}", key.replace('-', "_").to_uppercase())),
            _ if key == "database-url" && !self.is_meant && names_a_database() => {
                Some("PGHOST, PGSERVICE or another of libpq's variables".to_owned())
            }
            _ => None,
        };
        let outranked = keys.iter().filter_map(|key| Some((key, by(key)?)));
        outranked.map(|(key, by)| format!("context {name}: {key} is ignored, since {by} is set")).collect()
    }
}

/// Whether libpq's variables name a database.
fn names_a_database() -> bool {
    // Invalid variables count, too. Connecting reports the error.
    matches!(Settings::from_env(), Ok(Some(_)) | Err(_))
}

fn no_such_context(name: &str, contexts: &Table) -> String {
    match contexts.is_empty() {
        true => format!("no context {name:?}; there are no contexts"),
        false => format!(
            "no context {name:?}; there are {}",
            contexts.keys().cloned().collect::<Vec<_>>().join(", ")
        ),
    }
}

fn check_keys(table: &Table, known: impl Fn(&String) -> bool) -> Result<(), String> {
    match table.keys().find(|key| !known(key)) {
        None => Ok(()),
        Some(key) => Err(format!("unknown key {key}; the keys are {}", KEYS.join(", "))),
    }
}

fn values(table: &Table) -> Result<Vec<(String, String)>, String> {
    let set = KEYS.iter().filter_map(|key| Some((*key, table.get(*key)?)));
    set.map(|(key, value)| Ok((key.to_owned(), scalar(key, value)?))).collect()
}

fn scalar(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        other => Err(format!("{key} is a {}, and has to be text or a whole number", other.type_str())),
    }
}

fn read_table(path: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| without_os_code(&error))?;
    text.parse::<Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        format!("line {line}: {}", error.message())
    })
}

/// `$XDG_CONFIG_HOME/pgio/config.toml`, or `~/.config/pgio/config.toml`.
pub(super) fn usual_path() -> Option<PathBuf> {
    let variable =
        |name: &str| std::env::var_os(name).filter(|value| value != OsStr::new("")).map(PathBuf::from);
    let directory = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(directory.join("pgio/config.toml"))
}
