//! `pgio man`: the manual pages.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::Cli;
use super::exit::Failure;

/// Print the manual page, or write the pages of all commands into a directory
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio man | man -l -   read it
  pgio man > pgio.1     the page of pgio itself
  pgio man ~/.local/share/man/man1 && man pgio-emit")]
pub(super) struct Man {
    /// Where to write pgio.1, pgio-emit.1, ...
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> Result<(), Failure> {
        let command = Cli::command();
        let Some(directory) = self.directory else {
            // As in the directory, whose pages do not have `pgio help`.
            let mut page = Vec::new();
            clap_mangen::Man::new(command.disable_help_subcommand(true)).render(&mut page)?;
            return Ok(std::io::stdout().write_all(&page)?);
        };
        let failed = |error: std::io::Error| Failure::file(&directory, &error);
        fs::create_dir_all(&directory).map_err(failed)?;
        clap_mangen::generate_to(command, &directory).map_err(failed)
    }
}
