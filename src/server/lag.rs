//! How long a notification takes through Postgres and back.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout_at};

use crate::Result;
use crate::cluster::{Cluster, Event, Subscription};
use crate::protocol::{Body, Message, Namespace, Uid};

/// How often that is measured.
const INTERVAL: Duration = Duration::from_secs(5);

/// Measures for as long as it is polled: with heartbeats in a namespace that nobody else knows.
pub(super) async fn measure(cluster: Cluster) -> Result<()> {
    let gauge = metrics::gauge!("pgio_lag_seconds");
    let nsp = Namespace::new(&format!("/pgio/lag/{}", Uid::random()));
    let mut heard = cluster.subscribe(std::slice::from_ref(&nsp), |_| true).await?;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing_since = None;
    loop {
        ticks.tick().await;
        let sent = Instant::now();
        let since = *missing_since.get_or_insert(sent);
        let message = Message { uid: Uid::random(), nsp: nsp.clone(), body: Body::Heartbeat };
        let arrived = match cluster.publish(&message).await {
            Ok(()) => hear(&mut heard, &message.uid, sent + INTERVAL).await,
            Err(_) => false,
        };
        if arrived {
            missing_since = None;
            gauge.set(sent.elapsed().as_secs_f64());
        } else {
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
