//! Disconnects clients when their token expires.
//!
//! Owns the expiry of each socket, in order. One task waits for the first. The entry of a socket is dropped with the
//! socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::ClusterSocket;
use super::disconnect::{Disconnector, Reason};
use super::shared_io::SharedIo;
use crate::adapter::Sid;

/// The longest wait between two reads of the system clock, which an administrator may change.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The expiries of the sockets. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Expiries(Arc<Shared>);

#[derive(Default)]
struct Shared {
    sockets: Mutex<Sockets>,
    changed: Notify,
}

#[derive(Default)]
struct Sockets {
    by_time: BTreeMap<Key, (Arc<str>, Sid)>,
    last_number: u64,
}

/// The time at which a socket expires, in seconds since 1970, and a number that makes the key unique.
type Key = (u64, u64);

/// The entry of a socket; kept with the socket.
#[derive(Clone)]
struct Expiry(Arc<Entry>);

struct Entry {
    key: Key,
    all: Weak<Shared>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(all) = self.all.upgrade() {
            all.sockets().by_time.remove(&self.key);
        }
    }
}

impl Shared {
    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expiries {
    /// Disconnects the socket at that time, in seconds since 1970.
    pub(super) fn add(&self, socket: &ClusterSocket, time: u64) {
        let mut sockets = self.0.sockets();
        sockets.last_number += 1;
        let key = (time, sockets.last_number);
        sockets.by_time.insert(key, (socket.ns().into(), socket.id));
        let is_first = sockets.by_time.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(sockets);
        socket.extensions.insert(Expiry(Arc::new(Entry { key, all: Arc::downgrade(&self.0) })));
        if is_first {
            self.0.changed.notify_one();
        }
    }

    /// Starts the task that disconnects; dropping the handle ends it.
    pub(super) fn start(self, io: SharedIo, disconnector: Disconnector) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let (due, next) = self.take_due(now);
                for (key, nsp, sid) in due {
                    let Some(io) = io.get() else { return };
                    let socket = io.of(&*nsp).and_then(|nsp| nsp.get_socket(sid));
                    // The client may have connected again with another token.
                    let is_own = |socket: &ClusterSocket| {
                        socket.extensions.get::<Expiry>().is_some_and(|e| e.0.key == key)
                    };
                    if let Some(socket) = socket.filter(is_own) {
                        disconnector.disconnect_revoked(socket, Reason::Expired);
                    }
                }
                // Woken by the timeout or by a change; both are handled alike.
                timeout(next.min(MAX_WAIT), self.0.changed.notified()).await.ok();
            }
        }))
    }

    /// Takes the sockets that have expired. Returns them with the time until the next expiry.
    fn take_due(&self, now: Duration) -> (Vec<(Key, Arc<str>, Sid)>, Duration) {
        let mut sockets = self.0.sockets();
        let mut due = Vec::new();
        while let Some(first) = sockets.by_time.first_entry() {
            let time = Duration::from_secs(first.key().0);
            if time > now {
                return (due, time - now);
            }
            let (key, (nsp, sid)) = first.remove_entry();
            due.push((key, nsp, sid));
        }
        (due, MAX_WAIT)
    }
}
