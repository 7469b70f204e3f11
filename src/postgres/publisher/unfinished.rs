//! The messages without an outcome yet, for those who wait for all that were queued so far (flush).
//!
//! Each message or group holds a token of the current generation until it has its outcome. A flush begins a new generation,
//! and waits until all earlier ones have ended. It delays no producer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Held by a message or a group until it has its outcome.
pub(super) struct Token(#[expect(dead_code, reason = "its drop is what counts")] Arc<Generation>);

/// The generations of tokens.
pub(super) struct Unfinished {
    current: Mutex<Arc<Generation>>,
    ended: Arc<Ended>,
}

/// The tokens between two flushes. It ends when it is not the current one, and its tokens are dropped.
struct Generation {
    number: u64,
    ended: Arc<Ended>,
}

/// The generations that have ended.
struct Ended {
    /// All before this number.
    before: watch::Sender<u64>,
    /// Those that ended before an earlier one.
    early: Mutex<BTreeSet<u64>>,
}

impl Default for Unfinished {
    fn default() -> Self {
        let ended = Arc::new(Ended { before: watch::Sender::new(0), early: Mutex::default() });
        let first = Generation { number: 0, ended: ended.clone() };
        Self { current: Mutex::new(Arc::new(first)), ended }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let mut early = self.ended.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.insert(self.number);
        self.ended.before.send_if_modified(|before| {
            let was = *before;
            while early.remove(before) {
                *before += 1;
            }
            *before != was
        });
    }
}

impl Unfinished {
    pub(super) fn token(&self) -> Token {
        Token(self.current.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Waits until all tokens that exist now are dropped.
    pub(super) async fn wait(&self) {
        let mut before = self.ended.before.subscribe();
        let number = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            let next = Generation { number: current.number + 1, ended: self.ended.clone() };
            // Without a token it ends here.
            std::mem::replace(&mut *current, Arc::new(next)).number
        };
        // The sender lives as long as this.
        before.wait_for(|before| *before > number).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_flush_waits_for_the_tokens_that_exist_and_for_no_later_ones() {
        let unfinished = Unfinished::default();
        assert!(unfinished.wait().now_or_never().is_some(), "there is nothing to wait for");
        let (first, second) = (unfinished.token(), unfinished.token());
        assert!(unfinished.wait().now_or_never().is_none());
        drop(first);
        // The first wait was cancelled, and its generation still counts.
        let later = unfinished.token();
        let mut flush = Box::pin(unfinished.wait());
        assert!((&mut flush).now_or_never().is_none());
        let latest = unfinished.token();
        drop(later);
        assert!((&mut flush).now_or_never().is_none());
        drop(second);
        assert!((&mut flush).now_or_never().is_some());
        drop(latest);
    }
}
