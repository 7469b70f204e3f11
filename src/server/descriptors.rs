//! The limit of file descriptors: some are reserved, since the server needs them to reconnect to Postgres.

use tokio::net::TcpStream;

/// The number of descriptors that are reserved for everything but clients, if the limit allows it.
const RESERVE: u64 = 64;

/// Whether file descriptors are left for a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability {
    /// Enough for every connection.
    Enough,
    /// Enough for requests of operators, such as health checks, but not for a new client.
    Scarce,
    /// None: the connection is closed.
    None,
}

/// The limit of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptors {
    limit: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard one, and reads it.
    pub(super) fn raise_limit() -> Self {
        Self { limit: raised_limit().unwrap_or(u64::MAX) }
    }

    /// Whether descriptors are left. The system gives each new descriptor the lowest free number, so the number shows
    /// how many are in use.
    pub(super) fn availability(self, stream: &TcpStream) -> Availability {
        self.availability_from(number(stream))
    }

    fn availability_from(self, number: u64) -> Availability {
        let left = self.limit.saturating_sub(number);
        let reserve = RESERVE.min(self.limit / 4);
        match left {
            _ if left <= reserve / 2 => Availability::None,
            _ if left <= reserve => Availability::Scarce,
            _ => Availability::Enough,
        }
    }
}

#[cfg(unix)]
fn raised_limit() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .inspect_err(|error| tracing::warn!(%error, "cannot read the file descriptor limit"))
        .ok()?;
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, hard, "cannot raise the file descriptor limit");
        return Some(soft);
    }
    tracing::debug!(limit = hard, "file descriptor limit");
    Some(hard)
}

#[cfg(not(unix))]
fn raised_limit() -> Option<u64> {
    None
}

#[cfg(unix)]
fn number(stream: &TcpStream) -> u64 {
    use std::os::fd::AsRawFd;
    u64::try_from(stream.as_raw_fd()).unwrap_or(0)
}

#[cfg(not(unix))]
fn number(_: &TcpStream) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_kept() {
        let of = |limit, number| Descriptors { limit }.availability_from(number);
        assert_eq!(of(1024, 959), Availability::Enough);
        assert_eq!((of(1024, 960), of(1024, 991)), (Availability::Scarce, Availability::Scarce));
        assert_eq!((of(1024, 992), of(1024, 1023)), (Availability::None, Availability::None));
        assert_eq!(
            (of(200, 149), of(200, 150), of(200, 175)),
            (Availability::Enough, Availability::Scarce, Availability::None)
        );
        assert_eq!(of(u64::MAX, 1 << 20), Availability::Enough);
    }
}
