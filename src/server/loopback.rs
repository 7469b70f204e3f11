//! The loopback probe: every few seconds it sees whether a notification would come back, and publishes one where that is not
//! known. It measures how long one takes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::{Cluster, LoopbackProbe, ProbeOutcome};
use crate::{Error, Result};

/// The interval between two probes, and the deadline of each.
const INTERVAL: Duration = Duration::from_millis(2500);

/// The pause after a probe that did not come back.
const RETRY: Duration = Duration::from_millis(200);

/// What the last probe has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Loopback {
    /// It came back, or none has ended yet.
    #[default]
    Healthy,
    /// It could not be published.
    NotPublished,
    /// Two in a row were published and did not come back in time, but notifications did before.
    Late,
    /// No notification has ever come back. This happens behind a connection pooler in transaction mode, which drops
    /// notifications.
    NotDelivered,
}

/// The state of the loopback, shared by the probe and `/readyz`.
#[derive(Clone, Default)]
pub(super) struct LoopbackHealth(Arc<Mutex<Loopback>>);

impl LoopbackHealth {
    pub(super) fn get(&self) -> Loopback {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, now: Loopback) {
        let before = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *state, now)
        };
        if before == now {
            return;
        }
        match now {
            Loopback::Healthy => tracing::info!("notifications come back again"),
            Loopback::NotPublished => tracing::warn!("cannot publish, so other servers do not hear this one"),
            Loopback::Late => tracing::warn!("notifications do not come back in time"),
            Loopback::NotDelivered => tracing::error!("{}", Error::NotificationsNotDelivered),
        }
    }
}

/// Probes for as long as this future is polled.
pub(super) async fn measure(cluster: Cluster, health: &LoopbackHealth) -> Result<()> {
    let gauge = metrics::gauge!("pgio_lag_seconds");
    let mut echo = LoopbackProbe::listen(&cluster).await?;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing_since = None;
    let mut silences = 0;
    loop {
        ticks.tick().await;
        let since = *missing_since.get_or_insert_with(Instant::now);
        let outcome = echo.check(INTERVAL).await;
        silences = if outcome == ProbeOutcome::NotDelivered { silences + 1 } else { 0 };
        match outcome {
            ProbeOutcome::Back(lag) => {
                health.set(Loopback::Healthy);
                missing_since = None;
                gauge.set(lag.as_secs_f64());
                continue;
            }
            ProbeOutcome::Quiet => {
                health.set(Loopback::Healthy);
                missing_since = None;
                continue;
            }
            ProbeOutcome::NotPublished => health.set(Loopback::NotPublished),
            ProbeOutcome::NotDelivered if cluster.is_deaf() => health.set(Loopback::NotDelivered),
            // One alone is late, or the connection to Postgres was lost meanwhile.
            ProbeOutcome::NotDelivered if silences > 1 => health.set(Loopback::Late),
            // Whether the server listens again is seen elsewhere.
            ProbeOutcome::NotDelivered | ProbeOutcome::Interrupted => {}
        }
        gauge.set(since.elapsed().as_secs_f64());
        // Load balancers wait for `/readyz`, so the next probe comes soon.
        ticks.reset_after(RETRY);
    }
}
