//! Progress of long work, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::arguments::Global;

const WITH_TOTAL: &str = "{bar:24} {percent:>3}%  {msg}  {elapsed} ({eta} left)";
const WITHOUT_TOTAL: &str = "{spinner} {msg}  {elapsed}";

/// A progress bar over this many bytes, or a spinner if the total is unknown. Hidden unless stderr is a terminal.
pub(in crate::cli) fn bytes(global: &Global, total: Option<u64>) -> ProgressBar {
    let (template, bar) = match total {
        Some(total) => (WITH_TOTAL, ProgressBar::new(total)),
        None => (WITHOUT_TOTAL, ProgressBar::new_spinner()),
    };
    // The templates are constant and valid.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    if global.quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    } else {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
