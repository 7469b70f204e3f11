//! The end of a command: its exit status, and an error message of one line.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use super::output::notes::{self, Label};
use super::suggestion;
use crate::Error;
use crate::error::without_os_code;
use crate::postgres::{OTHER_TABLE, TableName};

/// The meaning of the exit statuses.
pub(super) const STATUSES: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Failed; stderr says why."),
    ("2", "The command line or the configuration is invalid."),
    ("3", "The database cannot be reached, or refuses the connection."),
    ("4", "Too few nodes, sockets or acknowledgements in time."),
    ("130", "Interrupted by Ctrl-C."),
];

/// The meaning of the exit statuses of a monitoring plugin.
pub(super) const PLUGIN_STATUSES: &[(&str, &str)] = &[
    ("0", "Ok: the event arrived in less time than --warn."),
    ("1", "Warning: it took --warn or longer."),
    (
        "2",
        "Critical: it took --critical or longer, did not arrive, or the database or the server cannot be reached. Also a usage error.",
    ),
    ("3", "Unknown: the database or the server refuses the probe, or a file cannot be read."),
    ("130", "Interrupted by Ctrl-C."),
];

/// The failure of a command.
#[derive(Debug)]
pub(super) enum Failure {
    /// An error of the library.
    Library(Error),
    /// An invalid command line.
    Usage(String),
    /// Too few nodes, sockets or acknowledgements in time.
    TooFew(String),
    /// The exit status of a command that has printed its result on stdout. There is no message.
    Told(u8),
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The reader of the output has closed the pipe.
    PipeClosed,
    /// Any other failure.
    Other(String),
    /// A failure with a hint.
    Advised { cause: Box<Failure>, hint: String },
    /// A failure with a summary of the work before it.
    After { done: String, cause: Box<Failure> },
}

impl Failure {
    /// Adds a summary of the work before the failure.
    pub(super) fn after(self, done: String) -> Self {
        match self {
            Self::PipeClosed => self,
            cause => Self::After { done, cause: Box::new(cause) },
        }
    }

    /// Adds how many namespaces had been sent to before the failure, if there are several.
    pub(super) fn after_namespaces(self, done: usize, count: usize) -> Self {
        if count > 1 { self.after(format!("{done} of {count} namespaces sent")) } else { self }
    }

    /// Adds a hint.
    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self::Advised { cause: Box::new(self), hint: hint.into() }
    }

    /// Adds the place in the input: `--room: ...`, `line 3: ...`.
    pub(super) fn at(self, place: &str) -> Self {
        match self {
            Self::Usage(text) => Self::Usage(format!("{place}: {text}")),
            Self::Other(text) => Self::Other(format!("{place}: {text}")),
            Self::Library(error) if status(&error) == 1 => Self::Other(format!("{place}: {error}")),
            Self::Advised { cause, hint } => cause.at(place).with_hint(hint),
            other => other,
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::Library(error) => status(error),
            Self::Usage(_) => 2,
            Self::TooFew(_) => 4,
            Self::Told(status) => *status,
            Self::Interrupted => 130,
            Self::PipeClosed => 0,
            Self::Other(_) => 1,
            Self::Advised { cause, .. } | Self::After { cause, .. } => cause.status(),
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Library(error) => Some(error.to_string()),
            Self::Usage(text) | Self::TooFew(text) | Self::Other(text) => Some(text.clone()),
            Self::Advised { cause, .. } => cause.text(),
            Self::Told(_) | Self::Interrupted | Self::PipeClosed => None,
            Self::After { done, cause } => match cause.text() {
                Some(text) => Some(format!("{text} ({done})")),
                None => Some(format!("interrupted ({done})")),
            },
        }
    }

    /// Whether Postgres is unreachable.
    pub(super) fn is_disconnected(&self) -> bool {
        match self {
            Self::Library(error) => error.is_disconnected(),
            Self::Advised { cause, .. } | Self::After { cause, .. } => cause.is_disconnected(),
            _ => false,
        }
    }

    /// Whether the connection was lost, so that the outcome is not known.
    pub(super) fn is_connection_lost(&self) -> bool {
        match self {
            Self::Library(error) => matches!(error, Error::ConnectionLost(_)),
            Self::Advised { cause, .. } | Self::After { cause, .. } => cause.is_connection_lost(),
            _ => false,
        }
    }

    /// Whether a retry may succeed later.
    pub(super) fn is_transient(&self) -> bool {
        self.is_disconnected() || matches!(self, Self::TooFew(_))
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Library(Error::NoDatabase) => {
                Some("set --database-url, DATABASE_URL, or libpq's variables (PGHOST, PGSERVICE, ...), or start pgio serve, which runs a Postgres".into())
            }
            Self::Library(Error::Refused { reason, .. })
                if reason.contains("server does not support TLS") =>
            {
                Some("sslmode=prefer connects without TLS".into())
            }
            Self::Library(Error::Refused { reason, .. }) if reason.contains("none is set") => {
                Some("set it in ~/.pgpass, PGPASSWORD, or the URL".into())
            }
            Self::Library(Error::NotificationsNotDelivered) => Some("pgio doctor finds the cause".into()),
            Self::Library(Error::MissingTable { table }) => Some(create_table(table)),
            Self::Library(Error::TableShape { remedy, .. }) if remedy == OTHER_TABLE => {
                Some(table_remedy(remedy).into())
            }
            Self::Library(Error::TableShape { remedy, .. }) => Some(format!("as its owner: {remedy}")),
            Self::Library(Error::TableLocked { pid, .. }) => Some(match pid {
                Some(pid) => {
                    format!("pg_stat_activity shows what it does; SELECT pg_terminate_backend({pid}) ends it")
                }
                None => "retry; pg_locks shows which session holds the lock".into(),
            }),
            Self::Library(Error::TableDefinition { .. }) => {
                Some("run this as the owner of the table, or as a role with CREATE on its schema, which has to exist".into())
            }
            Self::Library(Error::TablePrivilege { table, .. }) => {
                let command = "pgio attachments grants --role ROLE --for emitter|observer|node";
                Some(format!("{} prints the statements", for_table(command, table)))
            }
            Self::Library(Error::Namespace { namespace, .. }) if !namespace.contains('\0') => {
                Some("use a shorter namespace, or a shorter --channel-prefix on all servers".into())
            }
            Self::Advised { hint, .. } => Some(hint.clone()),
            Self::After { cause, .. } => cause.hint(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text().as_deref().unwrap_or("interrupted"))
    }
}

