//! Liveness of processes by session advisory locks, which write no WAL.
//!
//! With every ping the listening session reads `pg_locks`, and replaces its [`LivenessLock`] by the next one. Advisory
//! locks belong to a database, and every role may read `pg_locks` by default. The ping reads the locks first: if a session
//! may not read `pg_locks`, the ping fails and it never holds a lock, so other servers send it heartbeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use crate::protocol::{Instance, LivenessLock, LockSnapshot};

/// The longest and the shortest interval between two lock snapshots.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(50));

/// The minimum number of lock snapshots within a heartbeat timeout.
const SNAPSHOTS_IN_TIMEOUT: u32 = 4;

/// The comment in the statement of a ping, which `pg_stat_activity` shows: the process has a node in the main namespace.
pub(super) const SERVES_MAIN: &str = "/* serves / */ ";

/// The text in the response that shows that the lock was taken.
const HOLDS: &str = "holds";

/// The advisory lock of one process, and the interval of its renewal. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Presence(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    instance: Instance,
    is_shown: AtomicBool,
    serves_main: AtomicBool,
    next_number: AtomicU8,
    interval: Duration,
}

impl Presence {
    /// Makes a presence that other servers cannot see yet.
    pub(crate) fn new(heartbeat_timeout: Duration) -> Self {
        let (longest, shortest) = INTERVAL;
        Self(Arc::new(Inner {
            instance: Instance::random(),
            is_shown: AtomicBool::new(false),
            serves_main: AtomicBool::new(false),
            next_number: AtomicU8::new(0),
            interval: (heartbeat_timeout / SNAPSHOTS_IN_TIMEOUT).clamp(shortest, longest),
        }))
    }

    /// The instance whose uids the nodes of this process have.
    #[cfg(feature = "adapter")]
    pub(crate) fn instance(&self) -> Instance {
        self.0.instance
    }

    /// From now on the listening session holds a lock.
    #[cfg(feature = "adapter")]
    pub(crate) fn show(&self) {
        self.0.is_shown.store(true, Ordering::Relaxed);
    }

    /// Whether this process has a node in the main namespace. The next ping shows it.
    pub(crate) fn set_serves_main(&self, serves_main: bool) {
        self.0.serves_main.store(serves_main, Ordering::Relaxed);
    }

    /// The comment that shows whether this process has a node in the main namespace.
    pub(super) fn marker(&self) -> &'static str {
        if self.0.serves_main.load(Ordering::Relaxed) { SERVES_MAIN } else { "" }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.0.is_shown.load(Ordering::Relaxed)
    }

    /// The interval between two pings.
    pub(super) fn interval(&self) -> Duration {
        self.0.interval
    }

    fn next_lock(&self) -> LivenessLock {
        let number = self.0.next_number.fetch_add(1, Ordering::Relaxed);
        LivenessLock { instance: self.0.instance, number }
    }

    /// The statements of the next ping of a session that holds the lock `held`. Without `may_hold` it holds no lock
    /// afterwards.
    pub(super) fn ping(&self, held: Option<LivenessLock>, may_hold: bool) -> Ping {
        let mut sql = self.marker().to_owned();
        sql += &liveness_locks();
        let next_lock = (may_hold && self.is_shown()).then(|| self.next_lock());
        if let Some(lock) = next_lock {
            // A shared lock never conflicts with the same lock of another session.
            sql += &format!(
                ";SELECT CASE WHEN pg_catalog.pg_try_advisory_lock_shared({}) THEN '{HOLDS}' ELSE '' END",
                lock.key()
            );
        }
        if let Some(lock) = held {
            sql += if next_lock.is_some() { ", " } else { ";SELECT '', " };
            sql += &format!("pg_catalog.pg_advisory_unlock_shared({})", lock.key());
        }
        Ping { sql, next_lock }
    }
}

/// The query for the liveness locks of this database: the key of each, and the pid of its session.
pub(super) fn liveness_locks() -> String {
    let (first, last) = LivenessLock::KEYS;
    // `classid` and `objid` are the halves of a key of 64 bits, which `objsubid` tells from two keys of 32 bits.
    format!(
        "SELECT (classid::int8 << 32) | objid::int8 AS key, pid FROM pg_catalog.pg_locks \
         WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND classid::int8 BETWEEN {} AND {} \
         AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        first >> 32,
        last >> 32
    )
}

/// A ping, and the lock that it takes.
pub(super) struct Ping {
    pub(super) sql: String,
    next_lock: Option<LivenessLock>,
}

impl Ping {
    /// Reads the response. The second value is the lock that the session holds now.
    pub(super) fn read(&self, answer: &[SimpleQueryMessage]) -> (LockSnapshot, Option<LivenessLock>) {
        let values = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
            _ => None,
        });
        let (mut locks, mut holds_lock) = (Vec::new(), false);
        for value in values {
            match value.parse().ok().and_then(LivenessLock::of_key) {
                Some(lock) => locks.push(lock),
                None => holds_lock |= value == HOLDS,
            }
        }
        locks.sort_unstable();
        (LockSnapshot { locks: Some(locks), holds_lock }, self.next_lock.filter(|_| holds_lock))
    }
}
