//! Warnings about single events of `emit --from`.
//!
//! Another thread prints them. If nobody reads stderr, the write blocks, and the command's own thread also publishes.

use indicatif::ProgressBar;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::cli::output::notes::{self, Label};

/// Warnings, in order.
pub(super) struct Warnings {
    /// The progress, which has to be hidden meanwhile.
    progress: ProgressBar,
    waiting: Vec<String>,
    printing: Option<JoinHandle<()>>,
}

impl Warnings {
    pub(super) fn new(progress: ProgressBar) -> Self {
        Self { progress, waiting: Vec::new(), printing: None }
    }

    pub(super) fn push(&mut self, text: String) {
        self.waiting.push(text);
    }

    /// Prints all. A caller that stops waiting loses none.
    pub(super) async fn print(&mut self) {
        loop {
            if let Some(printing) = &mut self.printing {
                // It fails only if printing panics, which has said so itself.
                printing.await.ok();
                self.printing = None;
            }
            if self.waiting.is_empty() {
                return;
            }
            let (progress, texts) = (self.progress.clone(), std::mem::take(&mut self.waiting));
            self.printing = Some(spawn_blocking(move || {
                progress.suspend(|| texts.iter().for_each(|text| notes::labelled(Label::Warning, text)));
            }));
        }
    }
}
