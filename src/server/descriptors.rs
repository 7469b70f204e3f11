//! The limit of file descriptors: some are reserved, since the server needs them to reconnect to Postgres.

use tokio::net::TcpStream;

/// The number of descriptors that are reserved for everything but clients, if the limit allows it.
const RESERVE: u64 = 64;

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

    /// Whether too few descriptors are left for a new client. The system gives each new descriptor the lowest free
    /// number, so the number shows how many are in use.
    pub(super) fn are_scarce(self, stream: &TcpStream) -> bool {
        self.are_scarce_at(number(stream))
    }

    fn are_scarce_at(self, number: u64) -> bool {
        self.limit.saturating_sub(number) <= RESERVE.min(self.limit / 4)
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
        let scarce = |limit, number| Descriptors { limit }.are_scarce_at(number);
        assert!(!scarce(1024, 959) && scarce(1024, 960) && scarce(1024, 1023));
        assert!(!scarce(200, 149) && scarce(200, 150));
        assert!(!scarce(u64::MAX, 1 << 20));
    }
}
