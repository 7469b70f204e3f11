//! Checks delivery: whether a notification of one connection arrives at another one.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};

use super::Examiner;
use crate::Result;
use crate::postgres::lossy_queue::Next;
use crate::postgres::table::quote_identifier;
use crate::postgres::{Listener, ListenerEvent, Presence, SameServer, Session};
use crate::protocol::Namespace;

/// The prefix of channels that only an examination uses.
pub(super) const PREFIX: &str = "pgio-doctor";

/// What became of a notification.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// How long it took to publish it.
    pub(crate) published: Duration,
    /// How long until the other connection had it; `None` where it did not come.
    pub(crate) arrived: Option<Duration>,
    /// Whether two connections of ours, open at the same time, were the same session of the server: a pooler in between
    /// deals sessions out by the transaction.
    pub(crate) sessions_are_shared: bool,
}

impl Examiner {
    /// The loopback probe: publishes on a random channel, and waits for the notification.
    pub(crate) async fn delivery(&self, patience: Duration) -> Result<Delivery> {
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
        let presence = Presence::new(patience);
        let (_listener, mut heard) =
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
        let arrive = timeout(patience, async {
            while let Some(next) = heard.next().await {
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
            // With a pooler, this may reach the session that still listens after its client has left.
            let client = self.session.client().await?;
            let unlisten = format!("UNLISTEN {}", quote_identifier(name));
            client.batch_execute(&unlisten).await.map_err(|error| crate::postgres::failure(&error))?;
        }
        Ok(Delivery { published, arrived, sessions_are_shared })
    }
}
