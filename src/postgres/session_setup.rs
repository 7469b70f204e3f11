//! Overrides timeouts of the role or the database that would end an idle session.
//!
//! Each statement is sent after the handshake, together with the first statement of the caller. No task waits for its
//! response, so it costs no round trip. A startup option would cost none either, but PgBouncer refuses it.

use futures_util::FutureExt;
use tokio_postgres::Client;

use super::connect::PgConnection;

/// The first major version with `idle_session_timeout` and `client_connection_check_interval`.
const HAS_IDLE_SESSION_TIMEOUT: u32 = 14;

/// Sets up any session. Behind a pooler in transaction mode the setting stays with the pooled session, which then does not
/// end while it is idle in the pool.
pub(super) fn set_up(client: &Client, connection: &PgConnection) {
    let major = connection.parameter("server_version").and_then(major);
    if major.is_some_and(|major| major >= HAS_IDLE_SESSION_TIMEOUT) {
        send(client, "SET idle_session_timeout = 0");
        // Otherwise a session that waits for a lock stays after its client has given up.
        send(client, "SET client_connection_check_interval = '2s'");
    }
}

/// Sets up a listening session. `LISTEN` scans the whole notification queue, which may take longer than the role's
/// `statement_timeout`.
pub(super) fn set_up_listening(client: &Client) {
    send(client, "SET statement_timeout = 0");
}

/// Sends a statement without waiting for its answer. A failure changes nothing for the caller; the server logs it. A
/// task that waits for the answer would make a short-lived command measurably slower.
fn send(client: &Client, statement: &'static str) {
    // The driver sends the request before it waits for anything.
    if client.simple_query_raw(statement).now_or_never().is_none_or(|sent| sent.is_err()) {
        tracing::debug!(statement, "the session's connection is closed");
    }
}

/// The number in front of `15.18 (Debian 15.18-0+deb12u1)` or `18beta1`.
fn major(version: &str) -> Option<u32> {
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions() {
        for (version, expected) in [
            ("15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("9.6.24", Some(9)),
            ("18beta1", Some(18)),
            ("1.20/bouncer", Some(1)),
            ("", None),
            ("unknown", None),
        ] {
            assert_eq!(major(version), expected, "{version}");
        }
    }
}