/// The command that creates an attachment table with this name.
pub(super) fn create_table(table: &str) -> String {
    for_table("pgio attachments init", table)
}

/// The command, with `--table-name` unless the table has the default name.
fn for_table(command: &str, table: &str) -> String {
    if table == TableName::default().as_sql() {
        return command.into();
    }
    let quoted = table.contains(|c: char| !c.is_alphanumeric() && !['_', '.'].contains(&c));
    let table = if quoted { format!("'{}'", table.replace('\'', r"'\''")) } else { table.to_owned() };
    format!("{command} --table-name {table}")
}

/// The remedy for the attachment table. Names the flag instead of the option of the library.
pub(super) fn table_remedy(remedy: &str) -> &str {
    if remedy == OTHER_TABLE {
        "undo that if it is the table of the servers, else choose another --table-name for all of them"
    } else {
        remedy
    }
}

fn status(error: &Error) -> u8 {
    match error {
        Error::Setting { .. } => 2,
        Error::NoDatabase
        | Error::Connect { .. }
        | Error::Refused { .. }
        | Error::ConnectionLost(_)
        | Error::NotificationsNotDelivered => 3,
        Error::File { .. } => 2,
        _ => 1,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

impl Failure {
    /// A failure to read or write a file.
    pub(super) fn file(path: impl AsRef<Path>, error: &io::Error) -> Self {
        Self::Other(format!("{}: {}", path.as_ref().display(), without_os_code(error)))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Other(without_os_code(&error)),
        }
    }
}

/// Prints a message of clap: help and version on stdout, or a usage error on stderr, as one line and a hint.
pub(super) fn usage(message: &clap::Error, command: fn() -> clap::Command) -> ExitCode {
    if !message.use_stderr()
        || message.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        // With stdout closed, the error cannot be reported.
        let _ = message.print();
        return ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(2));
    }
    let (error, tip) = error_and_tip(&message.to_string());
    notes::labelled(Label::Error, &error);
    let hint = match suggestion::is_about_a_name(message) {
        true => suggestion::of(message, &command(), std::env::args_os().skip(1)),
        false => tip,
    };
    notes::labelled(Label::Hint, hint.as_deref().unwrap_or("--help lists the commands and flags"));
    ExitCode::from(2)
}

/// The error message of clap, in one line.
pub(super) fn in_short(message: &clap::Error) -> String {
    error_and_tip(&message.to_string()).0
}

/// Prints an error of the configuration.
pub(super) fn misconfigured(text: &str) -> ExitCode {
    notes::labelled(Label::Error, text);
    ExitCode::from(2)
}

/// Plain words for the errors of Rust's parsers of numbers.
const PLAIN: [(&str, &str); 4] = [
    ("invalid digit found in string", "not a whole number"),
    ("cannot parse integer from empty string", "not a whole number"),
    ("number too large to fit in target type", "the number is too large"),
    ("number too small to fit in target type", "the number is too small"),
];

/// The first paragraph of clap's text on one line, and its tip.
fn error_and_tip(text: &str) -> (String, Option<String>) {
    let mut paragraphs = text.split("\n\n");
    let one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let error = one_line(paragraphs.next().unwrap_or_default().trim_start_matches("error:"));
    let error = PLAIN.iter().fold(error, |error, (of_rust, plain)| error.replace(of_rust, plain));
    let tip = paragraphs.find_map(|paragraph| paragraph.trim_start().strip_prefix("tip:"));
    (error, tip.map(|tip| one_line(tip.split("\n  tip:").next().unwrap_or(tip))))
}

/// Prints the failure, and returns the exit status.
pub(super) fn report(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    if let Some(text) = failure.text() {
        notes::labelled(Label::Error, &text);
    }
    if let Some(hint) = failure.hint() {
        notes::labelled(Label::Hint, &hint);
    }
    ExitCode::from(failure.status())
}

/// Runs work that needs no cleanup at Ctrl-C.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        () = interrupted() => Err(Failure::Interrupted),
    }
}

/// Resolves at Ctrl-C.
pub(super) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends the program anyway.
        std::future::pending::<()>().await;
    }
    if io::stderr().is_terminal() {
        // Leaves the terminal's `^C` on a line of its own.
        notes::end_line();
    }
}

/// Resolves on a termination signal other than Ctrl-C, for code that has to restore the terminal first.
#[cfg(unix)]
pub(super) async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
        (Ok(mut terminate), Ok(mut hang_up)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        }
        // Without handlers these signals end the program anyway.
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
pub(super) async fn told_to_end() {
    std::future::pending().await
}
