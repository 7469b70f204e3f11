//! The loopback probe: publishes a notification every few seconds and measures when it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::{Cluster, Echo, Sounding};
use crate::{Error, Result};

/// The interval between two probes, and the deadline of each.
const INTERVAL: Duration = Duration::from_millis(2500);

/// Whether Postgres accepts what this server publishes while no notification has ever come back. This happens behind a
/// connection pooler in transaction mode, which drops notifications.
#[derive(Clone, Default)]
pub(super) struct LoopbackHealth(Arc<AtomicBool>);

impl LoopbackHealth {
    pub(super) fn is_failing(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn fail(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            tracing::error!("{}", Error::NotificationsNotDelivered);
        }
    }

    fn recover(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Probes for as long as this future is polled.
pub(super) async fn measure(cluster: Cluster, loopback: &LoopbackHealth) -> Result<()> {
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
                loopback.recover();
                missing_since = None;
                gauge.set(lag.as_secs_f64());
                continue;
            }
            // If a notification ever arrived, this one is late, or the connection to Postgres was lost meanwhile.
            Sounding::Silence if cluster.is_deaf() => loopback.fail(),
            Sounding::Silence | Sounding::Unsent => {}
        }
        gauge.set(since.elapsed().as_secs_f64());
    }
}
