//! The confirmation before a command that cannot be undone.

use std::io::{self, IsTerminal};

use clap::Args;
use dialoguer::Confirm;
use dialoguer::console::Term;
use dialoguer::theme::ColorfulTheme;

use super::exit::{self, Failure};
use super::output::{notes, safe};

/// The flag that skips the confirmation.
#[derive(Args)]
pub(super) struct Consent {
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// Asks for confirmation on a terminal; without a terminal, `yes` is required. Example of `question`: `disconnect all
/// sockets of /`.
pub(super) async fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    ensure_confirmable(question, yes)?;
    if yes {
        return Ok(());
    }
    let prompt = capitalised(&safe::line(question));
    // A blocking read of a key cannot be cancelled, so the guard restores the terminal after a signal.
    let _terminal_guard = TerminalGuard::save();
    // A separate thread waits for the key, so no other task is blocked.
    let asked = tokio::task::spawn_blocking(move || {
        Confirm::with_theme(&ColorfulTheme::default())
            .with_prompt(prompt)
            .default(false)
            .wait_for_newline(true)
            .interact_on_opt(&Term::stderr())
    });
    let answer = tokio::select! {
        answer = asked => answer.map_err(|error| Failure::Other(error.to_string()))?,
        // Once the program has listened for a signal, the default handler no longer ends the program on Ctrl-C.
        () = exit::interrupted() => return Err(Failure::Interrupted),
        () = exit::told_to_end() => {
            // The cursor is still on the line of the question.
            notes::end_line();
            return Err(Failure::Interrupted);
        }
    };
    match answer {
        Ok(Some(true)) => Ok(()),
        Ok(Some(false) | None) => Err(Failure::Other("cancelled; nothing was changed".into())),
        Err(dialoguer::Error::IO(error)) if error.kind() == io::ErrorKind::Interrupted => {
            // The cursor is still on the line of the question.
            notes::end_line();
            Err(Failure::Interrupted)
        }
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}

/// Fails if there is no terminal to confirm on. A command calls this before the work that precedes its question.
pub(super) fn ensure_confirmable(question: &str, yes: bool) -> Result<(), Failure> {
    match yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
        true => Ok(()),
        false => Err(Failure::Usage(format!("{question}? Without a terminal to confirm on, pass --yes"))),
    }
}

/// Restores the terminal settings when it is dropped.
struct TerminalGuard {
    #[cfg(unix)]
    settings: Option<nix::sys::termios::Termios>,
}

impl TerminalGuard {
    fn save() -> Self {
        Self {
            #[cfg(unix)]
            settings: nix::sys::termios::tcgetattr(io::stdin()).ok(),
        }
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        // An error means that there is no terminal to restore.
        Term::stderr().show_cursor().ok();
        #[cfg(unix)]
        if let Some(settings) = &self.settings {
            use nix::sys::termios::{SetArg, tcsetattr};
            tcsetattr(io::stdin(), SetArg::TCSADRAIN, settings).ok();
        }
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
