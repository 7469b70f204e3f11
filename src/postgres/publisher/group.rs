//! Messages that are queued together and share one receipt. A caller with many messages saves the costs of a queue entry
//! and a receipt for each.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::unfinished::Token;
use super::{Completion, Job, queued_bytes};
use crate::protocol::{Channel, Encoded};
use crate::{Error, Result};

/// The maximum number of messages in a group, a quarter of a batch.
const MAX_MESSAGES: usize = 250;

/// A group ends with the message that reaches this size, a quarter of a batch.
const MAX_BYTES: usize = 256 << 10;

/// The largest text that returns to the caller, in bytes. It bounds the memory of a receipt that nobody has looked at yet:
/// 64 KiB.
const MAX_RETURNED: usize = 256;

/// Encoded messages that will be queued together.
pub(crate) struct MessageGroup {
    pub(super) jobs: Vec<Job>,
    pub(super) bytes: usize,
    shared: Arc<Shared>,
    receipt: GroupReceipt,
}

/// The receipt of a group. It resolves when every message of the group is committed or has failed.
#[must_use = "messages may still fail: await the receipt to know"]
pub(crate) struct GroupReceipt(oneshot::Receiver<GroupOutcome>);

/// What became of a group.
#[derive(Debug, Default)]
pub(crate) struct GroupOutcome {
    /// The messages that failed, by their index in the group.
    pub(crate) failures: Vec<(usize, Error)>,
    /// Short texts of the messages, in any order. The caller can use their memory again, which saves the allocator's work.
    pub(crate) texts: Vec<String>,
}

/// The messages of a group share it. It resolves the receipt when the last of them is done.
#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    outcome: GroupOutcome,
    receipt: Option<oneshot::Sender<GroupOutcome>>,
    /// Its share of the queue's bytes, and the token for a flush.
    queued: Option<(OwnedSemaphorePermit, Token)>,
}

/// The place of one message in its group.
pub(super) struct Member {
    shared: Arc<Shared>,
    index: usize,
    is_done: bool,
}

impl Default for MessageGroup {
    fn default() -> Self {
        let (sender, receiver) = oneshot::channel();
        let state = State { receipt: Some(sender), ..State::default() };
        let shared = Arc::new(Shared(Mutex::new(state)));
        Self { jobs: Vec::new(), bytes: 0, shared, receipt: GroupReceipt(receiver) }
    }
}

impl MessageGroup {
    /// Adds a message that is no heartbeat.
    pub(crate) fn push(&mut self, channel: Channel, encoded: Encoded) {
        let member = Member { shared: self.shared.clone(), index: self.jobs.len(), is_done: false };
        self.bytes += queued_bytes(&encoded);
        self.jobs.push(Job { channel, encoded, is_heartbeat: false, done: Completion::Member(member) });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether it should be queued before another message is added.
    pub(crate) fn is_full(&self) -> bool {
        self.jobs.len() >= MAX_MESSAGES || self.bytes >= MAX_BYTES
    }

    /// The messages, which hold the capacity until all of them are done, and their receipt.
    pub(super) fn into_jobs(self, capacity: OwnedSemaphorePermit, token: Token) -> (Vec<Job>, GroupReceipt) {
        self.shared.state(|state| {
            state.queued = Some((capacity, token));
            state.outcome.texts.reserve_exact(self.jobs.len());
        });
        (self.jobs, self.receipt)
    }
}

impl Shared {
    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Member {
    pub(super) fn finish(mut self, outcome: Result<()>, encoded: Encoded) {
        self.is_done = true;
        self.shared.state(|state| {
            if let Err(error) = outcome {
                state.outcome.failures.push((self.index, error));
            }
            if let Encoded::Inline(text) = encoded
                && text.capacity() <= MAX_RETURNED
            {
                state.outcome.texts.push(text);
            }
        });
    }
}

impl Drop for Member {
    /// A message is dropped only when the publisher ends, or before it is queued.
    fn drop(&mut self) {
        if !self.is_done {
            self.shared.state(|state| state.outcome.failures.push((self.index, Error::Closed)));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = std::mem::take(&mut state.outcome);
        outcome.failures.sort_unstable_by_key(|(index, _)| *index);
        if let Some(receipt) = state.receipt.take() {
            // A caller that dropped the receipt does not need the outcome.
            receipt.send(outcome).ok();
        }
    }
}

impl Future for GroupReceipt {
    type Output = GroupOutcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender sends before it is dropped.
        Pin::new(&mut self.0).poll(context).map(Result::unwrap_or_default)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::Semaphore;

    use super::super::unfinished::Unfinished;
    use super::*;
    use crate::protocol::Namespace;

    #[test]
    fn the_receipt_names_the_failures_when_all_messages_are_done() {
        let channel = Namespace::default().channel("x").unwrap();
        let mut group = MessageGroup::default();
        assert!(group.is_empty());
        let long = "d".repeat(MAX_RETURNED + 1);
        for text in ["a", "b", "c", &long] {
            group.push(channel.clone(), Encoded::Inline(text.into()));
        }
        assert!(!group.is_full());
        let capacity = Arc::new(Semaphore::new(4));
        let permit = capacity.clone().try_acquire_many_owned(4).unwrap();
        let (jobs, mut receipt) = group.into_jobs(permit, Unfinished::default().token());
        let mut jobs = jobs.into_iter();
        let mut next = || jobs.next().unwrap();
        let (a, b, c, d) = (next(), next(), next(), next());
        drop(jobs);
        d.finish(Err(Error::NoDatabase));
        a.finish(Ok(()));
        drop(b);
        assert!((&mut receipt).now_or_never().is_none() && capacity.available_permits() == 0);
        c.finish(Ok(()));
        let GroupOutcome { failures, mut texts } = receipt.now_or_never().unwrap();
        texts.sort();
        assert_eq!(texts, ["a", "c"]);
        assert!(matches!(*failures, [(1, Error::Closed), (3, Error::NoDatabase)]), "{failures:?}");
        assert_eq!(capacity.available_permits(), 4);
    }
}
