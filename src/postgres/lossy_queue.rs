//! A lossy queue: bounded in bytes. It drops and counts items that do not fit, instead of blocking its writer.
//!
//! If a session stops reading notifications, the server keeps them until its notification queue is full and every NOTIFY
//! fails. So there is no backpressure: a slow reader loses the newest items, and gets the number of lost items.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::vec;

use futures_util::task::AtomicWaker;
use tokio::task::coop;

/// The maximum number of items in one batch. Each batch may wake a thread.
const BATCH: usize = 64;

/// The memory of an entry without its content, in bytes.
const ENTRY: usize = 128;

/// An entry of the queue, as the reader gets it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// The next item.
    Item(T),
    /// The number of items that were dropped at this position.
    Missed(u64),
}

/// Items that the writer hands over together.
struct Batch<T> {
    items: Vec<Next<T>>,
    /// The bytes that they take of the bound until they are read.
    bytes: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { items: Vec::new(), bytes: 0 }
    }
}

struct Queue<T> {
    batches: VecDeque<Batch<T>>,
    bytes: usize,
    has_writer: bool,
    has_reader: bool,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    reader: AtomicWaker,
}

impl<T> Shared<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        // A panic cannot happen between two related changes, so a poisoned lock is consistent.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a queue of at most `max_bytes`.
pub(crate) fn lossy_queue<T>(max_bytes: usize) -> (Writer<T>, Reader<T>) {
    let queue = Queue { batches: VecDeque::new(), bytes: 0, has_writer: true, has_reader: true };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), reader: AtomicWaker::new() });
    let writer = Writer { shared: shared.clone(), batch: Batch::default(), max_bytes, missed: 0 };
    (writer, Reader { shared, batch: Vec::new().into_iter() })
}

/// The writing end, which never waits.
pub(crate) struct Writer<T> {
    shared: Arc<Shared<T>>,
    /// The batch for the next flush.
    batch: Batch<T>,
    max_bytes: usize,
    missed: u64,
}

impl<T> Writer<T> {
    /// Adds an item of `bytes`, or drops and counts it. The reader gets it after the next [`flush`](Self::flush). Returns
    /// false if the reader was dropped.
    pub(crate) fn push(&mut self, item: T, bytes: usize) -> bool {
        let bytes = self.batch.bytes + bytes + ENTRY;
        let (queued, has_reader) = {
            let queue = self.shared.queue();
            (queue.bytes, queue.has_reader)
        };
        if queued + bytes > self.max_bytes {
            self.missed += 1;
            return has_reader;
        }
        self.push_missed();
        self.batch.items.push(Next::Item(item));
        self.batch.bytes = bytes;
        self.batch.items.len() < BATCH || self.flush()
    }

    /// Adds an item beyond the bound, and flushes. For rare items only.
    pub(crate) fn push_always(&mut self, item: T) -> bool {
        self.push_missed();
        self.batch.items.push(Next::Item(item));
        self.flush()
    }

    /// Hands the batch over to the reader. Returns false if the reader was dropped.
    pub(crate) fn flush(&mut self) -> bool {
        self.push_missed();
        if self.batch.items.is_empty() {
            return self.shared.queue().has_reader;
        }
        let batch = std::mem::take(&mut self.batch);
        let has_reader = {
            let mut queue = self.shared.queue();
            if queue.has_reader {
                queue.bytes += batch.bytes;
                queue.batches.push_back(batch);
            }
            queue.has_reader
        };
        self.shared.reader.wake();
        has_reader
    }

    fn push_missed(&mut self) {
        match std::mem::take(&mut self.missed) {
            0 => {}
            missed => self.batch.items.push(Next::Missed(missed)),
        }
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.flush();
        self.shared.queue().has_writer = false;
        self.shared.reader.wake();
    }
}

/// The reading end.
pub(crate) struct Reader<T> {
    shared: Arc<Shared<T>>,
    /// The rest of the last batch.
    batch: vec::IntoIter<Next<T>>,
}

impl<T> Reader<T> {
    /// Waits for the next item; `None` after the writer is dropped and all items are read.
    pub(crate) async fn next(&mut self) -> Option<Next<T>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same for a [`Stream`](futures_util::Stream).
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Next<T>>> {
        // Cooperative scheduling: a full queue must not starve other tasks.
        let budget = ready!(coop::poll_proceed(context));
        if let Some(next) = self.try_next() {
            budget.made_progress();
            return Poll::Ready(Some(next));
        }
        self.shared.reader.register(context.waker());
        // The writer may have been faster than the registration.
        let has_writer = self.shared.queue().has_writer;
        match self.try_next() {
            Some(next) => Poll::Ready(Some(next)),
            None if has_writer => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    /// The next item, without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Next<T>> {
        loop {
            if let Some(next) = self.batch.next() {
                return Some(next);
            }
            let mut queue = self.shared.queue();
            let batch = queue.batches.pop_front()?;
            queue.bytes -= batch.bytes;
            drop(queue);
            self.batch = batch.items.into_iter();
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.has_reader = false;
        let unread = std::mem::take(&mut queue.batches);
        queue.bytes = 0;
        drop(queue);
        drop(unread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropped_items_are_counted_at_their_position() {
        let (mut writer, mut reader) = lossy_queue(1000);
        for n in 0..5 {
            assert!(writer.push(n, 72));
        }
        assert_eq!(reader.try_next(), None, "nothing is handed over before a flush");
        assert!(writer.flush());
        for n in 5..9 {
            assert!(writer.push(n, 72));
        }
        for n in 0..5 {
            assert_eq!(reader.try_next(), Some(Next::Item(n)));
        }
        assert_eq!(reader.try_next(), None);
        assert!(writer.push(10, 122));
        assert!(writer.push_always(11));
        drop(writer);
        let mut rest = Vec::new();
        while let Some(next) = reader.next().await {
            rest.push(next);
        }
        assert_eq!(rest, [Next::Missed(4), Next::Item(10), Next::Item(11)]);
    }

    #[tokio::test]
    async fn a_drop_at_the_end_is_reported_with_the_next_flush() {
        let (mut writer, mut reader) = lossy_queue(100);
        assert!(writer.push((), 1000) && writer.flush());
        assert_eq!(reader.next().await, Some(Next::Missed(1)));
        drop(reader);
        assert!(!writer.push((), 1));
    }
}
