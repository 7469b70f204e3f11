//! The liveness of processes by their advisory locks, from the lock snapshots of the listening session.
//!
//! Owns the lock history of each instance. In: snapshots of `pg_locks`. Out: the lock status of an instance. Invariants: an
//! instance is fresh only if it has taken a new lock since the last snapshot, so a frozen process and a half-open
//! connection become stale; it is gone only after two snapshots in a row without a lock, so a process that has just lost
//! its session has time to send heartbeats or to reconnect.

use std::collections::HashMap;

use crate::protocol::{Instance, LivenessLock};

/// The lock status of an instance at the last snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockStatus {
    /// It has taken a new lock since the previous snapshot.
    Fresh,
    /// It holds the same locks as before.
    Same,
    /// A lock is missing, and there is no new one: Postgres has closed its session.
    Missing,
    /// It was missing in the previous snapshot as well.
    Gone,
}

struct LockHistory {
    /// The numbers of its locks: usually one, and those of old sessions.
    numbers: Vec<u8>,
    lock_status: LockStatus,
}

#[derive(Default)]
pub(super) struct Instances(HashMap<Instance, LockHistory>);

impl Instances {
    /// Updates the status with a snapshot of the locks, which are sorted.
    pub(super) fn update(&mut self, locks: &[LivenessLock]) {
        self.0.retain(|_, history| history.lock_status != LockStatus::Gone || !history.numbers.is_empty());
        for (instance, history) in &mut self.0 {
            if locks.binary_search_by_key(instance, |lock| lock.instance).is_err() {
                history.update(Vec::new());
            }
        }
        for locks in locks.chunk_by(|a, b| a.instance == b.instance) {
            let Some(first) = locks.first() else { continue };
            let history = self.0.entry(first.instance);
            let history =
                history.or_insert_with(|| LockHistory { numbers: Vec::new(), lock_status: LockStatus::Gone });
            history.update(locks.iter().map(|lock| lock.number).collect());
        }
    }

    /// `None` for an instance without a lock in recent snapshots.
    pub(super) fn lock_status(&self, instance: Instance) -> Option<LockStatus> {
        self.0.get(&instance).map(|history| history.lock_status)
    }
}

impl LockHistory {
    fn update(&mut self, numbers: Vec<u8>) {
        let has_new = numbers.iter().any(|number| !self.numbers.contains(number));
        let has_lost = self.numbers.iter().any(|number| !numbers.contains(number));
        self.lock_status = match (has_new, self.lock_status) {
            (true, _) => LockStatus::Fresh,
            (false, LockStatus::Missing | LockStatus::Gone) => LockStatus::Gone,
            (false, _) if has_lost => LockStatus::Missing,
            (false, _) => LockStatus::Same,
        };
        self.numbers = numbers;
    }
}

#[cfg(test)]
mod tests {
    use super::LockStatus::*;
    use super::*;

    #[test]
    fn an_instance_is_fresh_while_its_locks_change() {
        let one = Instance::from(1);
        let mut instances = Instances::default();
        let mut update = |numbers: &[u8]| {
            let other = LivenessLock { instance: Instance::from(2), number: 9 };
            let mut locks: Vec<_> =
                numbers.iter().map(|&number| LivenessLock { instance: one, number }).collect();
            locks.push(other);
            instances.update(&locks);
            instances.lock_status(one)
        };
        assert_eq!(update(&[]), None);
        for (numbers, lock_status) in [
            (&[7][..], Fresh),
            (&[8], Fresh),
            (&[8], Same),
            (&[], Missing),
            (&[9], Fresh),
            (&[], Missing),
            (&[], Gone),
            // An old session that the server has not dropped yet.
            (&[3, 10], Fresh),
            (&[3, 11], Fresh),
            (&[3], Missing),
            (&[3], Gone),
            (&[3], Gone),
            (&[3, 12], Fresh),
        ] {
            assert_eq!(update(numbers), Some(lock_status), "{numbers:?}");
        }
        update(&[]);
        update(&[]);
        assert_eq!(update(&[]), None);
    }
}
