//! The rate limit of log lines: writes the first lines with the same message, and counts the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::Level;

/// The time window in which lines are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// The maximum number of written lines of one kind in a window.
const LINES: u64 = 10;

/// The maximum number of kinds. Above it, all lines of one place in the code are one kind.
const KINDS: usize = 256;

/// The kind of a line. The limit applies to each kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// The source file and the line number.
    pub(super) place: (Option<&'static str>, Option<u32>),
    pub(super) message: String,
    pub(super) level: Level,
    pub(super) target: &'static str,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u64,
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    fn held_back(&self) -> u64 {
        self.lines.saturating_sub(LINES)
    }
}

/// The windows of all kinds of lines.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<Kind, Window>);

impl Repeats {
    /// Counts a line, and returns whether to write it. Call [`due`](Self::due) first.
    pub(super) fn may_pass(&mut self, now: Instant, mut kind: Kind) -> bool {
        if self.0.len() >= KINDS && !self.0.contains_key(&kind) {
            kind.message = "other messages".into();
        }
        let window = self.0.entry(kind).or_insert(Window { since: now, lines: 0 });
        window.lines += 1;
        window.lines <= LINES
    }

    /// Removes the windows that are over, and returns their counts of suppressed lines. The next line of such a kind
    /// starts a new window.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Kind, u64)> {
        self.take(|window| window.is_over(now))
    }

    /// Removes all windows, and returns their counts of suppressed lines.
    pub(super) fn all(&mut self) -> Vec<(Kind, u64)> {
        self.take(|_| true)
    }

    fn take(&mut self, is_due: impl Fn(&Window) -> bool) -> Vec<(Kind, u64)> {
        let due = self.0.extract_if(|_, window| is_due(window));
        due.map(|(kind, window)| (kind, window.held_back())).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(message: impl Into<String>) -> Kind {
        Kind { place: (Some("a.rs"), Some(7)), message: message.into(), level: Level::WARN, target: "pgio" }
    }

    #[test]
    fn the_first_lines_are_written_and_the_others_counted() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let passed = (0..1000).filter(|_| repeats.may_pass(start, kind("skipped"))).count();
        assert_eq!(passed, 10);
        assert!(repeats.may_pass(start, kind("something else")));
        assert!(repeats.due(start + WINDOW / 2).is_empty());
        assert_eq!(repeats.due(start + WINDOW), [(kind("skipped"), 990)]);
        assert!(repeats.may_pass(start + WINDOW, kind("skipped")));
        assert!(repeats.all().is_empty());
    }

    #[test]
    fn a_message_for_each_line_is_no_way_around_it() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let passed = (0..10_000).filter(|n| repeats.may_pass(start, kind(format!("{n}")))).count();
        assert_eq!(passed as u64, KINDS as u64 + LINES);
        assert_eq!(repeats.all(), [(kind("other messages"), 10_000 - KINDS as u64 - LINES)]);
    }
}
