//! A lossy queue: bounded in bytes. It drops and counts items that do not fit, instead of blocking its writer.
//!
//! If a session stops reading notifications, the server keeps them until its notification queue is full and every NOTIFY
//! fails. So there is no backpressure: a slow reader loses the newest items, and gets the number of lost items.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::task::coop;

/// The maximum number of items in one batch. Each batch may wake a thread.
const BATCH: usize = 64;

/// The maximum number of emptied batches that are kept for the writer. In a flood, growing new ones costs as much as moving
/// the items.
const SPARES: usize = 2;

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
    items: VecDeque<Next<T>>,
    /// The bytes that they take of the bound until they are read.
    bytes: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }
}

/// The batches between the two ends.
struct Batches<T> {
    queued: VecDeque<Batch<T>>,
    spare: Vec<VecDeque<Next<T>>>,
}

struct Shared<T> {
    batches: Mutex<Batches<T>>,
    /// The bytes of the batches. They change under the lock; the writer reads them for each item, without it.
    bytes: AtomicUsize,
    has_writer: AtomicBool,
    /// Changes under the lock, so that no batch stays in the queue of a dropped reader.
    has_reader: AtomicBool,
    reader: AtomicWaker,
}

impl<T> Shared<T> {
    fn batches(&self) -> MutexGuard<'_, Batches<T>> {
        // A panic cannot happen between two related changes, so a poisoned lock is consistent.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_reader(&self) -> bool {
        self.has_reader.load(Ordering::Relaxed)
    }
}

/// Makes a queue of at most `max_bytes`.
pub(crate) fn lossy_queue<T>(max_bytes: usize) -> (Writer<T>, Reader<T>) {
    let shared = Arc::new(Shared {
        batches: Mutex::new(Batches { queued: VecDeque::new(), spare: Vec::new() }),
        bytes: AtomicUsize::new(0),
        has_writer: AtomicBool::new(true),
        has_reader: AtomicBool::new(true),
        reader: AtomicWaker::new(),
    });
    let writer = Writer { shared: shared.clone(), batch: Batch::default(), max_bytes, missed: 0 };
    (writer, Reader { shared, batch: VecDeque::new() })
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
        // The reader only makes it smaller, so the bound holds.
        if self.shared.bytes.load(Ordering::Relaxed) + bytes > self.max_bytes {
            self.missed += 1;
            return self.shared.has_reader();
        }
        self.push_missed();
        self.batch.items.push_back(Next::Item(item));
        self.batch.bytes = bytes;
        self.batch.items.len() < BATCH || self.flush()
    }

    /// Adds an item beyond the bound, and flushes. For rare items only.
    pub(crate) fn push_always(&mut self, item: T) -> bool {
        self.push_missed();
        self.batch.items.push_back(Next::Item(item));
        self.flush()
    }

    /// Hands the batch over to the reader. Returns false if the reader was dropped.
    pub(crate) fn flush(&mut self) -> bool {
        self.push_missed();
        if self.batch.items.is_empty() {
            return self.shared.has_reader();
        }
        let batch = std::mem::take(&mut self.batch);
        let was_full = batch.items.len() >= BATCH;
        let has_reader = {
            let mut batches = self.shared.batches();
            let has_reader = self.shared.has_reader();
            if has_reader {
                self.shared.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
                batches.queued.push_back(batch);
                if was_full {
                    // Another full one follows. A small one must not take more memory than it counts.
                    let spare = batches.spare.pop();
                    self.batch.items = spare.unwrap_or_else(|| VecDeque::with_capacity(BATCH));
                }
            }
            has_reader
        };
        self.shared.reader.wake();
        has_reader
    }

    fn push_missed(&mut self) {
        match std::mem::take(&mut self.missed) {
            0 => {}
            missed => self.batch.items.push_back(Next::Missed(missed)),
        }
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.flush();
        // A reader that sees this also sees the last batch.
        self.shared.has_writer.store(false, Ordering::Release);
        self.shared.reader.wake();
    }
}

/// The reading end.
pub(crate) struct Reader<T> {
    shared: Arc<Shared<T>>,
    /// The rest of the last batch.
    batch: VecDeque<Next<T>>,
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
        let has_writer = self.shared.has_writer.load(Ordering::Acquire);
        match self.try_next() {
            Some(next) => Poll::Ready(Some(next)),
            None if has_writer => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    /// The next item, without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Next<T>> {
        loop {
            if let Some(next) = self.batch.pop_front() {
                return Some(next);
            }
            let mut batches = self.shared.batches();
            let Batch { items, bytes } = batches.queued.pop_front()?;
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            let emptied = std::mem::replace(&mut self.batch, items);
            if emptied.capacity() > 0 && batches.spare.len() < SPARES {
                batches.spare.push(emptied);
            }
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let unread = {
            let mut batches = self.shared.batches();
            self.shared.has_reader.store(false, Ordering::Relaxed);
            self.shared.bytes.store(0, Ordering::Relaxed);
            std::mem::take(&mut batches.queued)
        };
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
    async fn full_batches_leave_no_bytes_behind() {
        let (mut writer, mut reader) = lossy_queue(BATCH * ENTRY * 8);
        for round in 0..20 {
            for n in 0..BATCH * 8 {
                assert!(writer.push((round, n), 0));
            }
            // One more than the queue has room for.
            assert!(writer.push((round, usize::MAX), 0) && writer.flush());
            for n in 0..BATCH * 8 {
                assert_eq!(reader.next().await, Some(Next::Item((round, n))));
            }
            assert_eq!(reader.next().await, Some(Next::Missed(1)));
            assert_eq!(reader.try_next(), None);
        }
        assert!(reader.shared.batches().spare.len() <= SPARES);
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
