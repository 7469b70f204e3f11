//! The nodes of this process as members of the cluster: join, heartbeats by the driver, goodbye and leave.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::driver::{Command, Dropped};
use super::{Cluster, SubscriptionId};
use crate::Result;
use crate::protocol::{Namespace, Uid};

impl Cluster {
    /// Makes a new uid for a node of this process.
    pub(crate) fn new_node(&self) -> Uid {
        let number = self.0.next_node.fetch_add(1, Ordering::Relaxed);
        self.0.presence.instance().uid(number)
    }

    /// Makes the listening session hold an advisory lock from now on. It shows other servers that this process is alive, so
    /// its nodes need no heartbeats.
    pub(crate) fn show_presence(&self) {
        self.0.presence.show();
    }

    /// Adds a node that serves a namespace which it has subscribed to. From now on it answers initial heartbeats, and sends
    /// heartbeats while other servers need them. With `hello_pending`, its own initial heartbeat is published, and retried
    /// until it is committed. The node ends with the subscription, and then publishes a goodbye.
    pub(crate) async fn join(
        &self,
        subscription: SubscriptionId,
        nsp: &Namespace,
        uid: &Uid,
        hello_pending: bool,
    ) -> Result<()> {
        let (channel, uid) = (self.channel(nsp)?, uid.clone());
        self.driver().await?.send(Command::Join { subscription, channel, uid, hello_pending }).await
    }

    /// Queues the goodbye of a node that has ended. It is retried until it is committed.
    pub(crate) async fn queue_goodbye(&self, nsp: &Namespace, uid: &Uid) -> Result<()> {
        let (channel, uid) = (self.channel(nsp)?, uid.clone());
        self.driver().await?.send(Command::QueueGoodbye { channel, uid }).await
    }

    /// A node publishes its goodbye itself, so the driver publishes none when the node's subscription ends.
    pub(crate) fn suppress_goodbye(&self, nsp: &Namespace, uid: &Uid) {
        if let (Ok(channel), Some(driver)) = (self.channel(nsp), self.0.driver.get()) {
            driver.reaper.add(Dropped::Member { channel, uid: uid.clone() });
        }
    }

    /// The same as [`queue_goodbye`](Self::queue_goodbye), for a destructor: it does not wait.
    pub(crate) fn queue_goodbye_on_drop(&self, nsp: &Namespace, uid: &Uid) {
        if let (Ok(channel), Some(driver)) = (self.channel(nsp), self.0.driver.get()) {
            driver.reaper.add(Dropped::Goodbye { channel, uid: uid.clone() });
        }
    }

    /// Removes a node. When this returns, the driver queues no more messages of it.
    pub(crate) async fn leave(&self, nsp: &Namespace, uid: &Uid) {
        let (Ok(channel), Some(driver)) = (self.channel(nsp), self.0.driver.get()) else { return };
        let (left, has_left) = oneshot::channel();
        // Without a driver there is nothing to leave.
        if driver.send(Command::Leave { channel, uid: uid.clone(), left }).await.is_ok() {
            has_left.await.ok();
        }
    }
}
