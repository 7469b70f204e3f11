//! Flags that every command has.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anstream::ColorChoice;
use clap::{ArgAction, Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use tracing_subscriber::filter::Targets;

use super::log::Style;
use super::output::notes::{self, Label};
use super::{duration, size};
use crate::postgres::TableName;
use crate::{AdapterOptions, Error, Namespace};

/// The environment variable with the filter of the log.
const LOG_VARIABLE: &str = "RUST_LOG";

/// The help heading of the flags that every command has.
pub(super) const GLOBAL: &str = "Connection and output";

/// Flags that every command has.
#[derive(Args)]
pub(super) struct Global {
    #[command(flatten)]
    pub(super) database: Database,
    /// Output format: text for people, or json with one object per line
    #[arg(
        id = "output",
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        env = "PGIO_OUTPUT",
        hide_env = true,
        help_heading = GLOBAL
    )]
    output_flag: OutputFlag,
    /// The same, for commands that print text or JSON.
    #[arg(skip)]
    pub(super) output: Format,
    /// Print only data and errors, without notes and progress
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(super) quiet: bool,
    /// Log to stderr: -v for info, -vv for debug, -vvv for trace [default: no log]
    ///
    /// pgio serve and pgio monitor always log: info by default, -v for debug, -vv for trace. The variable RUST_LOG
    /// overrides the flag.
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = GLOBAL)]
    pub(super) verbose: u8,
    #[command(flatten)]
    pub(super) options: OptionFlags,
    #[command(flatten)]
    configuration: ConfigurationFlags,
    /// The database of the configuration file, unless a flag or variable overrides it.
    #[arg(skip)]
    pub(super) configured_url: Option<String>,
    /// A sentence for each setting of the context that a flag or variable overrides.
    #[arg(skip)]
    pub(super) outranked: Vec<String>,
}

/// Which defaults to take; [`config`](super::config) reads them before the others are known.
#[derive(Args)]
#[command(next_help_heading = GLOBAL)]
struct ConfigurationFlags {
    /// The configuration file [default: ~/.config/pgio/config.toml]
    ///
    /// The file is TOML. Its keys are flags without dashes, such as database-url, channel-prefix or output. Keys in a
    /// [context.NAME] table apply to that context, other keys to all contexts. default-context names the context to use
    /// without --context.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PGIO_CONFIG",
        hide_env = true,
        hide_short_help = true
    )]
    config: Option<PathBuf>,
    /// The context of the configuration file to use [default: default-context in the file]
    #[arg(long, global = true, value_name = "NAME", env = "PGIO_CONTEXT", hide_env = true, add = ArgValueCandidates::new(super::config::contexts))]
    context: Option<String>,
}

#[derive(Args)]
pub(super) struct Database {
    /// The Postgres database: postgres://user:password@host:port/db?sslmode=...
    ///
    /// A connection string of keyword=value pairs works as well. Missing settings come from libpq's variables (PGHOST,
    /// PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, PGSSLROOTCERT, PGSERVICE, ...), the service file, and
    /// ~/.pgpass. If there are several hosts, pgio uses the first one that is a primary, unless target_session_attrs
    /// says otherwise. Without this flag, pgio uses the context that --context or PGIO_CONTEXT names, else DATABASE_URL, else
    /// those variables, else the default context of the configuration file, else the private Postgres of a running pgio
    /// serve.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DATABASE_URL",
        hide_env = true,
        help_heading = GLOBAL
    )]
    pub(super) database_url: Option<String>,
}

