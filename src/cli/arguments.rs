//! Flags that every command has.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::duration;
use crate::postgres::TableName;
use crate::{AdapterOptions, Namespace};

/// Flags that every command has.
#[derive(Args)]
pub(super) struct Global {
    #[command(flatten)]
    pub(super) database: Database,
    #[command(flatten)]
    pub(super) options: OptionFlags,
    /// What to print: text for eyes, json (one object a line) for programs
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        env = "PGIO_OUTPUT"
    )]
    pub(super) output: Format,
    /// Print no notes and no progress, only data and errors
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Print more; twice for what the connection does, three times for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
}

#[derive(Args)]
pub(super) struct Database {
    /// The database: postgres://user:password@host:port/db?sslmode=..., or keyword=value pairs
    ///
    /// Without it: DATABASE_URL, then libpq's variables (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE,
    /// PGSSLROOTCERT, PGSERVICE, PGPASSFILE, ...). What a URL leaves out comes from those variables and ~/.pgpass.
    #[arg(long, global = true, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub(super) database_url: Option<String>,
}

/// The options of the adapter: the same for all members of a cluster.
#[derive(Args)]
#[command(next_help_heading = "Adapter options (the same on all servers of a cluster)")]
pub(super) struct OptionFlags {
    /// Prefix of the notification channels
    #[arg(
        long,
        global = true,
        default_value = "socket.io",
        value_name = "PREFIX",
        env = "PGIO_CHANNEL_PREFIX"
    )]
    pub(super) channel_prefix: String,
    /// Table for messages that hold binary or are too large; may be schema.table
    #[arg(
        long,
        global = true,
        default_value = "socket_io_attachments",
        value_name = "TABLE",
        env = "PGIO_TABLE_NAME"
    )]
    table_name: TableName,
    /// From how many bytes on a message goes through the table (at most 8000)
    #[arg(long, global = true, default_value_t = 8000, value_name = "BYTES", env = "PGIO_PAYLOAD_THRESHOLD")]
    payload_threshold: usize,
    /// How often nodes delete old rows, and how old those are
    #[arg(long, global = true, default_value = "30s", value_parser = duration::parse, value_name = "TIME", env = "PGIO_CLEANUP_INTERVAL")]
    cleanup_interval: Duration,
    /// How often nodes say that they are alive
    #[arg(long, global = true, default_value = "5s", value_parser = duration::parse, value_name = "TIME", env = "PGIO_HEARTBEAT_INTERVAL")]
    heartbeat_interval: Duration,
    /// After how long in silence a node counts as gone
    #[arg(long, global = true, default_value = "10s", value_parser = duration::parse, value_name = "TIME", env = "PGIO_HEARTBEAT_TIMEOUT")]
    heartbeat_timeout: Duration,
}

/// One namespace, or several where that makes sense.
#[derive(Args)]
pub(super) struct Namespaces {
    /// Namespace; `admin` means `/admin`. May be repeated [default: /]
    #[arg(short, long = "namespace", value_name = "NSP")]
    namespaces: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

impl Namespaces {
    /// At least one, each once.
    pub(super) fn list(&self) -> Vec<Namespace> {
        let mut list: Vec<_> = self.namespaces.iter().map(|name| Namespace::new(name)).collect();
        list.sort();
        list.dedup();
        if list.is_empty() { vec![Namespace::default()] } else { list }
    }

    /// As they were written; empty where none was named.
    pub(super) fn as_given(&self) -> &[String] {
        &self.namespaces
    }

    /// Whether any was named.
    pub(super) fn is_given(&self) -> bool {
        !self.namespaces.is_empty()
    }
}

impl Global {
    /// The adapter's options.
    pub(super) fn adapter_options(&self) -> AdapterOptions {
        let flags = &self.options;
        AdapterOptions {
            channel_prefix: flags.channel_prefix.clone(),
            table_name: flags.table_name.clone(),
            payload_threshold: flags.payload_threshold,
            cleanup_interval: flags.cleanup_interval,
            heartbeat_interval: flags.heartbeat_interval,
            heartbeat_timeout: flags.heartbeat_timeout,
            ..AdapterOptions::default()
        }
    }

    /// A note for whoever watches, on stderr.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{}", super::output::safe::line(text));
        }
    }

    /// A note that only a person at a terminal cares about.
    pub(super) fn note_on_terminal(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Something that went wrong without ending the command, on stderr.
    pub(super) fn warn(&self, text: &str) {
        anstream::eprintln!("\x1b[1;33mwarning:\x1b[0m {}", super::output::safe::line(text));
    }

    /// Starts logging to stderr, as verbose as was asked for. `RUST_LOG` has the last word.
    pub(super) fn start_log(&self, log: Log) {
        let level = match (self.verbose, log.is_on) {
            (0, false) => "off",
            (0, true) if self.quiet => "warn",
            (0, true) => "warn,pgio=info",
            (1, false) => "pgio=info",
            (1, true) => "warn,pgio=debug",
            (2, false) => "pgio=debug",
            _ => "trace",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        let log_to_stderr = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match log.format {
            Format::Text => log_to_stderr.with_ansi(std::io::stderr().is_terminal()).init(),
            Format::Json => log_to_stderr.json().init(),
        }
    }
}

/// The log of a command.
#[derive(Clone, Copy, Default)]
pub(super) struct Log {
    pub(super) format: Format,
    /// Whether there is one without being asked for.
    pub(super) is_on: bool,
}
