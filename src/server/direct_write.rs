//! Writes events to websockets directly, without engineioxide's queue and without waking the task of the client.
//!
//! A queue with its task costs as much as the write itself. So if nothing waits for a client, events go from the broadcast to
//! the client's socket. What does not fit into the socket's buffer is written by the task that reads from the client.
//!
//! The order stays that of the queue: events are written directly only if every packet that was queued before them is written
//! (`client_buffers`), and only between two packets (`sent_packets`).

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use socketioxide_core::Value as CoreValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::task::unconstrained;

use super::client_buffers::ClientBuffers;
use super::event_frames;
use super::sent_packets::{Sent, SentFrames};
use crate::adapter::Sid;

/// A websocket to which events can be written directly.
pub(super) trait DirectWrite: Send + Sync {
    /// Writes the frames of events, or keeps what does not fit into the socket's buffer. Returns false if the events have to
    /// be queued.
    fn write(&self, frames: &Bytes) -> bool;

    /// Whether a part of the events is kept, unless the connection is busy at the moment.
    fn has_rest(&self) -> bool;
}

/// Writes events to each of the clients for which nothing waits, encoded by `encode`. Returns the others, in the same order.
pub(super) fn write_to_idle(
    buffers: &ClientBuffers,
    sids: &[Sid],
    encode: impl Fn() -> Vec<CoreValue>,
) -> Vec<Sid> {
    // A write that has to wait needs a timer.
    if Handle::try_current().is_err() {
        return sids.to_vec();
    }
    let websockets = buffers.idle_websockets(sids);
    let mut others = Vec::new();
    let mut frames = None;
    let write = async {
        for (sid, websocket) in sids.iter().zip(websockets) {
            let is_written = websocket.is_some_and(|websocket| {
                websocket.write(frames.get_or_insert_with(|| event_frames::frames(&encode())))
            });
            if !is_written {
                others.push(*sid);
            }
        }
    };
    // tokio's budget for the current task would end the writes after some 100 clients. Only `unconstrained` lifts it, and that
    // takes a future. This one never waits.
    unconstrained(write).now_or_never();
    others
}

/// The stream of a websocket, which the tasks of engineioxide and the broadcasts share.
pub(super) struct SharedStream<S>(Mutex<Output<S>>);

/// The stream, and the state of its output.
struct Output<S> {
    stream: S,
    sent: SentFrames,
    /// What is left of a direct write. Empty if it only has to be flushed.
    rest: Option<Bytes>,
    /// The task that reads from the client. It writes the rest.
    reader: Option<Waker>,
    /// The task that writes, while it waits for the rest.
    writer: Option<Waker>,
    /// Whether a write of that task waits for the client.
    is_blocked: bool,
}

