//! Asking before something that cannot be undone.

use std::io::{self, IsTerminal};

use dialoguer::Confirm;
use dialoguer::console::Term;
use dialoguer::theme::ColorfulTheme;

use super::exit::Failure;
use super::output::safe;

/// Asks on a terminal; without one only `yes` will do. `question` is `disconnect all sockets of /`.
pub(super) async fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::Usage(format!("{question}? Without a terminal to ask on this needs --yes")));
    }
    let prompt = capitalised(&safe::line(question));
    // Waits for a key, which no other task should have to wait for as well.
    let asked = tokio::task::spawn_blocking(move || {
        let answer = Confirm::with_theme(&ColorfulTheme::default())
            .with_prompt(prompt)
            .default(false)
            .wait_for_newline(true)
            .interact_on_opt(&Term::stderr());
        // An interrupted question leaves it hidden.
        Term::stderr().show_cursor().ok();
        answer
    });
    match asked.await {
        Ok(Ok(Some(true))) => Ok(()),
        Ok(Ok(Some(false) | None)) => Err(Failure::Other("nothing was done".into())),
        Ok(Err(dialoguer::Error::IO(error))) if error.kind() == io::ErrorKind::Interrupted => {
            // The question is still on the line.
            eprintln!();
            Err(Failure::Interrupted)
        }
        Ok(Err(error)) => Err(Failure::Other(error.to_string())),
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
