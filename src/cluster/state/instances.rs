//! The liveness of processes by their advisory locks, from the lock snapshots of the listening session.
//!
//! Owns the lock history of each instance. In: snapshots of `pg_locks`. Out: the lock status of an instance.
//! Invariants: an instance is fresh only if it has taken another lock since the last snapshot, so a frozen process and
//! a half-open connection become stale; it is gone only after two snapshots in a row without a lock, so a process that
//! has just lost its session has time to send heartbeats or to reconnect.

use std::collections::HashMap;

use crate::protocol::{Instance, LivenessLock};

/// The lock status of an instance at the last snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockStatus {
    /// It has taken another lock since the previous snapshot.
    Fresh,
    /// It holds the same locks as before.
    Same,
    /// A lock is missing, and there is no new one: Postgres has closed its session.
    Missing,
    /// It was missing in the previous snapshot as well.
    Gone,
}

struct Seen {
    /// The numbers of its locks: one as a rule, and those of old sessions.
    numbers: Vec<u8>,
    lock_status: LockStatus,
}

#[derive(Default)]
pub(super) struct Instances(HashMap<Instance, Seen>);

impl Instances {
    /// Updates the status with a snapshot of the locks, which are sorted.
    pub(super) fn look(&mut self, beats: &[LivenessLock]) {
        self.0.retain(|_, seen| seen.lock_status != LockStatus::Gone || !seen.numbers.is_empty());
        for (instance, seen) in &mut self.0 {
            if beats.binary_search_by_key(instance, |beat| beat.instance).is_err() {
                seen.update(Vec::new());
            }
        }
        for beats in beats.chunk_by(|a, b| a.instance == b.instance) {
            let Some(first) = beats.first() else { continue };
            let seen = self.0.entry(first.instance);
            let seen = seen.or_insert_with(|| Seen { numbers: Vec::new(), lock_status: LockStatus::Gone });
            seen.update(beats.iter().map(|beat| beat.number).collect());
        }
    }

    /// `None` for an instance without a lock in recent snapshots.
    pub(super) fn lock_status(&self, instance: Instance) -> Option<LockStatus> {
        self.0.get(&instance).map(|seen| seen.lock_status)
    }
}

impl Seen {
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
        let mut look = |numbers: &[u8]| {
            let other = LivenessLock { instance: Instance::from(2), number: 9 };
            let mut beats: Vec<_> =
                numbers.iter().map(|&number| LivenessLock { instance: one, number }).collect();
            beats.push(other);
            instances.look(&beats);
            instances.lock_status(one)
        };
        assert_eq!(look(&[]), None);
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
            assert_eq!(look(numbers), Some(lock_status), "{numbers:?}");
        }
        look(&[]);
        look(&[]);
        assert_eq!(look(&[]), None);
    }
}