impl<S> SharedStream<S> {
    pub(super) fn new(stream: S, sent: SentFrames) -> Self {
        Self(Mutex::new(Output { stream, sent, rest: None, reader: None, writer: None, is_blocked: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Output<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SharedStream<S> {
    /// Reads once `may_read` is ready. Also writes the rest of a direct write.
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        may_read: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let mut output = self.lock();
        if !output.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
            output.reader = Some(context.waker().clone());
        }
        if let Poll::Ready(Err(error)) = output.poll_rest(context) {
            return Poll::Ready(Err(error));
        }
        ready!(may_read(context))?;
        Pin::new(&mut output.stream).poll_read(context, buffer)
    }

    /// Writes bytes of the websocket. Returns their number, and the packets that they complete.
    pub(super) fn poll_write(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<(usize, Sent)>> {
        let mut output = self.lock();
        ready!(output.poll_for_writer(context))?;
        let outcome = Pin::new(&mut output.stream).poll_write(context, bytes);
        output.is_blocked = outcome.is_pending();
        let written = ready!(outcome)?;
        let sent = output.sent.written(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok((written, sent)))
    }

    pub(super) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut output = self.lock();
        ready!(output.poll_for_writer(context))?;
        let outcome = Pin::new(&mut output.stream).poll_flush(context);
        // A write that waits is not over after a flush.
        output.is_blocked |= outcome.is_pending();
        outcome
    }

    pub(super) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(context)
    }
}

impl<S: AsyncWrite + Unpin> Output<S> {
    /// Writes the rest of a direct write, and then wakes the task that waits for it.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(Ok(())) };
        let outcome = ready!(poll_write_all(Pin::new(&mut self.stream), rest, context));
        if outcome.is_ok() {
            self.rest = None;
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Poll::Ready(outcome)
    }

    /// Writes the rest of a direct write before the writing task goes on. Both tasks try it, since the stream wakes only
    /// the one that tried last.
    fn poll_for_writer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.poll_rest(context);
        if outcome.is_pending() {
            self.writer = Some(context.waker().clone());
        }
        outcome
    }

    fn write_directly(&mut self, frames: &Bytes) -> bool {
        if self.rest.is_some() || self.is_blocked || !self.sent.is_between_packets() {
            return false;
        }
        let Some(reader) = self.reader.take() else { return false };
        let mut context = Context::from_waker(&reader);
        let written = match Pin::new(&mut self.stream).poll_write(&mut context, frames) {
            Poll::Ready(Ok(written @ 1..)) => Some(written),
            // With TLS a part of it may be encrypted already, and the same bytes have to follow.
            Poll::Pending => Some(0),
            // The queue finds the error.
            Poll::Ready(_) => None,
        };
        if let Some(written) = written {
            self.rest = Some(frames.slice(written..));
            if written > 0 && matches!(self.poll_rest(&mut context), Poll::Ready(Err(_))) {
                // The task finds the error.
                reader.wake_by_ref();
            }
        }
        self.reader = Some(reader);
        written.is_some()
    }
}

/// Writes bytes, removes what is written, and flushes.
fn poll_write_all<S: AsyncWrite>(
    mut stream: Pin<&mut S>,
    bytes: &mut Bytes,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !bytes.is_empty() {
        match ready!(stream.as_mut().poll_write(context, bytes))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => bytes.advance(written),
        }
    }
    stream.poll_flush(context)
}

impl<S: AsyncWrite + Unpin + Send> DirectWrite for SharedStream<S> {
    fn write(&self, frames: &Bytes) -> bool {
        match self.0.try_lock() {
            Ok(mut output) => output.write_directly(frames),
            Err(TryLockError::Poisoned(output)) => output.into_inner().write_directly(frames),
            // The connection is busy.
            Err(TryLockError::WouldBlock) => false,
        }
    }

