//! Asking before something that cannot be undone.

use std::io::{self, IsTerminal};

use clap::Args;
use dialoguer::Confirm;
use dialoguer::console::Term;
use dialoguer::theme::ColorfulTheme;

use super::exit::{self, Failure};
use super::output::{notes, safe};

/// The answer to the question, given in advance.
#[derive(Args)]
pub(super) struct Consent {
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// Asks on a terminal; without one only `yes` will do. `question` is `disconnect all sockets of /`.
pub(super) async fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    must_be_answerable(question, yes)?;
    if yes {
        return Ok(());
    }
    let prompt = capitalised(&safe::line(question));
    // Whoever waits for a key cannot be stopped; the terminal must not stay as it is while waiting.
    let _as_it_was = AsItWas::note();
    // Waits for a key, which no other task should have to wait for as well.
    let asked = tokio::task::spawn_blocking(move || {
        Confirm::with_theme(&ColorfulTheme::default())
            .with_prompt(prompt)
            .default(false)
            .wait_for_newline(true)
            .interact_on_opt(&Term::stderr())
    });
    let answer = tokio::select! {
        answer = asked => answer.map_err(|error| Failure::Other(error.to_string()))?,
        // Not the key but the signal, which nobody else takes once the program has waited for one.
        () = exit::interrupted() => return Err(Failure::Interrupted),
        () = exit::told_to_end() => {
            // The question is still on the line.
            notes::end_line();
            return Err(Failure::Interrupted);
        }
    };
    match answer {
        Ok(Some(true)) => Ok(()),
        Ok(Some(false) | None) => Err(Failure::Other("nothing was done".into())),
        Err(dialoguer::Error::IO(error)) if error.kind() == io::ErrorKind::Interrupted => {
            // The question is still on the line.
            notes::end_line();
            Err(Failure::Interrupted)
        }
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}

/// Fails where nobody could answer: for who has to work before the question can be asked in full.
pub(super) fn must_be_answerable(question: &str, yes: bool) -> Result<(), Failure> {
    match yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
        true => Ok(()),
        false => Err(Failure::Usage(format!("{question}? Without a terminal to ask on this needs --yes"))),
    }
}

/// Gives the terminal back as it was, when it is dropped.
struct AsItWas {
    #[cfg(unix)]
    settings: Option<nix::sys::termios::Termios>,
}

impl AsItWas {
    fn note() -> Self {
        Self {
            #[cfg(unix)]
            settings: nix::sys::termios::tcgetattr(io::stdin()).ok(),
        }
    }
}

impl Drop for AsItWas {
    fn drop(&mut self) {
        // With the terminal gone there is nothing to give back.
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
