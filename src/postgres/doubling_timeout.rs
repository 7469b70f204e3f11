//! A timeout that doubles each time it passes (back-off), for work that starts over if it is given up.
//!
//! With a fixed timeout, work that takes longer is started again and again, and never ends.

use std::time::Duration;

/// The timeout of the next attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DoublingTimeout {
    shortest: Duration,
    longest: Duration,
    current: Duration,
}

impl DoublingTimeout {
    /// A timeout that begins with `shortest`.
    pub(crate) const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, current: shortest }
    }

    /// The timeout of an attempt that begins now.
    pub(crate) fn current(&self) -> Duration {
        self.current
    }

    /// An attempt with that timeout has not ended in time. Attempts that began together double the timeout once.
    pub(crate) fn on_timeout(&mut self, of_attempt: Duration) {
        if of_attempt >= self.current {
            self.current = self.longest.min(self.current * 2);
        }
    }

    /// An attempt has ended in time.
    pub(crate) fn on_success(&mut self) {
        self.current = self.shortest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_doubles_until_an_attempt_ends_in_time() {
        let mut timeout = DoublingTimeout::new(seconds(5), seconds(60));
        for expected in [5, 10, 20, 40, 60, 60] {
            assert_eq!(timeout.current(), seconds(expected));
            timeout.on_timeout(timeout.current());
        }
        timeout.on_success();
        assert_eq!(timeout.current(), seconds(5));
    }

    #[test]
    fn attempts_that_began_together_double_it_once() {
        let mut timeout = DoublingTimeout::new(seconds(5), seconds(60));
        for _ in 0..4 {
            timeout.on_timeout(seconds(5));
        }
        assert_eq!(timeout.current(), seconds(10));
    }
}
