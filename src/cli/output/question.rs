//! Asking before something is destroyed.

use std::io::{self, IsTerminal};

use dialoguer::Confirm;
use dialoguer::console::Term;

use super::safe;
use crate::cli::exit::Failure;

/// Asks on a terminal whether to go on, and fails where nobody is there to ask, unless `--yes` was given. `false` is a no.
pub(in crate::cli) fn confirm(question: &str, yes: bool) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    must_be_answerable(yes)?;
    let question = safe::line(question);
    let answer = Confirm::new().with_prompt(question.as_ref()).default(false).interact_opt();
    match answer {
        Ok(answer) => Ok(answer == Some(true)),
        Err(dialoguer::Error::IO(error)) if error.kind() == io::ErrorKind::Interrupted => {
            // Ctrl-C: the question has hidden the cursor. A terminal that is gone needs none.
            let terminal = Term::stderr();
            terminal.show_cursor().and_then(|()| terminal.write_line("")).ok();
            Err(Failure::Interrupted)
        }
        Err(dialoguer::Error::IO(error)) => Err(error.into()),
    }
}

/// Fails early where nobody could answer.
pub(in crate::cli) fn must_be_answerable(yes: bool) -> Result<(), Failure> {
    match yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
        true => Ok(()),
        false => Err(Failure::Usage("nobody is there to ask whether to go on: --yes says so".into())),
    }
}
