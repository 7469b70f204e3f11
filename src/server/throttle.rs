//! Limits repeated log messages.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The minimum interval between two messages with the same reason.
const INTERVAL: Duration = Duration::from_secs(10);

/// The maximum number of reasons.
const REASONS: usize = 64;

/// Allows each reason once per interval, and counts the suppressed messages.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<String, Reason>>);

struct Reason {
    last_logged: Instant,
    suppressed: u64,
}

impl Throttle {
    /// Whether this reason may be logged now: `Some` with the number of messages that were suppressed since the last one.
    pub(super) fn allow(&self, reason: &str) -> Option<u64> {
        self.allow_at(Instant::now(), reason)
    }

    fn allow_at(&self, now: Instant, reason: &str) -> Option<u64> {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reasons.get_mut(reason) {
            Some(known) if now.duration_since(known.last_logged) < INTERVAL => {
                known.suppressed += 1;
                None
            }
            Some(known) => {
                known.last_logged = now;
                Some(std::mem::take(&mut known.suppressed))
            }
            None => {
                if reasons.len() >= REASONS {
                    reasons.clear();
                }
                reasons.insert(reason.to_owned(), Reason { last_logged: now, suppressed: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_passes_once_in_an_interval() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.allow_at(start, "a"), Some(0));
        assert_eq!(throttle.allow_at(start, "a"), None);
        assert_eq!(throttle.allow_at(start, "b"), Some(0));
        assert_eq!(throttle.allow_at(start + INTERVAL, "a"), Some(1));
        assert_eq!(throttle.allow_at(start + INTERVAL, "a"), None);
    }
}
