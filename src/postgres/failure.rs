//! What an error of the driver means, in one line.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::SqlState;

use crate::Error;
use crate::error::in_words;

/// What a failed statement, or a connection that broke, means.
pub(crate) fn failure(error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(db) if ends_connection(db.code()) => Error::ConnectionLost(one_line(db.message())),
        Some(db) => Error::Database(one_line(db.message())),
        None => Error::ConnectionLost(reason(error)),
    }
}

/// Why a connection could not be had.
pub(super) enum Denial {
    /// Nobody answers, or nobody yet: later it may be different.
    Away(String),
    /// This server will not do, another one may.
    Unsuitable(String),
    /// The server has looked at who we are, and said no.
    Refused {
        reason: String,
        /// Not for what we said, but for how: the server's rules may want TLS, or none.
        by_rule: bool,
    },
}

impl Denial {
    /// What the driver's error means.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) if is_passing(db.code()) => Self::Away(one_line(db.message())),
            Some(db) => Self::Refused {
                reason: one_line(db.message()),
                by_rule: *db.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            },
            None if io_error(error).is_some() => Self::Away(reason(error)),
            None => Self::Unsuitable(reason(error)),
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Away(reason) | Self::Unsuitable(reason) | Self::Refused { reason, .. } => reason,
        }
    }
}

/// Codes with which a server ends a connection that was good. Source: PostgreSQL's appendix "Error Codes".
fn ends_connection(code: &SqlState) -> bool {
    let ends = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    code.code().starts_with("08") || ends.contains(code)
}

/// Codes of a server that may take the same connection later.
fn is_passing(code: &SqlState) -> bool {
    ends_connection(code) || *code == SqlState::TOO_MANY_CONNECTIONS
}

/// The innermost cause, without the numbers that only say it again.
fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(error) = io_error(error) {
        return of_io(error);
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
        if cause.is::<native_tls::Error>() {
            // What is inside it no longer says why a certificate is refused.
            break;
        }
    }
    match cause.to_string().as_str() {
        "password missing" => "the server asks for a password, and none is set".into(),
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
            let text = one_line(&in_words(error));
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
