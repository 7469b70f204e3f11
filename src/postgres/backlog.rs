//! A queue that is bounded in bytes and never makes its writer wait.
//!
//! Whoever reads notifications from Postgres must never stop: a session that does makes the server keep them for
//! everyone, until its queue is full and all publishing fails. So a reader who is too slow loses the newest items, and
//! is told how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

/// What the reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// The next item.
    Item(T),
    /// So many items did not fit, at this place.
    Missed(u64),
}

struct Entry<T> {
    next: Next<T>,
    /// The room that is given back when the entry is read.
    bytes: usize,
}

/// A backlog of at most so many bytes.
pub(crate) fn backlog<T>(bytes: usize) -> (Writer<T>, Reader<T>) {
    // Bounded by the bytes, not by the count.
    let (entries, reader) = mpsc::unbounded_channel();
    let room = Arc::new(AtomicUsize::new(bytes));
    (Writer { entries, room: room.clone(), missed: 0 }, Reader { entries: reader, room })
}

pub(crate) struct Writer<T> {
    entries: mpsc::UnboundedSender<Entry<T>>,
    /// Only the one writer takes of it, so what it sees there is there.
    room: Arc<AtomicUsize>,
    missed: u64,
}

impl<T> Writer<T> {
    /// Adds an item that holds so many bytes, or counts it as missed. False when nobody reads any more.
    pub(crate) fn push(&mut self, item: T, bytes: usize) -> bool {
        // What an entry costs besides its content.
        let bytes = bytes + 128;
        if self.room.load(Ordering::Relaxed) < bytes {
            self.missed += 1;
            return !self.entries.is_closed();
        }
        self.room.fetch_sub(bytes, Ordering::Relaxed);
        self.tell_missed() && self.entries.send(Entry { next: Next::Item(item), bytes }).is_ok()
    }

    /// Adds an item that must not be missed, whatever else is. For rare items only.
    pub(crate) fn push_always(&mut self, item: T) -> bool {
        self.tell_missed() && self.entries.send(Entry { next: Next::Item(item), bytes: 0 }).is_ok()
    }

    fn tell_missed(&mut self) -> bool {
        match std::mem::take(&mut self.missed) {
            0 => true,
            missed => self.entries.send(Entry { next: Next::Missed(missed), bytes: 0 }).is_ok(),
        }
    }
}

pub(crate) struct Reader<T> {
    entries: mpsc::UnboundedReceiver<Entry<T>>,
    room: Arc<AtomicUsize>,
}

impl<T> Reader<T> {
    /// Waits for the next entry; `None` when the writer is gone and all is read.
    pub(crate) async fn next(&mut self) -> Option<Next<T>> {
        let entry = self.entries.recv().await?;
        Some(self.take(entry))
    }

    /// The next entry, if one is there.
    pub(crate) fn try_next(&mut self) -> Option<Next<T>> {
        let entry = self.entries.try_recv().ok()?;
        Some(self.take(entry))
    }

    fn take(&self, entry: Entry<T>) -> Next<T> {
        self.room.fetch_add(entry.bytes, Ordering::Relaxed);
        entry.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_counted_where_it_is_missing() {
        let (mut writer, mut reader) = backlog(1000);
        for n in 0..10 {
            assert!(writer.push(n, 122));
        }
        for n in 0..4 {
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
        assert_eq!(rest, [Next::Missed(6), Next::Item(10), Next::Item(11)]);
    }
}
