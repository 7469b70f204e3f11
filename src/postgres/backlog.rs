//! A queue that is bounded in bytes and never makes its writer wait.
//!
//! Whoever reads notifications from Postgres must never stop: a session that does makes the server keep them for
//! everyone, until its queue is full and all publishing fails. So a reader who is too slow loses the newest items, and
//! is told how many.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

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
    /// Gives the room back when the entry is read.
    _room: Option<OwnedSemaphorePermit>,
}

/// A backlog of at most so many bytes.
pub(crate) fn backlog<T>(bytes: usize) -> (Writer<T>, Reader<T>) {
    // Bounded by the bytes, not by the count.
    let (entries, reader) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(bytes));
    (Writer { entries, room, missed: 0 }, Reader { entries: reader })
}

pub(crate) struct Writer<T> {
    entries: mpsc::UnboundedSender<Entry<T>>,
    room: Arc<Semaphore>,
    missed: u64,
}

impl<T> Writer<T> {
    /// Adds an item that holds so many bytes, or counts it as missed. False when nobody reads any more.
    pub(crate) fn push(&mut self, item: T, bytes: usize) -> bool {
        // What an entry costs besides its content.
        let bytes = u32::try_from(bytes + 128).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(bytes) else {
            self.missed += 1;
            return !self.entries.is_closed();
        };
        self.tell_missed() && self.entries.send(Entry { next: Next::Item(item), _room: Some(room) }).is_ok()
    }

    /// Adds an item that must not be missed, whatever else is. For rare items only.
    pub(crate) fn push_always(&mut self, item: T) -> bool {
        self.tell_missed() && self.entries.send(Entry { next: Next::Item(item), _room: None }).is_ok()
    }

    fn tell_missed(&mut self) -> bool {
        match std::mem::take(&mut self.missed) {
            0 => true,
            missed => self.entries.send(Entry { next: Next::Missed(missed), _room: None }).is_ok(),
        }
    }
}

pub(crate) struct Reader<T> {
    entries: mpsc::UnboundedReceiver<Entry<T>>,
}

impl<T> Reader<T> {
    /// Waits for the next entry; `None` when the writer is gone and all is read.
    pub(crate) async fn next(&mut self) -> Option<Next<T>> {
        self.entries.recv().await.map(|entry| entry.next)
    }

    /// The next entry, if one is there.
    pub(crate) fn try_next(&mut self) -> Option<Next<T>> {
        self.entries.try_recv().ok().map(|entry| entry.next)
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
