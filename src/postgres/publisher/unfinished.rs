//! The messages without an outcome yet, for those who wait for all that were queued so far (flush).
//!
//! Each message or group holds a token until it has its outcome. A flush begins a new generation of tokens, and waits until
//! all tokens of the earlier generations are dropped. It delays no producer.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Held by a message or a group until it has its outcome.
pub(super) struct Token(#[expect(dead_code, reason = "its drop is what counts")] Sender<()>);

/// The generations of tokens.
pub(super) struct Unfinished {
    /// The source of the tokens of the current generation, and the end of it.
    current: Mutex<(Sender<()>, Receiver<()>)>,
    /// The ends of the earlier generations that no flush has seen yet.
    earlier: tokio::sync::Mutex<Vec<Receiver<()>>>,
}

impl Default for Unfinished {
    fn default() -> Self {
        Self { current: Mutex::new(channel(1)), earlier: tokio::sync::Mutex::default() }
    }
}

impl Unfinished {
    pub(super) fn token(&self) -> Token {
        Token(self.current.lock().unwrap_or_else(PoisonError::into_inner).0.clone())
    }

    /// Waits until all tokens that exist now are dropped. If it is cancelled, the next call waits for them as well.
    pub(super) async fn wait(&self) {
        let mut earlier = self.earlier.lock().await;
        let (_, end) =
            std::mem::replace(&mut *self.current.lock().unwrap_or_else(PoisonError::into_inner), channel(1));
        earlier.push(end);
        while let Some(end) = earlier.last_mut() {
            // Nothing is ever sent: this resolves when the last token is dropped.
            end.recv().await;
            earlier.pop();
        }
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
