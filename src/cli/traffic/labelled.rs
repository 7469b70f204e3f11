//! Counters with names for Prometheus. They never decrease, and their number is limited.

use std::collections::HashMap;

use crate::safe_text;

/// The maximum number of names with their own counter.
const NAMES: usize = 50;

/// The maximum number of kept bytes of a name.
const NAME_BYTES: usize = 80;

/// A counter for each of the first names, and one for all others.
#[derive(Default)]
pub(in crate::cli) struct Labelled {
    counters: HashMap<Box<str>, u64>,
    other: u64,
}

impl Labelled {
    pub(super) fn add(&mut self, name: &str) {
        let key = &name[..name.floor_char_boundary(NAME_BYTES)];
        if let Some(count) = self.counters.get_mut(key) {
            *count += 1;
        } else if self.counters.len() < NAMES {
            self.counters.insert(key.into(), 1);
        } else {
            self.other += 1;
        }
    }

    /// The names, escaped and sorted, with their counters.
    pub(in crate::cli) fn sorted(&self) -> Vec<(String, u64)> {
        let shown =
            self.counters.iter().map(|(name, count)| (safe_text::cut(name, NAME_BYTES).into_owned(), *count));
        let mut sorted: Vec<_> = shown.collect();
        sorted.sort();
        sorted
    }

    /// The counter of all other names.
    pub(in crate::cli) fn other(&self) -> u64 {
        self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_count_and_the_others_together() {
        let mut labelled = Labelled::default();
        for round in 0..3 {
            (0..100).for_each(|name| labelled.add(&format!("e{name}")));
            assert_eq!(labelled.other(), 50 * (round + 1));
        }
        labelled.add(&"\n".repeat(1000));
        assert!(labelled.sorted().iter().all(|(name, count)| *count == 3 && name.starts_with('e')));
        assert_eq!((labelled.sorted().len(), labelled.other()), (NAMES, 151));
    }
}
