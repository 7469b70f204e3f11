//! The loopback probe. Every few seconds it checks whether notifications arrive. If no other notification has proven
//! it, the probe publishes one and measures its round trip.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::{Cluster, LoopbackProbe, ProbeOutcome};
use crate::{Error, Result};

/// The interval between two probes, and the deadline of each.
const INTERVAL: Duration = Duration::from_millis(2500);

/// The pause after a probe that did not arrive.
const RETRY: Duration = Duration::from_millis(200);

/// The result of the last probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Loopback {
    /// The last probe arrived, or none has ended yet.
    #[default]
    Healthy,
    /// The last probe could not be published.
    NotPublished,
    /// Two probes in a row did not arrive in time, but earlier notifications did.
    Late,
    /// No notification has ever arrived. This happens behind a connection pooler in transaction mode, which drops
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
            Loopback::Healthy => tracing::info!("loopback probe: notifications arrive again"),
            Loopback::NotPublished => tracing::warn!("loopback probe: cannot publish to Postgres"),
            Loopback::Late => tracing::warn!("loopback probe: notifications do not arrive in time"),
            Loopback::NotDelivered => tracing::error!("{}", Error::NotificationsNotDelivered),
        }
    }
}

/// Probes for as long as this future is polled.
pub(super) async fn measure(cluster: Cluster, health: &LoopbackHealth) -> Result<()> {
    let gauge = metrics::gauge!("pgio_lag_seconds");
    let mut probe = LoopbackProbe::listen(&cluster).await?;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing_since = None;
    let mut silences = 0;
    loop {
        ticks.tick().await;
        let since = *missing_since.get_or_insert_with(Instant::now);
        let outcome = probe.check(INTERVAL).await;
        silences = if outcome == ProbeOutcome::NotDelivered { silences + 1 } else { 0 };
        match outcome {
            ProbeOutcome::Delivered(lag) => {
                health.set(Loopback::Healthy);
                missing_since = None;
                gauge.set(lag.as_secs_f64());
                continue;
            }
            ProbeOutcome::Skipped => {
                health.set(Loopback::Healthy);
                missing_since = None;
                continue;
            }
            ProbeOutcome::NotPublished => health.set(Loopback::NotPublished),
            ProbeOutcome::NotDelivered if cluster.receives_nothing() => health.set(Loopback::NotDelivered),
            // A single loss does not count: the probe may be late, or the connection to Postgres was lost in the
            // meantime.
            ProbeOutcome::NotDelivered if silences > 1 => health.set(Loopback::Late),
            // `/readyz` checks separately whether the server listens.
            ProbeOutcome::NotDelivered | ProbeOutcome::Interrupted => {}
        }
        gauge.set(since.elapsed().as_secs_f64());
        // Load balancers wait for `/readyz`, so the next probe comes soon.
        ticks.reset_after(RETRY);
    }
}
