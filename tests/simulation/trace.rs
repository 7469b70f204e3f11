//! What happened last, for a person to read.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// The default of `SIMULATION_STEPS`: the number of steps in a trace.
const STEPS: usize = 60;

/// How many microseconds a virtual second has.
pub const SECOND: u64 = 1_000_000;

/// The last steps of a world. Texts are made only where somebody reads them.
#[derive(Default)]
pub struct Trace {
    is_on: bool,
    steps: usize,
    lines: VecDeque<String>,
    /// Tells one run from another.
    pub digest: u64,
}

impl Trace {
    pub fn new(is_on: bool) -> Self {
        let steps =
            std::env::var("SIMULATION_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(STEPS);
        Self { is_on, steps, ..Self::default() }
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Takes note of a step of that kind.
    pub fn count(&mut self, now: u64, kind: u64) {
        self.digest = (self.digest.rotate_left(5) ^ now ^ (kind << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub fn add(&mut self, now: u64, actor: &str, what: std::fmt::Arguments<'_>) {
        if !self.is_on {
            return;
        }
        let mut line = String::new();
        let (seconds, micros) = (now / SECOND, now % SECOND);
        let written = write!(line, "{seconds:>4}.{micros:06} s  {actor:<12} {what}");
        if written.is_ok() {
            if line.len() > 200 {
                let end = line.floor_char_boundary(200);
                line.truncate(end);
                line.push('…');
            }
            self.lines.push_back(line);
        }
        if self.lines.len() > self.steps {
            self.lines.pop_front();
        }
    }

    pub fn text(&self) -> String {
        self.lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}
