//! The messages without an outcome yet, for those who wait for all that were queued so far (flush).
//!
//! Each message or group holds a token until it has its outcome. A flush begins a new generation of tokens, and waits until
//! all tokens of the earlier generations are dropped. It delays no producer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, join_all};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Held by a message or a group until it has its outcome.
pub(super) struct Token(#[expect(dead_code, reason = "its drop is what counts")] Sender<()>);

/// The generations of tokens.
pub(super) struct Unfinished(Mutex<Generations>);

struct Generations {
    /// The source of the tokens of the current generation, and its end.
    token: Sender<()>,
    tokens: Receiver<()>,
    /// The ends of the earlier generations.
    earlier: Vec<Shared<BoxFuture<'static, ()>>>,
}

impl Default for Unfinished {
    fn default() -> Self {
        let (token, tokens) = channel(1);
        Self(Mutex::new(Generations { token, tokens, earlier: Vec::new() }))
    }
}

impl Unfinished {
    pub(super) fn token(&self) -> Token {
        Token(self.generations().token.clone())
    }

    /// Waits until all tokens that exist now are dropped.
    pub(super) async fn wait(&self) {
        let ends = self.generations().next();
        join_all(ends).await;
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    /// Begins a generation. Returns the ends of all earlier ones that have not ended.
    fn next(&mut self) -> Vec<Shared<BoxFuture<'static, ()>>> {
        let (token, tokens) = channel(1);
        self.token = token;
        let mut tokens = std::mem::replace(&mut self.tokens, tokens);
        // Nothing is ever sent: this resolves when the last token is dropped.
        let end = async move {
            tokens.recv().await;
        };
        self.earlier.retain(|end| end.peek().is_none());
        self.earlier.push(end.boxed().shared());
        self.earlier.clone()
    }
}

#[cfg(test)]
mod tests {
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
