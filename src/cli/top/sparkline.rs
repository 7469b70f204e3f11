//! Draws numbers as a line of bars.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws the last numbers as bars, one for each column. A missing number is a blank. The largest number has the highest
/// bar.
pub(super) fn of(numbers: &[u64], width: usize) -> String {
    let shown = &numbers[numbers.len().saturating_sub(width)..];
    let largest = shown.iter().copied().max().unwrap_or_default().max(1);
    let bar = |number: &u64| match number {
        0 => ' ',
        // Rounds up, so that every number above 0 is visible.
        number => BARS[(number * (BARS.len() as u64)).div_ceil(largest).saturating_sub(1).min(7) as usize],
    };
    let blank = " ".repeat(width - shown.len());
    blank + &shown.iter().map(bar).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_a_whole_bar_and_nothing_is_blank() {
        assert_eq!(of(&[0, 1, 4, 8], 6), "   ▁▄█");
        assert_eq!(of(&[9, 0, 1, 4, 8], 4), " ▁▄█");
        assert_eq!(of(&[], 3), "   ");
        assert_eq!(of(&[1, 1_000_000], 2), "▁█");
        assert_eq!(of(&[0, 0], 2), "  ");
    }
}
