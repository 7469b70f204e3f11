//! How long a notification takes through Postgres and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout_at};

use crate::Result;
use crate::cluster::{Cluster, Event, Subscription};
use crate::protocol::{Body, Message, Namespace, Uid};

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
            tracing::error!(
                "Postgres takes notifications, and none comes back: is there a pooler in transaction mode in between? \
                 LISTEN needs a session of its own"
            );
        }
    }

    fn cure(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Measures for as long as it is polled: with heartbeats in a namespace that nobody else knows.
pub(super) async fn measure(cluster: Cluster, deafness: &Deafness) -> Result<()> {
    let gauge = metrics::gauge!("pgio_lag_seconds");
    let nsp = Namespace::new(&format!("/pgio/lag/{}", Uid::random()));
    let mut heard = cluster.subscribe(std::slice::from_ref(&nsp), |_| true).await?;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing_since = None;
    let mut has_heard = false;
    loop {
        ticks.tick().await;
        let sent = Instant::now();
        let since = *missing_since.get_or_insert(sent);
        let message = Message { uid: Uid::random(), nsp: nsp.clone(), body: Body::Heartbeat };
        // One that hangs is missing as well.
        let is_sent =
            matches!(timeout_at((sent + INTERVAL).into(), cluster.publish(&message)).await, Ok(Ok(())));
        if is_sent && hear(&mut heard, &message.uid, sent + INTERVAL).await {
            has_heard = true;
            deafness.cure();
            missing_since = None;
            gauge.set(sent.elapsed().as_secs_f64());
        } else {
            // One that has come back before is only late, or Postgres has gone meanwhile.
            if is_sent && !has_heard && cluster.is_listening() {
                deafness.find();
            }
            gauge.set(since.elapsed().as_secs_f64());
        }
    }
}

/// Whether that one's message arrives in time.
async fn hear(heard: &mut Subscription, uid: &Uid, deadline: Instant) -> bool {
    while let Ok(Some(event)) = timeout_at(deadline.into(), heard.next()).await {
        if let Event::Message(received) = event
            && received.content.header().is_some_and(|header| header.uid == *uid)
        {
            return true;
        }
    }
    false
}
