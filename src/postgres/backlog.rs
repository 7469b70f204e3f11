//! A queue that is bounded in bytes and never makes its writer wait.
//!
//! Whoever reads notifications from Postgres must never stop: a session that does makes the server keep them for
//! everyone, until its queue is full and all publishing fails. So a reader who is too slow loses the newest items, and
//! is told how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec;

use tokio::sync::mpsc;
use tokio::task::coop::consume_budget;

/// How many items go on together, where as many are there: each handing over may wake a thread.
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

/// Items on their way together.
struct Batch<T> {
    items: Vec<Next<T>>,
    /// The room that they take until they are read.
    bytes: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { items: Vec::new(), bytes: 0 }
    }
}

/// A backlog of at most so many bytes.
pub(crate) fn backlog<T>(bytes: usize) -> (Writer<T>, Reader<T>) {
    // Bounded by the bytes, not by the count.
    let (sender, batches) = mpsc::unbounded_channel();
    let room = Arc::new(AtomicUsize::new(bytes));
    let writer = Writer { batches: sender, batch: Batch::default(), room: room.clone(), missed: 0 };
    (writer, Reader { batches, batch: Vec::new().into_iter(), room })
}

pub(crate) struct Writer<T> {
    batches: mpsc::UnboundedSender<Batch<T>>,
    /// What the next flush sends.
    batch: Batch<T>,
    /// Only the one writer takes of it, so what it sees there is there.
    room: Arc<AtomicUsize>,
    missed: u64,
}

impl<T> Writer<T> {
    /// Adds an item that holds so many bytes, or counts it as missed. The reader gets it with the next
    /// [`flush`](Self::flush). False when nobody reads any more.
    pub(crate) fn push(&mut self, item: T, bytes: usize) -> bool {
        let bytes = self.batch.bytes + bytes + ENTRY;
        if self.room.load(Ordering::Relaxed) < bytes {
            self.missed += 1;
            return !self.batches.is_closed();
        }
        self.tell_missed();
        self.batch.items.push(Next::Item(item));
        self.batch.bytes = bytes;
        self.batch.items.len() < BATCH || self.flush()
    }

    /// Adds an item that must not be missed, whatever else is, and sends all. For rare items only.
    pub(crate) fn push_always(&mut self, item: T) -> bool {
        self.tell_missed();
        self.batch.items.push(Next::Item(item));
        self.flush()
    }

    /// Lets the reader have what was added. False when nobody reads any more.
    pub(crate) fn flush(&mut self) -> bool {
        if self.batch.items.is_empty() {
            return !self.batches.is_closed();
        }
        let batch = std::mem::take(&mut self.batch);
        self.room.fetch_sub(batch.bytes, Ordering::Relaxed);
        self.batches.send(batch).is_ok()
    }

    fn tell_missed(&mut self) {
        match std::mem::take(&mut self.missed) {
            0 => {}
            missed => self.batch.items.push(Next::Missed(missed)),
        }
    }
}

pub(crate) struct Reader<T> {
    batches: mpsc::UnboundedReceiver<Batch<T>>,
    /// What is left of the last one.
    batch: vec::IntoIter<Next<T>>,
    room: Arc<AtomicUsize>,
}

impl<T> Reader<T> {
    /// Waits for the next item; `None` when the writer is gone and all is read.
    pub(crate) async fn next(&mut self) -> Option<Next<T>> {
        // Others want to run as well, however many there are in a batch.
        consume_budget().await;
        loop {
            if let Some(next) = self.batch.next() {
                return Some(next);
            }
            let batch = self.batches.recv().await?;
            self.open(batch);
        }
    }

    /// The next item, if one is there.
    pub(crate) fn try_next(&mut self) -> Option<Next<T>> {
        loop {
            if let Some(next) = self.batch.next() {
                return Some(next);
            }
            let batch = self.batches.try_recv().ok()?;
            self.open(batch);
        }
    }

    fn open(&mut self, batch: Batch<T>) {
        self.room.fetch_add(batch.bytes, Ordering::Relaxed);
        self.batch = batch.items.into_iter();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_counted_where_it_is_missing() {
        let (mut writer, mut reader) = backlog(1000);
        for n in 0..5 {
            assert!(writer.push(n, 72));
        }
        assert_eq!(reader.try_next(), None, "nothing goes before it is flushed");
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
}
