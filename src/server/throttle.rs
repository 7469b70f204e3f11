//! Limits repeated log messages.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the same reason may be logged.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many reasons are remembered.
const REASONS: usize = 64;

/// Lets each reason pass once in an interval, and counts how often it was held back.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<String, Reason>>);

struct Reason {
    passed: Instant,
    held_back: u64,
}

impl Throttle {
    /// Whether this reason may be logged now: `Some`, with how often it was held back since it was logged last.
    pub(super) fn pass(&self, reason: &str) -> Option<u64> {
        self.pass_at(Instant::now(), reason)
    }

    fn pass_at(&self, now: Instant, reason: &str) -> Option<u64> {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reasons.get_mut(reason) {
            Some(known) if now.duration_since(known.passed) < INTERVAL => {
                known.held_back += 1;
                None
            }
            Some(known) => {
                known.passed = now;
                Some(std::mem::take(&mut known.held_back))
            }
            None => {
                if reasons.len() >= REASONS {
                    reasons.clear();
                }
                reasons.insert(reason.to_owned(), Reason { passed: now, held_back: 0 });
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
        assert_eq!(throttle.pass_at(start, "a"), Some(0));
        assert_eq!(throttle.pass_at(start, "a"), None);
        assert_eq!(throttle.pass_at(start, "b"), Some(0));
        assert_eq!(throttle.pass_at(start + INTERVAL, "a"), Some(1));
        assert_eq!(throttle.pass_at(start + INTERVAL, "a"), None);
    }
}
