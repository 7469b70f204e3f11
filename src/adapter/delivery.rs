//! The way of an event to the clients of this server: written directly, or through their queues.

use std::time::{Duration, Instant};

/// The minimum time between two events that are written directly.
const MIN_QUIET: Duration = Duration::from_micros(50);

/// This part of the duration of a direct delivery is the minimum pause before the next one.
const PAUSE: u32 = 4;

/// How an event gets to the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Each idle client gets it with a write of its own. This is the least work for a single event.
    Direct,
    /// It waits in the queues of the clients. The events of a burst reach a client with one write.
    Queued,
}

/// Chooses the delivery of the events of one namespace.
///
/// A burst must not be delivered directly: it costs less through the queues, and their tasks use all processors. So a
/// direct delivery follows only after a pause, in proportion to the time that the last one took.
#[derive(Debug, Default)]
pub(super) struct DeliveryChoice {
    /// The end of the last delivery.
    ended: Option<Instant>,
    /// The duration of the last direct delivery.
    duration: Duration,
}

impl DeliveryChoice {
    /// The delivery of an event now. `is_last` says that no other event waits.
    pub(super) fn of_event(&self, now: Instant, is_last: bool) -> Delivery {
        let pause = (self.duration / PAUSE).max(MIN_QUIET);
        let is_quiet = self.ended.is_none_or(|ended| now.saturating_duration_since(ended) >= pause);
        if is_last && is_quiet { Delivery::Direct } else { Delivery::Queued }
    }

    /// An event was delivered.
    pub(super) fn delivered(&mut self, delivery: Delivery, start: Instant, end: Instant) {
        self.ended = Some(end);
        if delivery == Delivery::Direct {
            self.duration = end.saturating_duration_since(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_events_are_written_directly_and_bursts_are_queued() {
        let micros = Duration::from_micros;
        let mut choice = DeliveryChoice::default();
        let start = Instant::now();
        assert_eq!(choice.of_event(start, false), Delivery::Queued);
        assert_eq!(choice.of_event(start, true), Delivery::Direct);
        // One client: an event may follow soon.
        choice.delivered(Delivery::Direct, start, start + micros(10));
        assert_eq!(choice.of_event(start + micros(59), true), Delivery::Queued);
        assert_eq!(choice.of_event(start + micros(60), true), Delivery::Direct);
        // Many clients: the pause is a part of the time that the delivery took.
        choice.delivered(Delivery::Direct, start, start + micros(1000));
        assert_eq!(choice.of_event(start + micros(1249), true), Delivery::Queued);
        assert_eq!(choice.of_event(start + micros(1250), true), Delivery::Direct);
        // A queued event starts the pause again.
        choice.delivered(Delivery::Queued, start + micros(1249), start + micros(1251));
        assert_eq!(choice.of_event(start + micros(1500), true), Delivery::Queued);
        assert_eq!(choice.of_event(start + micros(1501), true), Delivery::Direct);
    }
}