    fn has_rest(&self) -> bool {
        self.0.try_lock().is_ok_and(|output| output.rest.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio_util::sync::CancellationToken;

    use super::super::client_stream;
    use super::super::options::Parser;
    use super::*;

    fn event(text: &str) -> Bytes {
        event_frames::frames(&[CoreValue::Str(text.to_owned().into(), None)])
    }

    fn shared(capacity: usize) -> (Arc<SharedStream<DuplexStream>>, DuplexStream) {
        let (server, client) = duplex(capacity);
        (Arc::new(SharedStream::new(server, SentFrames::new(Parser::Default))), client)
    }

    /// Starts the task that reads from the client, and waits until it does.
    async fn start_reader(stream: &Arc<SharedStream<DuplexStream>>) {
        let stream = stream.clone();
        let (started, wait) = tokio::sync::oneshot::channel();
        let mut started = Some(started);
        tokio::spawn(poll_fn(move |context| {
            let mut bytes = [0; 16];
            let outcome = stream.poll_read(context, &mut ReadBuf::new(&mut bytes), |_| Poll::Ready(Ok(())));
            started.take().map(|started| started.send(()));
            outcome
        }));
        wait.await.unwrap();
    }

    async fn write_all(stream: &SharedStream<DuplexStream>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (written, _) = poll_fn(|context| stream.poll_write(context, bytes)).await.unwrap();
            bytes = &bytes[written..];
        }
    }

    async fn read(client: &mut DuplexStream, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        client.read_exact(&mut read).await.unwrap();
        read
    }

    #[tokio::test]
    async fn an_event_is_written_between_two_packets() {
        let (stream, mut client) = shared(1 << 10);
        let binary = [event("51-[{}]"), Bytes::from_static(&[0x82, 1, 7])].concat();
        let direct = event("2[1]");
        assert!(!stream.write(&direct), "without a task that could write the rest");
        start_reader(&stream).await;
        assert!(stream.write(&direct));
        for cut in 1..binary.len() {
            write_all(&stream, &binary[..cut]).await;
            assert!(!stream.write(&direct), "{cut}");
            write_all(&stream, &binary[cut..]).await;
            assert!(stream.write(&direct), "{cut}");
            let expected = [&direct, &*binary].concat();
            assert_eq!(read(&mut client, expected.len()).await, expected);
        }
    }

    #[tokio::test]
    async fn the_reading_task_writes_the_rest_and_the_writing_task_waits() {
        let (stream, mut client) = shared(8);
        start_reader(&stream).await;
        let (first, second) = (event("2[\"first\"]"), event("2[\"second\"]"));
        assert!(stream.write(&first) && !stream.write(&second));
        let writer = {
            let (stream, second) = (stream.clone(), second.clone());
            tokio::spawn(async move { write_all(&stream, &second).await })
        };
        tokio::task::yield_now().await;
        assert!(!writer.is_finished());
        let expected = [first, second].concat();
        assert_eq!(read(&mut client, expected.len()).await, expected);
        writer.await.unwrap();
        let third = event("2[3]");
        assert!(stream.write(&third));
        assert_eq!(read(&mut client, third.len()).await, third);
    }

    /// Takes bytes and returns `Pending`, as TLS does. The next write has to begin with the same bytes.
    struct Encrypting {
        taken: Vec<u8>,
        written: Vec<u8>,
        is_full: bool,
    }

    impl AsyncWrite for Encrypting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            assert!(bytes.starts_with(&self.taken));
            if self.is_full {
                self.taken = bytes.to_vec();
                return Poll::Pending;
            }
            self.taken.clear();
            self.written.extend(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Encrypting {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_write_that_waits_is_not_replaced_by_another() {
        let stream = Encrypting { taken: Vec::new(), written: Vec::new(), is_full: true };
        let stream = SharedStream::new(stream, SentFrames::new(Parser::Default));
        let context = &mut Context::from_waker(Waker::noop());
        let mut read = |stream: &SharedStream<_>| {
            stream.poll_read(context, &mut ReadBuf::new(&mut []), |_| Poll::Ready(Ok(())))
        };
        assert!(read(&stream).is_pending());
        let (first, second) = (event("2[\"first\"]"), event("2[2]"));
        assert!(stream.write(&first) && stream.has_rest() && !stream.write(&second));
        let context = &mut Context::from_waker(Waker::noop());
        assert!(stream.poll_write(context, b"\x81\x012").is_pending());
        stream.lock().stream.is_full = false;
        assert!(read(&stream).is_pending() && !stream.has_rest());
        assert_eq!(stream.lock().stream.written, first);
        assert!(stream.write(&second));
        assert_eq!(stream.lock().stream.written, [first, second].concat());
    }

    #[tokio::test]
    async fn a_client_that_never_reads_the_rest_is_cut_off() {
        let (server, _client) = duplex(8);
        let server = client_stream::tests::stream_of(server, &CancellationToken::new());
        let stream = SharedStream::new(server, SentFrames::new(Parser::Default));
        let mut wrote = false;
        let read = poll_fn(|context| {
            let outcome = stream.poll_read(context, &mut ReadBuf::new(&mut [0]), |_| Poll::Ready(Ok(())));
            if !wrote {
                wrote = stream.write(&event("2[\"first\"]"));
            }
            outcome
        });
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), read).await;
        assert_eq!(read.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(wrote && stream.has_rest());
    }

    #[tokio::test]
    async fn nothing_is_written_while_the_writing_task_waits_for_the_client() {
        let (stream, mut client) = shared(4);
        start_reader(&stream).await;
        write_all(&stream, b"\x81\x022!").await;
        let ping = {
            let stream = stream.clone();
            tokio::spawn(async move { write_all(&stream, b"\x81\x022?").await })
        };
        tokio::task::yield_now().await;
        assert!(!stream.write(&event("2[1]")));
        assert_eq!(read(&mut client, 8).await, b"\x81\x022!\x81\x022?");
        ping.await.unwrap();
    }
}
