//! How long a notification takes through Postgres and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::{Cluster, Echo, Sounding};
use crate::{Error, Result};

/// How often that is measured.
const INTERVAL: Duration = Duration::from_secs(5);

/// Whether Postgres takes what this server publishes, and none of it has ever come back: something in between has sessions
/// in common with others, and keeps their notifications.
#[derive(Clone, Default)]
pub(super) struct Deafness(Arc<AtomicBool>);

impl Deafness {
    pub(super) fn is_found(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn find(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            tracing::error!("{}", Error::NotificationsNotDelivered);
        }
    }

    fn cure(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Measures for as long as it is polled.
pub(super) async fn measure(cluster: Cluster, deafness: &Deafness) -> Result<()> {
    let gauge = metrics::gauge!("pgio_lag_seconds");
    let mut echo = Echo::listen(&cluster).await?;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing_since = None;
    loop {
        ticks.tick().await;
        let since = *missing_since.get_or_insert_with(Instant::now);
        match echo.sound(INTERVAL).await {
            Sounding::Back(lag) => {
                deafness.cure();
                missing_since = None;
                gauge.set(lag.as_secs_f64());
                continue;
            }
            // With anything that was ever heard it is only late, or Postgres has gone meanwhile.
            Sounding::Silence if cluster.is_deaf() => deafness.find(),
            Sounding::Silence | Sounding::Unsent => {}
        }
        gauge.set(since.elapsed().as_secs_f64());
    }
}
