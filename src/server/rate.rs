//! The rate limit for the events of a client.

use std::time::Instant;

/// For how many seconds a client may save its rate up, so that a burst passes.
const BURST_SECONDS: f64 = 5.0;

/// What each client may emit.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateLimits {
    pub(super) events: Rate,
    pub(super) bytes: Rate,
}

/// A rate, and how much of it may come at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    per_second: f64,
    burst: f64,
}

impl Rate {
    /// `least_burst` may always come at once.
    pub(super) fn new(per_second: u64, least_burst: u64) -> Self {
        let per_second = per_second as f64;
        Self { per_second, burst: (per_second * BURST_SECONDS).max(least_burst as f64) }
    }
}

/// Whether a client keeps to its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pace {
    /// It does.
    Kept,
    /// It does not, so what it emits is refused.
    Exceeded,
    /// It goes on emitting although it was refused as much as it may emit at once.
    Ignored,
}

/// What a client has emitted above its rate. This is the leaky bucket.
#[derive(Debug, Default)]
pub(super) struct Meter {
    level: f64,
    since: Option<Instant>,
}

impl Meter {
    /// Adds what a client emits, whether it is refused or not.
    pub(super) fn add(&mut self, now: Instant, amount: f64, rate: Rate) -> Pace {
        let elapsed = self.since.map_or(0.0, |since| now.duration_since(since).as_secs_f64());
        self.since = Some(now);
        self.level = (self.level - elapsed * rate.per_second).max(0.0) + amount;
        match self.level {
            level if level <= rate.burst => Pace::Kept,
            level if level <= 2.0 * rate.burst => Pace::Exceeded,
            _ => Pace::Ignored,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let (mut meter, start, rate) = (Meter::default(), Instant::now(), Rate::new(10, 0));
        let mut paces = |at: Duration, count: usize| {
            (0..count).map(|_| meter.add(start + at, 1.0, rate)).collect::<Vec<_>>()
        };
        assert!(paces(Duration::ZERO, 50).iter().all(|pace| *pace == Pace::Kept));
        assert!(paces(Duration::ZERO, 50).iter().all(|pace| *pace == Pace::Exceeded));
        assert_eq!(paces(Duration::ZERO, 1), [Pace::Ignored]);
        assert_eq!(paces(Duration::from_secs(6), 1), [Pace::Kept]);
        assert_eq!(Meter::default().add(start, 1e6, Rate::new(1, 1_000_000)), Pace::Kept);
    }
}
