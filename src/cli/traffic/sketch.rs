//! A count-min sketch. For names without a row, it estimates in little memory how often each came.

use std::hash::{BuildHasher, RandomState};

const WIDTH: usize = 1024;
const DEPTH: usize = 4;

/// Estimates that are never too low. The hash has a random key, so that nobody outside can choose names that collide.
pub(super) struct Sketch {
    hasher: RandomState,
    counters: [[u32; WIDTH]; DEPTH],
}

impl Sketch {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { hasher: RandomState::new(), counters: [[0; WIDTH]; DEPTH] })
    }

    /// Counts a name, and returns the estimate.
    pub(super) fn add(&mut self, name: &str) -> u64 {
        let mut hash = self.hasher.hash_one(name);
        let mut least = u32::MAX;
        for row in &mut self.counters {
            // Each row uses ten bits of the hash.
            let counter = &mut row[(hash % WIDTH as u64) as usize];
            *counter = counter.saturating_add(1);
            least = least.min(*counter);
            hash /= WIDTH as u64;
        }
        least.into()
    }

    /// Halves all counters, so that old messages count less and less.
    pub(super) fn halve(&mut self) {
        self.counters.iter_mut().flatten().for_each(|counter| *counter /= 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_never_too_low_and_fades() {
        let mut sketch = Sketch::new();
        for name in 0..500 {
            for count in 1..=3 {
                assert!(sketch.add(&name.to_string()) >= count);
            }
        }
        let before = sketch.add("0");
        sketch.halve();
        assert!(sketch.add("0") <= before / 2 + 1);
    }
}
