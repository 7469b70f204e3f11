//! Committed messages whose receipts are not resolved yet.

use super::Job;

/// The batches of a transaction. Their receipts resolve when this is dropped, so a task that ends early does not report a
/// committed message as lost.
#[derive(Default)]
pub(super) struct Committed(Vec<Vec<Job>>);

impl From<Vec<Job>> for Committed {
    fn from(batch: Vec<Job>) -> Self {
        Self(vec![batch])
    }
}

impl From<Vec<Vec<Job>>> for Committed {
    fn from(batches: Vec<Vec<Job>>) -> Self {
        Self(batches)
    }
}

impl Committed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }
}

impl Drop for Committed {
    fn drop(&mut self) {
        self.0.drain(..).flatten().for_each(|job| job.finish(Ok(())));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use tokio::sync::Semaphore;

    use super::super::unfinished::Unfinished;
    use super::*;
    use crate::postgres::MessageGroup;
    use crate::protocol::{Encoded, Namespace};

    #[test]
    fn messages_that_are_dropped_after_their_commit_have_not_failed() {
        let channel = Namespace::default().channel("x").unwrap();
        let mut group = MessageGroup::default();
        group.push(channel.clone(), Encoded::Inline("a".into()));
        group.push(channel, Encoded::Inline("b".into()));
        let permit = Arc::new(Semaphore::new(2)).try_acquire_many_owned(2).unwrap();
        let (mut jobs, receipt) = group.into_jobs(permit, Unfinished::default().token());
        let second = jobs.split_off(1);
        drop(Committed::from(vec![jobs, second]));
        let outcome = receipt.now_or_never().unwrap();
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    }
}
