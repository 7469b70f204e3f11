//! A few connections for requests of operators, such as health checks, however many clients there are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// How many connections there may be at a time. A health check takes a millisecond.
const PLACES: usize = 16;

/// The places of a lane. A new connection takes the place of the oldest one when there is none left, so connections that
/// only wait do not keep a health check out.
#[derive(Clone)]
pub(super) struct Lane {
    places: Arc<Mutex<Places>>,
    size: usize,
}

impl Default for Lane {
    fn default() -> Self {
        Self::new(PLACES)
    }
}

#[derive(Default)]
struct Places {
    next: u64,
    taken: VecDeque<(u64, CancellationToken)>,
}

/// A place in a lane, until this is dropped.
pub(super) struct Place {
    lane: Lane,
    number: u64,
    lost: CancellationToken,
}

impl Lane {
    /// A lane of so many places.
    pub(super) fn new(size: usize) -> Self {
        Self { places: Arc::default(), size }
    }

    /// Takes a place.
    pub(super) fn enter(&self) -> Place {
        let lost = CancellationToken::new();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let number = places.next;
        places.next += 1;
        let oldest = if places.taken.len() >= self.size { places.taken.pop_front() } else { None };
        places.taken.push_back((number, lost.clone()));
        drop(places);
        if let Some((_, lost)) = oldest {
            lost.cancel();
        }
        Place { lane: self.clone(), number, lost }
    }
}

impl Place {
    /// Ends when a newer connection has taken the place.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.lane.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.taken.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_newest_takes_the_place_of_the_oldest() {
        let lane = Lane::default();
        let places: Vec<_> = (0..PLACES).map(|_| lane.enter()).collect();
        assert!(places[0].lost().now_or_never().is_none());
        let newest = lane.enter();
        assert!(places[0].lost().now_or_never().is_some());
        assert!(places[1].lost().now_or_never().is_none() && newest.lost().now_or_never().is_none());
        drop(places);
        assert_eq!(lane.places.lock().unwrap().taken.len(), 1);
    }
}
