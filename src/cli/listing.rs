//! The flags of commands that print a list: how many items are printed, and how many are required.

use clap::Args;

use super::arguments::Global;
use super::output::lines::Lines;
use super::output::number;

/// Flags of the commands that print a list.
#[derive(Args)]
pub(super) struct Listing {
    /// Print the first N, and the number of the others [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Do not truncate lines to the width of the terminal
    #[arg(long)]
    wide: bool,
    /// Exit with status 4 if there are fewer than N [default: no check]
    #[arg(long, value_name = "N")]
    pub(super) min: Option<usize>,
}

impl Listing {
    /// The output of the list.
    pub(super) fn lines(&self) -> Lines {
        match self.wide {
            true => Lines::stdout().uncut(),
            false => Lines::stdout(),
        }
    }

    /// The part of the list that is printed.
    pub(super) fn shown<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        &all[..self.limit.unwrap_or(all.len()).min(all.len())]
    }

    /// Prints the number of items, and how many of them are not shown. `noun` is `room` or `socket`.
    pub(super) fn tell_total(&self, global: &Global, total: usize, noun: &str) {
        let counted = |count: usize, adjective: &str| match count {
            0 => format!("no {adjective}{noun}s"),
            n => number::counted(n as u64, &format!("{adjective}{noun}")),
        };
        match total - self.limit.unwrap_or(total).min(total) {
            0 => global.note_on_terminal(&counted(total, "")),
            hidden => {
                global.note(&format!("{}; {} in all", counted(hidden, "more "), number::count(total as u64)))
            }
        }
    }
}
