//! `pgio completions`: prints the completion script of a shell, for commands, flags and context names.

use std::io::Write;

use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

use super::exit::Failure;

/// The environment variable with which a shell requests completion candidates.
pub(super) const VARIABLE: &str = "PGIO_COMPLETE";

/// Print a script that lets a shell complete pgio's commands and flags
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio completions bash > ~/.local/share/bash-completion/completions/pgio
  pgio completions zsh > \"${fpath[1]}/_pgio\"
  pgio completions fish > ~/.config/fish/completions/pgio.fish
  pgio completions powershell >> $PROFILE
  pgio completions elvish >> ~/.config/elvish/rc.elv")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Elvish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Elvish => "elvish",
        }
    }
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let name = self.shell.name();
        let shells = Shells::builtins();
        let shell =
            shells.completer(name).ok_or_else(|| Failure::Other(format!("no completions for {name}")))?;
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "pgio", "pgio", "pgio", &mut script)?;
        Ok(std::io::stdout().write_all(&script)?)
    }
}
