//! Checks delivery: whether a notification of one connection arrives at another connection.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};

use super::Examiner;
use crate::Result;
use crate::postgres::lossy_queue::Next;
use crate::postgres::table::quote_identifier;
use crate::postgres::{Listener, ListenerEvent, Presence, SameServer, Session};
use crate::protocol::Namespace;

/// The prefix of the channels of this check.
pub(super) const PREFIX: &str = "pgio-doctor";

/// The result of the check.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The time until it was published.
    pub(crate) published: Duration,
    /// The time until it arrived at the other connection; `None` if it did not arrive.
    pub(crate) arrived: Option<Duration>,
    /// Whether two open connections have used the same session of the server: there is a pooler in transaction mode.
    pub(crate) sessions_are_shared: bool,
}

impl Examiner {
    /// The loopback probe: publishes on a random channel, and waits for the notification.
    pub(crate) async fn delivery(&self, limit: Duration) -> Result<Delivery> {
        let other = Session::open(self.settings.clone()).await?;
        let pid = "SELECT pg_catalog.pg_backend_pid()";
        let ours: i32 = self.one(pid, &[], |row| row.try_get(0)).await?;
        let client = other.client().await?;
        let theirs = client.query_typed(pid, &[]).await.map_err(|error| crate::postgres::failure(&error))?;
        let sessions_are_shared =
            theirs.first().is_some_and(|row| row.try_get(0).is_ok_and(|pid: i32| pid == ours));
        drop((client, other));

        let channel = Namespace::new(&format!("{:016x}", fastrand::u64(..))).channel(PREFIX)?;
        let channels = vec![channel.clone()];
        let presence = Presence::new(limit);
        let (_listener, mut events) =
            Listener::connect(self.settings.clone(), SameServer::default(), channels, presence).await?;
        let name = channel.as_str();
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&name, Type::TEXT)];
        let start = Instant::now();
        let notify =
            "SELECT pg_catalog.pg_notify($1, ''), pg_catalog.set_config('synchronous_commit', 'off', true)";
        let publish = async {
            self.all(notify, &parameters, |_| Ok(())).await?;
            Ok(start.elapsed())
        };
        let arrive = timeout(limit, async {
            while let Some(next) = events.next().await {
                if matches!(next, Next::Item(ListenerEvent::Notification { channel, .. }) if *channel == *name)
                {
                    return Some(start.elapsed());
                }
            }
            None
        });
        let (published, arrived) = tokio::join!(publish, arrive);
        let (published, arrived) = (published?, arrived.ok().flatten());
        if arrived.is_none() {
            // Behind a pooler, this may reach the pooled session that still listens after its client has disconnected.
            let client = self.session.client().await?;
            let unlisten = format!("UNLISTEN {}", quote_identifier(name));
            client.batch_execute(&unlisten).await.map_err(|error| crate::postgres::failure(&error))?;
        }
        Ok(Delivery { published, arrived, sessions_are_shared })
    }
}
