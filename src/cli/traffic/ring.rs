//! A ring buffer with a value for each of the last seconds.

/// The number of kept seconds, besides the current one.
pub(in crate::cli) const SECONDS: usize = 600;

/// The kept seconds and the current one.
const SLOTS: usize = SECONDS + 1;

/// A ring buffer of seconds. A second in which nothing was written has the default value.
pub(in crate::cli) struct Ring<T> {
    slots: Box<[T]>,
    newest: u64,
}

impl<T: Copy + Default> Ring<T> {
    pub(in crate::cli) fn new() -> Self {
        Self { slots: vec![T::default(); SLOTS].into(), newest: 0 }
    }

    /// The value of a second, which becomes the newest second. A second before the newest one counts as the newest one.
    pub(in crate::cli) fn at(&mut self, second: u64) -> &mut T {
        let passed = second.saturating_sub(self.newest);
        if passed > 0 {
            let stale = usize::try_from(passed).unwrap_or(SLOTS).min(SLOTS);
            for back in 0..stale {
                let index = slot(second.saturating_sub(back as u64));
                self.slots[index] = T::default();
            }
            self.newest = second;
        }
        &mut self.slots[slot(self.newest)]
    }

    fn get(&self, second: u64) -> T {
        let is_kept = second <= self.newest && self.newest - second < SLOTS as u64;
        if is_kept { self.slots[slot(second)] } else { T::default() }
    }

    /// The values of at most `seconds` seconds before `second`, the oldest first. There are none before second 0.
    pub(in crate::cli) fn before(&self, second: u64, seconds: usize) -> impl Iterator<Item = T> + '_ {
        (second.saturating_sub(seconds.min(SECONDS) as u64)..second).map(|second| self.get(second))
    }

    /// Adds the values of another ring, up to this second.
    pub(super) fn absorb(&mut self, second: u64, other: &Self, plus: impl Fn(T, T) -> T) {
        self.at(second);
        for second in self.newest.saturating_sub(SECONDS as u64)..=self.newest {
            let sum = &mut self.slots[slot(second)];
            *sum = plus(*sum, other.get(second));
        }
    }

    /// Resets all values.
    pub(super) fn clear(&mut self) {
        self.slots.fill(T::default());
    }
}

fn slot(second: u64) -> usize {
    // The result is smaller than the number of slots.
    (second % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(ring: &Ring<u32>, second: u64, seconds: usize) -> Vec<u32> {
        ring.before(second, seconds).collect()
    }

    #[test]
    fn seconds_without_a_value_are_zero_and_old_ones_are_forgotten() {
        let mut ring = Ring::new();
        assert_eq!(before(&ring, 0, 10), [0; 0]);
        *ring.at(0) += 1;
        *ring.at(2) += 3;
        *ring.at(1) += 4;
        assert_eq!(before(&ring, 5, 10), [1, 0, 7, 0, 0]);
        assert_eq!(before(&ring, 3, 2), [0, 7]);
        let last = SECONDS as u64;
        *ring.at(last) += 5;
        assert_eq!(before(&ring, last, SECONDS)[..3], [1, 0, 7]);
        *ring.at(last + 2) += 6;
        let all = before(&ring, last + 3, 10_000);
        assert_eq!((all.len(), all[0], all[SECONDS - 3], all[SECONDS - 1]), (SECONDS, 0, 5, 6));
        *ring.at(10 * last) += 7;
        assert_eq!(ring.before(10 * last + 1, SECONDS).sum::<u32>(), 7);
        assert_eq!(ring.before(20 * last, SECONDS).sum::<u32>(), 0);
        // The clock of a test may show any second.
        *ring.at(u64::MAX - SLOTS as u64) += 8;
        assert_eq!(before(&ring, u64::MAX - SLOTS as u64 + 1, 1), [8]);
    }
}
