//! `pgio man`: prints or writes the manual pages.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use roff::{Roff, bold, roman};

use super::Cli;
use super::exit::{self, Failure};

/// The environment variables of pgio. The page of pgio itself lists them.
const VARIABLES: &[(&str, &str)] = &[
    ("DATABASE_URL", "The database, as --database-url. --context and PGIO_CONTEXT override it."),
    (
        "PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, PGSERVICE, ...",
        "The variables of libpq. They complete the URL, and name the database if there is no URL.",
    ),
    ("PGIO_CONFIG", "The configuration file, as --config."),
    ("PGIO_CONTEXT", "The context of the configuration file, as --context."),
    ("PGIO_OUTPUT", "The output format, as --output."),
    (
        "PGIO_CHANNEL_PREFIX, PGIO_TABLE_NAME, PGIO_PAYLOAD_THRESHOLD, PGIO_CLEANUP_INTERVAL, \
         PGIO_HEARTBEAT_INTERVAL, PGIO_HEARTBEAT_TIMEOUT, PGIO_MAX_ATTACHMENT",
        "The adapter options, as the flags with these names.",
    ),
    (
        "PGIO_LISTEN, PGIO_ADMIN_LISTEN, PGIO_HEARTBEATS, PGIO_LOG_FORMAT",
        "Flags of pgio serve: --listen, --admin-listen, --heartbeats and --log-format.",
    ),
    (
        "PGIO_AUTH",
        "The auth object of pgio client and pgio probe, as --auth. The list of processes does not show it.",
    ),
    (
        "PGIO_STATE_DIR",
        "The directory of the private Postgres of pgio serve [default: $XDG_STATE_HOME/pgio, or \
         ~/.local/state/pgio; for root /var/lib/pgio]",
    ),
    (
        "PGIO_POSTGRES_BIN",
        "The directory with initdb and postgres, for the private Postgres [default: one on the PATH, or the \
         latest installed version]",
    ),
    (
        "RUST_LOG",
        "The filter of the log, such as warn,pgio=debug. It overrides -v. At trace it has tokens of clients.",
    ),
    ("NO_COLOR", "If it is not empty, results and messages have no colours."),
    (
        "SSL_CERT_FILE",
        "A file with certificate authorities that TLS trusts, in addition to the directories of the system.",
    ),
    ("TOKIO_WORKER_THREADS", "The number of worker threads of pgio serve [default: one for each processor]"),
];

/// Print the manual page, or write the pages of all commands into a directory
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio man | man -l -   read the manual page
  pgio man > pgio.1     the page of pgio itself
  pgio man ~/.local/share/man/man1 && man pgio-emit")]
pub(super) struct Man {
    /// The directory for pgio.1, pgio-emit.1, ...
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let command = prepared(command);
        let Some(directory) = self.directory else {
            return Ok(std::io::stdout().write_all(&page(&command)?)?);
        };
        let failed = |error: std::io::Error| Failure::file(&directory, &error);
        fs::create_dir_all(&directory).map_err(failed)?;
        write_all(&command, &directory).map_err(failed)
    }
}

/// Writes the page of a command, and those of its subcommands.
fn write_all(command: &Command, directory: &Path) -> std::io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_all(subcommand, directory)?;
    }
    fs::write(directory.join(clap_mangen::Man::new(command.clone()).get_filename()), page(command)?)
}

/// Prepares a command for its page: sets the usage of the help, and a long text for every flag.
fn prepared(mut command: Command) -> Command {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = command.override_usage(usage).mut_args(|arg| match (arg.get_long_help(), arg.get_help()) {
        (None, Some(help)) => {
            let help = help.clone();
            arg.long_help(help)
        }
        _ => arg,
    });
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, prepared))
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    let statuses = if command.get_name() == "probe" { exit::PLUGIN_STATUSES } else { exit::STATUSES };
    for (status, meaning) in statuses {
        roff.control("TP", []);
        roff.text([bold(*status)]);
        roff.text([roman(*meaning)]);
    }
    roff.control("SH", ["ENVIRONMENT"]);
    if command.get_name() == "pgio" {
        for (names, meaning) in VARIABLES {
            roff.control("TP", []);
            roff.text([bold(*names)]);
            roff.text([roman(*meaning)]);
        }
    } else {
        roff.text([bold("pgio"), roman("(1) lists the environment variables.")]);
    }
    let after_help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if let Some((_, examples)) = after_help.split_once("Examples:\n") {
        roff.control("SH", ["EXAMPLES"]);
        // `nf` prints the lines unchanged, without filling them.
        roff.control("nf", []);
        for line in examples.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    if command.get_name() != "pgio" {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([bold("pgio"), roman("(1)")]);
    }
    roff.to_writer(&mut page)?;
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_pgio_lists_the_variables_of_all_flags() {
        check(&crate::cli::complete_command_line());
    }

    fn check(command: &Command) {
        let listed: Vec<_> = VARIABLES.iter().flat_map(|(names, _)| names.split(", ")).collect();
        for variable in command.get_arguments().filter_map(clap::Arg::get_env) {
            assert!(listed.iter().any(|name| *name == variable), "{}: {variable:?}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
}
