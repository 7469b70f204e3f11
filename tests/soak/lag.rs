//! Measures the scheduling delay of the machine: other load delays every process, and must not look like a broken
//! guarantee.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

/// The time to sleep for each measurement.
const NAP: Duration = Duration::from_millis(10);

/// An event passes so many processes at most: client, server, Postgres, server, client, and the harness.
const HOPS: u32 = 6;

/// No bound grows by more than this.
const MOST: Duration = Duration::from_secs(3);

/// Measures how much later than asked for the harness wakes up.
pub struct Lag {
    longest: Arc<AtomicU64>,
    _measuring: AbortOnDropHandle<()>,
}

impl Lag {
    pub fn measure() -> Self {
        let longest = Arc::<AtomicU64>::default();
        let own = longest.clone();
        let measuring = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let asleep = Instant::now();
                sleep(NAP).await;
                let late = asleep.elapsed().saturating_sub(NAP);
                own.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        }));
        Self { longest, _measuring: measuring }
    }

    /// The allowance for every bound: the scheduling delay that an event may have met since the last call.
    pub fn take(&self) -> Duration {
        (Duration::from_millis(self.longest.swap(0, Ordering::Relaxed)) * HOPS).min(MOST)
    }
}