/// The options of the adapter: the same for all members of a cluster.
#[derive(Args)]
#[command(
    next_help_heading = "Adapter options, the same on all servers (variables: PGIO_CHANNEL_PREFIX, ...)"
)]
pub(super) struct OptionFlags {
    /// The prefix of the notification channels: PREFIX#NSP, together at most 63 bytes
    #[arg(
        long,
        global = true,
        default_value = "socket.io",
        value_name = "PREFIX",
        env = "PGIO_CHANNEL_PREFIX",
        hide_env = true,
        hide_short_help = true
    )]
    pub(super) channel_prefix: String,
    /// The attachment table, for messages that hold binary or are too large for a notification: [schema.]table
    #[arg(
        long,
        global = true,
        default_value = "socket_io_attachments",
        value_parser = parse_table_name,
        value_name = "TABLE",
        env = "PGIO_TABLE_NAME",
        hide_env = true,
        hide_short_help = true
    )]
    table_name: TableName,
    /// Send messages of this size or more through the attachment table, 0 to 8000
    #[arg(
        long,
        global = true,
        default_value_t = 8000,
        value_parser = clap::value_parser!(u16).range(..=8000),
        value_name = "BYTES",
        env = "PGIO_PAYLOAD_THRESHOLD",
        hide_env = true,
        hide_short_help = true
    )]
    payload_threshold: u16,
    /// The interval at which nodes delete old rows of the attachment table, and the minimum age of these rows
    #[arg(
        long,
        global = true,
        default_value = "30s",
        value_parser = duration::parse_adapter_option,
        value_name = "TIME",
        env = "PGIO_CLEANUP_INTERVAL",
        hide_env = true,
        hide_short_help = true
    )]
    cleanup_interval: Duration,
    /// The interval between the heartbeats of a node
    #[arg(
        long,
        global = true,
        default_value = "5s",
        value_parser = duration::parse_adapter_option,
        value_name = "TIME",
        env = "PGIO_HEARTBEAT_INTERVAL",
        hide_env = true,
        hide_short_help = true
    )]
    heartbeat_interval: Duration,
    /// The time without a message after which a node counts as dead
    #[arg(
        long,
        global = true,
        default_value = "10s",
        value_parser = duration::parse_adapter_option,
        value_name = "TIME",
        env = "PGIO_HEARTBEAT_TIMEOUT",
        hide_env = true,
        hide_short_help = true
    )]
    heartbeat_timeout: Duration,
    /// Skip messages whose attachment is larger than this, encoded or in memory
    #[arg(
        long,
        global = true,
        default_value = "64MB",
        value_parser = size::parse,
        value_name = "SIZE",
        env = "PGIO_MAX_ATTACHMENT",
        hide_env = true,
        hide_short_help = true
    )]
    max_attachment: u64,
}

/// The namespaces of a command.
#[derive(Args)]
pub(super) struct Namespaces {
    /// The namespace; `admin` means `/admin`. May be repeated [default: /]
    #[arg(short, long = "namespace", value_name = "NSP")]
    namespaces: Vec<String>,
}

/// The namespaces of a command that sends to clients or servers. It takes no glob.
#[derive(Args)]
pub(super) struct TargetNamespaces {
    /// The namespace; `admin` means `/admin`. May be repeated [default: /]
    #[arg(short, long = "namespace", value_name = "NSP", value_parser = parse_namespace)]
    namespaces: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

/// The value of `--output`.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum OutputFlag {
    #[default]
    Text,
    Json,
    /// Only where the command says so.
    #[value(skip)]
    Prometheus,
}

impl OutputFlag {
    /// The format with this name. The caller passes only names that the command accepts; any other name means text.
    pub(super) fn named(name: String) -> Self {
        match name.as_str() {
            "json" => Self::Json,
            "prometheus" => Self::Prometheus,
            _ => Self::Text,
        }
    }
}

impl Namespaces {
    /// The namespaces, sorted and without duplicates; `/` if none was named.
    pub(super) fn list(&self) -> Vec<Namespace> {
        listed(&self.namespaces)
    }

    /// The namespaces as the user typed them, or an empty slice if the user named none.
    pub(super) fn as_given(&self) -> &[String] {
        &self.namespaces
    }
}

impl TargetNamespaces {
    /// The namespaces, sorted and without duplicates; `/` if none was named.
    pub(super) fn list(&self) -> Vec<Namespace> {
        listed(&self.namespaces)
    }

    /// Checks that each namespace has a channel, before anything is sent to the first of them.
    pub(super) fn check(&self, global: &Global) -> crate::Result<()> {
        self.list().iter().try_for_each(|nsp| nsp.channel(&global.options.channel_prefix).map(drop))
    }

    /// Whether the user named a namespace.
    pub(super) fn is_given(&self) -> bool {
        !self.namespaces.is_empty()
    }
}

fn listed(names: &[String]) -> Vec<Namespace> {
    let mut list: Vec<_> = names.iter().map(|name| Namespace::new(name)).collect();
    list.sort();
    list.dedup();
    if list.is_empty() { vec![Namespace::default()] } else { list }
}

