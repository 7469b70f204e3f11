//! Which processes hold a lock, by the looks of the listening session.
//!
//! Owns what each instance has shown. Looks go in, standings come out. Invariants: an instance is fresh only if it has taken
//! another lock since the last look, so that a frozen process and a half-open connection become stale; it is gone only after two
//! looks in a row without a lock, so that a process that has just lost its session has time to say so or to come back.

use std::collections::HashMap;

use crate::protocol::{Beat, Instance};

/// How an instance stood at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has taken another lock since the look before.
    Fresh,
    /// It holds the same locks as before.
    Same,
    /// A lock is missing, and there is no new one: the server has dropped its session.
    Missing,
    /// It was missing at the look before, too.
    Gone,
}

struct Seen {
    /// The numbers of its locks: one as a rule, and those of old sessions.
    numbers: Vec<u8>,
    standing: Standing,
}

#[derive(Default)]
pub(super) struct Instances(HashMap<Instance, Seen>);

impl Instances {
    /// Takes in the locks that there are, which are in order.
    pub(super) fn look(&mut self, beats: &[Beat]) {
        self.0.retain(|_, seen| seen.standing != Standing::Gone || !seen.numbers.is_empty());
        for (instance, seen) in &mut self.0 {
            if beats.binary_search_by_key(instance, |beat| beat.instance).is_err() {
                seen.update(Vec::new());
            }
        }
        for beats in beats.chunk_by(|a, b| a.instance == b.instance) {
            let Some(first) = beats.first() else { continue };
            let seen = self.0.entry(first.instance);
            let seen = seen.or_insert_with(|| Seen { numbers: Vec::new(), standing: Standing::Gone });
            seen.update(beats.iter().map(|beat| beat.number).collect());
        }
    }

    /// `None` for one that has never been seen, or not for long.
    pub(super) fn standing(&self, instance: Instance) -> Option<Standing> {
        self.0.get(&instance).map(|seen| seen.standing)
    }
}

impl Seen {
    fn update(&mut self, numbers: Vec<u8>) {
        let has_new = numbers.iter().any(|number| !self.numbers.contains(number));
        let has_lost = self.numbers.iter().any(|number| !numbers.contains(number));
        self.standing = match (has_new, self.standing) {
            (true, _) => Standing::Fresh,
            (false, Standing::Missing | Standing::Gone) => Standing::Gone,
            (false, _) if has_lost => Standing::Missing,
            (false, _) => Standing::Same,
        };
        self.numbers = numbers;
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::*;
    use super::*;

    #[test]
    fn an_instance_is_fresh_while_its_locks_change() {
        let one = Instance::from(1);
        let mut instances = Instances::default();
        let mut look = |numbers: &[u8]| {
            let other = Beat { instance: Instance::from(2), number: 9 };
            let mut beats: Vec<_> = numbers.iter().map(|&number| Beat { instance: one, number }).collect();
            beats.push(other);
            instances.look(&beats);
            instances.standing(one)
        };
        assert_eq!(look(&[]), None);
        for (numbers, standing) in [
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
            assert_eq!(look(numbers), Some(standing), "{numbers:?}");
        }
        look(&[]);
        look(&[]);
        assert_eq!(look(&[]), None);
    }
}
