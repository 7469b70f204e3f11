//! The rate limit for the events of a client.

use std::time::Instant;

/// The burst, in seconds of the rate.
const BURST_SECONDS: f64 = 5.0;

/// The rate limits of each client.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateLimits {
    pub(super) events: Rate,
    pub(super) bytes: Rate,
}

/// A rate with its burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    per_second: f64,
    burst: f64,
}

impl Rate {
    /// `least_burst` is the minimum burst.
    pub(super) fn new(per_second: u64, least_burst: u64) -> Self {
        let per_second = per_second as f64;
        Self { per_second, burst: (per_second * BURST_SECONDS).max(least_burst as f64) }
    }
}

/// Whether a client is within its rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RateStatus {
    /// Within the limit.
    Within,
    /// Above the limit: the event is refused.
    Exceeded,
    /// Above twice the burst, although its events are refused: the client is disconnected.
    Flooding,
}

/// A leaky bucket: the amount that a client has emitted above its rate.
#[derive(Debug, Default)]
pub(super) struct Meter {
    level: f64,
    since: Option<Instant>,
}

impl Meter {
    /// Adds an amount that a client emits. Refused events count as well.
    pub(super) fn add(&mut self, now: Instant, amount: f64, rate: Rate) -> RateStatus {
        let elapsed = self.since.map_or(0.0, |since| now.duration_since(since).as_secs_f64());
        self.since = Some(now);
        self.level = (self.level - elapsed * rate.per_second).max(0.0) + amount;
        match self.level {
            level if level <= rate.burst => RateStatus::Within,
            level if level <= 2.0 * rate.burst => RateStatus::Exceeded,
            _ => RateStatus::Flooding,
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
        assert!(paces(Duration::ZERO, 50).iter().all(|pace| *pace == RateStatus::Within));
        assert!(paces(Duration::ZERO, 50).iter().all(|pace| *pace == RateStatus::Exceeded));
        assert_eq!(paces(Duration::ZERO, 1), [RateStatus::Flooding]);
        assert_eq!(paces(Duration::from_secs(6), 1), [RateStatus::Within]);
        assert_eq!(Meter::default().add(start, 1e6, Rate::new(1, 1_000_000)), RateStatus::Within);
    }
}
