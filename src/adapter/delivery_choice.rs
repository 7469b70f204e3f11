//! The way of events to the clients of this server: written directly, or through their queues.

use std::time::{Duration, Instant};

/// The minimum time between a delivery and another one of few events that is direct.
const MIN_QUIET: Duration = Duration::from_micros(50);

/// This part of the duration of a direct delivery is the minimum pause before the next one.
const PAUSE: u32 = 4;

/// From this number of events on, a burst is written directly without a pause: one write for each client costs less than
/// the way of so many events through its queue.
const MIN_BURST: usize = 16;

/// How events get to the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Each idle client gets them with one write.
    Direct,
    /// They wait in the queues of the clients, whose tasks write them.
    Queued,
}

/// Chooses the delivery of the events of one namespace.
///
/// Many small deliveries must not be direct: in a queue, those that come while a client's task is busy are written together.
/// So a direct delivery of few events follows only after a pause, in proportion to the time that the last one took.
#[derive(Debug, Default)]
pub(super) struct DeliveryChoice {
    /// The end of the last delivery.
    ended: Option<Instant>,
    /// The duration of the last direct delivery.
    duration: Duration,
}

impl DeliveryChoice {
    /// The delivery of some events with the same targets. `is_last` says that no other message waits.
    pub(super) fn of_events(&self, now: Instant, count: usize, is_last: bool) -> Delivery {
        let pause = (self.duration / PAUSE).max(MIN_QUIET);
        let is_quiet = || self.ended.is_none_or(|ended| now.saturating_duration_since(ended) >= pause);
        if count >= MIN_BURST || is_last && is_quiet() { Delivery::Direct } else { Delivery::Queued }
    }

    /// Something was delivered.
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
    fn few_events_are_written_directly_after_a_pause() {
        let micros = Duration::from_micros;
        let mut choice = DeliveryChoice::default();
        let start = Instant::now();
        for count in [1, 15] {
            assert_eq!(choice.of_events(start, count, false), Delivery::Queued);
            assert_eq!(choice.of_events(start, count, true), Delivery::Direct);
        }
        // One client: an event may follow soon.
        choice.delivered(Delivery::Direct, start, start + micros(10));
        assert_eq!(choice.of_events(start + micros(59), 1, true), Delivery::Queued);
        assert_eq!(choice.of_events(start + micros(60), 1, true), Delivery::Direct);
        // Many clients: the pause is a part of the time that the delivery took.
        choice.delivered(Delivery::Direct, start, start + micros(1000));
        assert_eq!(choice.of_events(start + micros(1249), 15, true), Delivery::Queued);
        assert_eq!(choice.of_events(start + micros(1250), 15, true), Delivery::Direct);
        // A queued event starts the pause again.
        choice.delivered(Delivery::Queued, start + micros(1249), start + micros(1251));
        assert_eq!(choice.of_events(start + micros(1500), 1, true), Delivery::Queued);
        assert_eq!(choice.of_events(start + micros(1501), 1, true), Delivery::Direct);
    }

    #[test]
    fn many_events_are_written_directly_at_once() {
        let mut choice = DeliveryChoice::default();
        let start = Instant::now();
        choice.delivered(Delivery::Direct, start, start);
        for is_last in [false, true] {
            assert_eq!(choice.of_events(start, 15, is_last), Delivery::Queued);
            assert_eq!(choice.of_events(start, 16, is_last), Delivery::Direct);
        }
    }
}
