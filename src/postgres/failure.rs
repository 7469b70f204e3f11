//! Classifies errors of the driver (transient or permanent), and describes them in one line.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::Error;
use crate::error::{Cause, without_os_code};

/// Classifies the error of a statement or of a connection.
pub(crate) fn failure(error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(db) if ends_connection(db) => Error::ConnectionLost(one_line(db.message())),
        Some(db) => Error::Database {
            message: one_line(db.message()),
            sqlstate: Some(db.code().code().to_owned()),
            source: Some(Cause::new(db.clone())),
        },
        None => Error::ConnectionLost(reason(error)),
    }
}

/// Why an attempt to connect failed.
pub(super) struct ConnectFailure {
    pub verdict: Verdict,
    /// One line: the message of the server, if it answered.
    pub reason: String,
    pub sqlstate: Option<String>,
    pub source: Option<Cause>,
}

/// What a failed attempt to connect means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same attempt may succeed later.
    Transient,
    /// This server does not fit; another one may.
    Unsuitable,
    /// The server has refused this user, password or database.
    Refused {
        /// Whether a rule in `pg_hba.conf` refused it. The rule may require TLS, or plain text.
        by_rule: bool,
    },
}

impl ConnectFailure {
    /// A transient failure on the side of the client.
    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Transient, reason: reason.into(), sqlstate: None, source: None }
    }

    /// Whether the server has refused this user, password or database.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.verdict, Verdict::Refused { .. })
    }
}

impl From<tokio_postgres::Error> for ConnectFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        let (verdict, reason) = match error.as_db_error() {
            Some(db) if is_transient(db.code()) => (Verdict::Transient, one_line(db.message())),
            Some(db) => {
                let by_rule = *db.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION;
                (Verdict::Refused { by_rule }, one_line(db.message()))
            }
            None if error.is_closed() => (Verdict::Transient, "the server closed the connection".into()),
            None if io_error(&error).is_some() => (Verdict::Transient, reason(&error)),
            None => (Verdict::Unsuitable, reason(&error)),
        };
        let sqlstate = error.code().map(|code| code.code().to_owned());
        Self { verdict, reason, sqlstate, source: Some(Cause::new(error)) }
    }
}

/// Whether the server has ended a working connection.
fn ends_connection(error: &DbError) -> bool {
    let is_fatal = matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    is_fatal || announces_end(error.code())
}

/// The codes of a server that shuts down or starts up. Source: PostgreSQL's appendix "Error Codes".
fn announces_end(code: &SqlState) -> bool {
    let ends = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    code.code().starts_with("08") || ends.contains(code)
}

/// The codes of a server that may accept the same connection later.
fn is_transient(code: &SqlState) -> bool {
    announces_end(code) || *code == SqlState::TOO_MANY_CONNECTIONS
}

/// The innermost cause, without redundant error numbers.
fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(error) = io_error(error) {
        return of_io(error);
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
        if cause.is::<native_tls::Error>() {
            // Its inner errors no longer contain the reason for a refused certificate.
            break;
        }
    }
    match cause.to_string().as_str() {
        "password missing" => "the server requires a password, and none is set".into(),
        text => of_openssl(&one_line(text)),
    }
}

/// OpenSSL says `error:0A000086:SSL routines:function:certificate verify failed:file.c:1889: (self-signed certificate)`.
fn of_openssl(text: &str) -> String {
    let Some(rest) = text.strip_prefix("error:") else { return text.to_owned() };
    let what = rest.split(':').nth(3).unwrap_or(rest);
    match text.rsplit_once('(').map(|(_, why)| why.trim_end_matches(')')) {
        Some(why) => format!("TLS: {what}: {why}"),
        None => format!("TLS: {what}"),
    }
}

fn io_error(error: &tokio_postgres::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return Some(error);
        }
        cause = inner.source();
    }
    None
}

fn of_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset by the server".into(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        io::ErrorKind::NotFound => "no such socket".into(),
        io::ErrorKind::TimedOut => "no answer in time".into(),
        _ => {
            let text = one_line(&without_os_code(error));
            match text.strip_prefix("failed to lookup address information: ") {
                Some(why) => format!("unknown host: {}", why.to_lowercase()),
                None => text,
            }
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
