//! A lossy queue: bounded in bytes. It drops and counts items that do not fit, instead of blocking its writer.
//!
//! A session that stops reading notifications makes the server keep them for everyone, until the server's queue is full
//! and all publishing fails. So there is no backpressure: a reader that is too slow loses the newest items, and is told
//! how many.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::vec;

use futures_util::task::AtomicWaker;
use tokio::task::coop;

/// How many items are handed over together, where as many are there: each time may wake a thread.
const BATCH: usize = 64;

/// What an entry costs besides its content, in bytes.
const ENTRY: usize = 128;

/// What the reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// The next item.
    Item(T),
    /// So many items did not fit, at this place.
    Missed(u64),
}

/// Items that are handed over together.
struct Batch<T> {
    items: Vec<Next<T>>,
    /// What they count for until they are read.
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
        // No code that holds the lock can leave it half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue of at most so many bytes.
pub(crate) fn lossy_queue<T>(max_bytes: usize) -> (Writer<T>, Reader<T>) {
    let queue = Queue { batches: VecDeque::new(), bytes: 0, has_writer: true, has_reader: true };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), reader: AtomicWaker::new() });
    let writer = Writer { shared: shared.clone(), batch: Batch::default(), max_bytes, missed: 0 };
    (writer, Reader { shared, batch: Vec::new().into_iter() })
}

/// The end that never waits.
pub(crate) struct Writer<T> {
    shared: Arc<Shared<T>>,
    /// What the next flush hands over.
    batch: Batch<T>,
    max_bytes: usize,
    missed: u64,
}

impl<T> Writer<T> {
    /// Adds an item that holds so many bytes, or counts it as missed. The reader gets it with the next
    /// [`flush`](Self::flush). False if the reader is gone.
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
        self.tell_missed();
        self.batch.items.push(Next::Item(item));
        self.batch.bytes = bytes;
        self.batch.items.len() < BATCH || self.flush()
    }

    /// Adds an item that must not be missed, and hands all over. For rare items only.
    pub(crate) fn push_always(&mut self, item: T) -> bool {
        self.tell_missed();
        self.batch.items.push(Next::Item(item));
        self.flush()
    }

    /// Lets the reader have what was added. False if the reader is gone.
    pub(crate) fn flush(&mut self) -> bool {
        self.tell_missed();
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

    fn tell_missed(&mut self) {
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

/// The end that reads.
pub(crate) struct Reader<T> {
    shared: Arc<Shared<T>>,
    /// What is left of the last batch.
    batch: vec::IntoIter<Next<T>>,
}

impl<T> Reader<T> {
    /// Waits for the next item; `None` when the writer is gone and all is read.
    pub(crate) async fn next(&mut self) -> Option<Next<T>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same for a [`Stream`](futures_util::Stream).
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Next<T>>> {
        // Other tasks want to run as well, however many items there are.
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

    /// The next item, if one is there.
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
    async fn what_does_not_fit_is_counted_where_it_is_missing() {
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
    async fn a_loss_at_the_end_is_told_with_the_next_flush() {
        let (mut writer, mut reader) = lossy_queue(100);
        assert!(writer.push((), 1000) && writer.flush());
        assert_eq!(reader.next().await, Some(Next::Missed(1)));
        drop(reader);
        assert!(!writer.push((), 1));
    }
}
