//! Suggestions for a misspelt flag or command. A wrong suggestion is worse than none. So only names that differ by a
//! few letters count.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use strsim::damerau_levenshtein;

/// Whether the error is about a flag or a command that does not exist.
pub(super) fn is_about_a_name(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand)
}

/// A hint for such an error. `arguments` are those of the command line, which name the subcommand.
pub(super) fn of(
    error: &clap::Error,
    command: &Command,
    arguments: impl Iterator<Item = OsString>,
) -> Option<String> {
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        _ => ContextKind::InvalidArg,
    };
    let Some(ContextValue::String(name)) = error.get(kind) else { return None };
    let chosen = arguments.fold(command, |command, argument| {
        argument.to_str().and_then(|name| command.find_subcommand(name)).unwrap_or(command)
    });
    match name.strip_prefix("--") {
        Some(flag) => {
            let flag = flag.split('=').next().unwrap_or(flag);
            let flags =
                chosen.get_arguments().chain(command.get_arguments()).filter_map(|arg| arg.get_long());
            nearest(flag, flags).map(|flag| format!("did you mean --{flag}?"))
        }
        None if kind == ContextKind::InvalidSubcommand => {
            let names = chosen.get_subcommands().map(Command::get_name);
            nearest(name, names).map(|name| format!("did you mean {name}?"))
        }
        None => None,
    }
}

/// The candidate that differs by the fewest letters, if these are at most a third of the name.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;
    use crate::cli::complete_command_line;

    fn hint(arguments: &[&str]) -> Option<String> {
        let command = complete_command_line();
        let error = command.clone().try_get_matches_from(["pgio"].iter().chain(arguments)).unwrap_err();
        assert!(is_about_a_name(&error), "{error}");
        of(&error, &command, arguments.iter().map(OsString::from))
    }

    #[test]
    fn names_that_differ_by_a_few_letters_are_suggested() {
        assert_eq!(hint(&["emit", "--romm", "r1", "x"]).as_deref(), Some("did you mean --room?"));
        assert_eq!(hint(&["tail", "--heartbeat"]).as_deref(), Some("did you mean --heartbeats?"));
        assert_eq!(hint(&["tail", "--databse-url=x"]).as_deref(), Some("did you mean --database-url?"));
        assert_eq!(hint(&["attachments", "lsit"]).as_deref(), Some("did you mean list?"));
        assert_eq!(hint(&["docter"]).as_deref(), Some("did you mean doctor?"));
    }

    #[test]
    fn others_are_not() {
        assert_eq!(hint(&["watch"]), None);
        assert_eq!(hint(&["nodes", "--since", "1h"]), None);
        assert_eq!(hint(&["emit", "-Q", "x"]), None);
    }

    #[test]
    fn the_nearest_comes_first() {
        let command = Command::new("x").arg(Arg::new("a").long("rate")).arg(Arg::new("b").long("rates"));
        let flags = || command.get_arguments().filter_map(Arg::get_long);
        assert_eq!(nearest("rates", flags()), Some("rates"));
        assert_eq!(nearest("raet", flags()), Some("rate"));
    }
}
