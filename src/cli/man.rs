//! `pgio man`: prints or writes the manual pages.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use roff::{Roff, bold, roman};

use super::Cli;
use super::exit::{self, Failure};

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