/// Parses the name of a namespace, and refuses a glob.
fn parse_namespace(text: &str) -> Result<String, String> {
    match text.contains('*') {
        true => Err("not a name; only commands that observe take a glob, as pgio namespaces does".into()),
        false => Ok(text.to_owned()),
    }
}

/// Parses the name of a table.
fn parse_table_name(text: &str) -> Result<TableName, String> {
    text.parse().map_err(without_setting)
}

/// The reason why the library refuses a value, without the name of the setting. The parser of the command line names
/// the flag.
pub(super) fn without_setting(error: Error) -> String {
    match error {
        Error::Setting { reason, .. } => reason,
        other => other.to_string(),
    }
}

impl Global {
    /// Sets `output` to the format of `--output`.
    pub(super) fn settle_output(&mut self) {
        self.output = match self.output_flag {
            OutputFlag::Text | OutputFlag::Prometheus => Format::Text,
            OutputFlag::Json => Format::Json,
        };
    }

    pub(super) fn adapter_options(&self) -> AdapterOptions {
        let flags = &self.options;
        AdapterOptions {
            channel_prefix: flags.channel_prefix.clone(),
            table_name: flags.table_name.clone(),
            payload_threshold: flags.payload_threshold.into(),
            cleanup_interval: flags.cleanup_interval,
            heartbeat_interval: flags.heartbeat_interval,
            heartbeat_timeout: flags.heartbeat_timeout,
            max_attachment: usize::try_from(flags.max_attachment).unwrap_or(usize::MAX),
            ..AdapterOptions::default()
        }
    }

    /// The configuration file that `--config` or `PGIO_CONFIG` names.
    pub(super) fn configuration_file(&self) -> Option<PathBuf> {
        self.configuration.config.clone()
    }

    /// Prints a note on stderr.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            notes::line(text);
        }
    }

    /// Prints a note on stderr if stderr is a terminal.
    pub(super) fn note_on_terminal(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Prints a warning on stderr; the command continues.
    pub(super) fn warn(&self, text: &str) {
        notes::labelled(Label::Warning, text);
    }

    /// Starts logging to stderr with the level of -v. `RUST_LOG` overrides it.
    pub(super) fn start_log(&self, log: Log) {
        let level = match (self.verbose, log.is_on) {
            (0, false) => "off",
            (0, true) if self.quiet => "warn",
            (0, true) => "warn,pgio=info",
            (1, false) => "pgio=info",
            (1, true) => "warn,pgio=debug",
            (2, false) => "pgio=debug",
            // These crates log packets of clients, with their tokens, and parameters of statements, so they stay at
            // info.
            _ => "debug,pgio=trace,tungstenite=info,tokio_tungstenite=info,tokio_postgres=info",
        };
        let filter = self.log_filter().unwrap_or_else(|| level.parse().unwrap_or_default());
        let style = match log.format {
            // This respects NO_COLOR, CLICOLOR_FORCE and TERM as well.
            Format::Text => Style::Text {
                has_colours: anstream::AutoStream::choice(&std::io::stderr()) != ColorChoice::Never,
            },
            Format::Json => Style::Json,
        };
        super::log::start(filter, style);
    }

    /// The filter in `RUST_LOG`, such as `warn,pgio=debug`. Warns if it is invalid.
    fn log_filter(&self) -> Option<Targets> {
        let directives = std::env::var(LOG_VARIABLE).ok().filter(|text| !text.is_empty())?;
        match parse_log_filter(&directives) {
            Ok(filter) => Some(filter),
            Err(reason) => {
                self.warn(&format!("{LOG_VARIABLE}={directives:?} is ignored: {reason}"));
                None
            }
        }
    }
}

/// Parses a filter such as `warn,pgio=debug`.
fn parse_log_filter(directives: &str) -> Result<Targets, String> {
    let parts: Vec<_> = directives.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| part.contains('[')) {
        return Err("spans cannot be selected".into());
    }
    parts.join(",").parse().map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

/// The log settings of a command.
#[derive(Clone, Copy, Default)]
pub(super) struct Log {
    pub(super) format: Format,
    /// Whether the command logs without -v.
    pub(super) is_on: bool,
}
