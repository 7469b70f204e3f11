//! The byte stream of one connection. It counts the bytes, and fails once the connection is aborted.
//!
//! It bounds the memory that a client can occupy (backpressure): the server stops reading from a client that does not read,
//! and disconnects it after a timeout. It also disconnects a client that sends too much before it is admitted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::connection_handle::ConnectionHandle;
use super::disconnect::{Reason, UpgradedConnections};
use super::readers::Readers;
use super::traffic::Traffic;

/// The maximum bytes that a client may send on a websocket before it is admitted to a namespace.
pub(super) const UNADMITTED_BYTES: usize = 64 << 10;

/// The maximum bytes that are read from a client while it does not read. Each byte may cause a response, so a client that
/// reads slowly may send only as much more as it reads.
const UNANSWERED_BYTES: usize = 256 << 10;

/// The timeout of a blocked write.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The state that all streams of a server share.
#[derive(Clone)]
pub(super) struct ClientStreams {
    pub(super) upgraded: Arc<UpgradedConnections>,
    pub(super) readers: Arc<Readers>,
    pub(super) traffic: Arc<Traffic>,
    /// The timeout of a blocked write.
    pub(super) write_timeout: Duration,
}

/// Detects whether the client reads.
#[derive(Default)]
struct Backpressure {
    /// Runs while the last write had to wait.
    stalled: Option<Pin<Box<Sleep>>>,
    /// The bytes that were read from the client while writes waited, minus those that were written since then. The
    /// responses to them may be in memory until everything is written.
    unanswered: usize,
    /// The task that may read again once something is written.
    reader: Option<Waker>,
}

impl Backpressure {
    /// Records a write.
    fn on_write(&mut self, outcome: &Poll<io::Result<usize>>, timeout: Duration) {
        match outcome {
            Poll::Pending => self.wait(timeout),
            Poll::Ready(Ok(written)) => {
                self.unanswered = self.unanswered.saturating_sub(*written);
                self.go_on();
            }
            // The task that reads finds the error as well.
            Poll::Ready(Err(_)) => self.go_on(),
        }
    }

    /// Records a flush, or the end of the output. hyper and the websocket library flush only after everything is written. A
    /// direct write flushes before the websocket goes on, so responses to twice the limit may be in memory then.
    fn on_flush(&mut self, outcome: &Poll<io::Result<()>>, timeout: Duration) {
        match outcome {
            Poll::Pending => self.wait(timeout),
            Poll::Ready(_) => {
                self.unanswered = 0;
                self.go_on();
            }
        }
    }

    fn wait(&mut self, timeout: Duration) {
        self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
    }

    fn go_on(&mut self) {
        self.stalled = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether the last write has waited too long. Both directions poll the timer, since it wakes only the task that
    /// polled it last.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.stalled.as_mut().is_some_and(|stalled| stalled.as_mut().poll(context).is_ready())
    }

    /// Whether more may be read from the client now.
    fn may_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.stalled.is_none() || self.unanswered < UNANSWERED_BYTES {
            return Poll::Ready(());
        }
        self.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn read(&mut self, bytes: usize) {
        if self.stalled.is_some() {
            self.unanswered += bytes;
        }
    }
}

/// Wakes a task that waits for the client when the connection is aborted.
#[derive(Default)]
struct AbortWaker(Option<Pin<Box<WaitForCancellationFutureOwned>>>);

impl AbortWaker {
    /// Registers the task. Fails if the connection is aborted already, by itself or with all the others of the server.
    fn register(&mut self, handle: &ConnectionHandle, context: &mut Context<'_>) -> io::Result<()> {
        let wait = self.0.get_or_insert_with(|| Box::pin(handle.aborted()));
        if wait.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        Err(handle.learn_abort())
    }
}

/// A stream whose reads and writes fail once its handle is aborted. After the first write that fails, engineioxide drops
/// packets but goes on writing, so no later write may succeed.
pub(super) struct ClientStream<S> {
    stream: S,
    /// The first bytes of a websocket: they were read with its request.
    early: Bytes,
    handle: Arc<ConnectionHandle>,
    wires: ClientStreams,
    /// The task that reads.
    reader: Option<task::Id>,
    // One for each direction, since different tasks poll them. The task that reads writes as well if a part of an event is
    // left (`direct_write`); then it wakes the other one.
    read_abort: AbortWaker,
    write_abort: AbortWaker,
    /// The bytes that were read on a websocket before its client was admitted.
    unadmitted: usize,
    backpressure: Backpressure,
    /// Counts this connection as open until it is dropped.
    _token: TaskTrackerToken,
}

impl<S> ClientStream<S> {
    pub(super) fn new(
        stream: S,
        handle: Arc<ConnectionHandle>,
        wires: ClientStreams,
        token: TaskTrackerToken,
    ) -> Self {
        Self {
            stream,
            early: Bytes::new(),
            read_abort: AbortWaker::default(),
            write_abort: AbortWaker::default(),
            handle,
            wires,
            reader: None,
            unadmitted: 0,
            backpressure: Backpressure::default(),
            _token: token,
        }
    }

    /// The next reads return these bytes, which were read and counted before.
    pub(super) fn unread(mut self, bytes: &[u8]) -> Self {
        self.early = Bytes::copy_from_slice(bytes);
        self
    }

    /// Aborts the connection when its client has read nothing for too long.
    fn poll_stalled(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.backpressure.is_over(context) {
            return Ok(());
        }
        self.backpressure.stalled = None;
        Reason::TooSlow.count();
        self.handle.abort();
        Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))
    }

    /// Waits for the client. Aborts the connection if writes are blocked for too long.
    fn wait_to_write<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.poll_stalled(context)?;
        self.write_abort.register(&self.handle, context)?;
        Poll::Pending
    }

    /// Records the result of a flush, or of the end of the output.
    fn on_flush(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        self.backpressure.on_flush(&outcome, self.wires.write_timeout);
        if outcome.is_pending() { self.wait_to_write(context) } else { outcome }
    }

    /// Counts received bytes. Fails for a client that sends too much before it is admitted.
    fn count_received(&mut self, bytes: usize) -> io::Result<()> {
        self.wires.traffic.received(bytes);
        self.backpressure.read(bytes);
        if self.handle.is_unadmitted() {
            self.unadmitted = self.unadmitted.saturating_add(bytes);
            if self.unadmitted > UNADMITTED_BYTES {
                Reason::Unadmitted.count();
                return Err(io::Error::new(
                    io::ErrorKind::QuotaExceeded,
                    "too many bytes before the client is connected to a namespace",
                ));
            }
        }
        Ok(())
    }

    /// Records the task that reads: first the task that serves HTTP, then the task of the websocket.
    fn record_reader(&mut self) {
        let task = task::try_id();
        if task != self.reader {
            self.wires.readers.replace(self.reader, task, &self.handle);
            self.reader = task;
        }
    }

    /// Writes once, and counts the bytes.
    fn poll_counted(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>>
    where
        S: Unpin,
    {
        self.handle.check_abort()?;
        let outcome = write(Pin::new(&mut self.stream), context);
        self.backpressure.on_write(&outcome, self.wires.write_timeout);
        let Poll::Ready(written) = outcome else { return self.wait_to_write(context) };
        let written = written?;
        self.wires.traffic.sent(written);
        Poll::Ready(Ok(written))
    }
}

impl<S> Drop for ClientStream<S> {
    fn drop(&mut self) {
        self.wires.readers.replace(self.reader, None, &self.handle);
        if let Some(sid) = self.handle.session.get() {
            self.wires.upgraded.forget(*sid, &self.handle);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.handle.check_abort()?;
        this.record_reader();
        this.poll_stalled(context)?;
        if !this.early.is_empty() {
            let count = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early.split_to(count));
            if this.early.is_empty() {
                // Releases the memory.
                this.early = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let outcome = match this.backpressure.may_read(context) {
            Poll::Ready(()) => Pin::new(&mut this.stream).poll_read(context, buffer)?,
            Poll::Pending => Poll::Pending,
        };
        if outcome.is_pending() {
            this.read_abort.register(&this.handle, context)?;
            return Poll::Pending;
        }
        Poll::Ready(this.count_received(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_counted(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_counted(context, |stream, context| stream.poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.handle.check_abort()?;
        let outcome = Pin::new(&mut this.stream).poll_flush(context);
        this.on_flush(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.handle.check_abort()?;
        let outcome = Pin::new(&mut this.stream).poll_shutdown(context);
        this.on_flush(context, outcome)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_util::task::TaskTracker;

    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use futures_util::FutureExt;
    use tokio::io::DuplexStream;
    use tokio::task::unconstrained;
    use tokio_util::sync::CancellationToken;

    use super::super::connection_handle::ConnectionPermit;
    use super::*;

    pub(in super::super) fn stream_of(
        client: DuplexStream,
        all: &CancellationToken,
    ) -> ClientStream<DuplexStream> {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let handle = Arc::new(ConnectionHandle::new(peer, all.child_token(), ConnectionPermit::None));
        let wires = ClientStreams {
            upgraded: Arc::default(),
            readers: Arc::default(),
            traffic: Arc::default(),
            write_timeout: Duration::from_millis(50),
        };
        ClientStream::new(client, handle, wires, TaskTracker::new().token())
    }

    /// Whether the server reads from the client, after a write that has to wait.
    fn may_read(backpressure: &mut Backpressure) -> bool {
        backpressure.on_write(&Poll::Pending, WRITE_TIMEOUT);
        backpressure.may_read(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn a_client_that_reads_little_may_send_little() {
        let mut backpressure = Backpressure::default();
        assert!(may_read(&mut backpressure));
        backpressure.read(UNANSWERED_BYTES);
        for _ in 0..100 {
            assert!(!may_read(&mut backpressure));
            backpressure.on_write(&Poll::Ready(Ok(2000)), WRITE_TIMEOUT);
            assert!(may_read(&mut backpressure));
            backpressure.read(2000);
        }
        assert!(!may_read(&mut backpressure));
        // Everything is written.
        backpressure.on_write(&Poll::Ready(Ok(2000)), WRITE_TIMEOUT);
        backpressure.on_flush(&Poll::Ready(Ok(())), WRITE_TIMEOUT);
        assert!(may_read(&mut backpressure));
        backpressure.read(UNANSWERED_BYTES - 1);
        assert!(may_read(&mut backpressure));
    }

    #[tokio::test]
    async fn a_client_that_reads_may_send_any_number_of_bytes() {
        let mut backpressure = Backpressure::default();
        for _ in 0..100 {
            assert!(may_read(&mut backpressure));
            backpressure.read(UNANSWERED_BYTES - 1);
            backpressure.on_flush(&Poll::Ready(Ok(())), WRITE_TIMEOUT);
            // Nothing waits for the client now.
            backpressure.read(2 * UNANSWERED_BYTES);
        }
        assert!(may_read(&mut backpressure));
    }

    /// Answers each byte with a byte, and holds the answers that the stream does not take, as the websocket library holds
    /// pongs. Returns when neither a read nor a write goes on.
    fn echo(stream: &mut ClientStream<DuplexStream>, held: &mut Vec<u8>) {
        let context = &mut Context::from_waker(Waker::noop());
        loop {
            while !held.is_empty()
                && let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(context, held)
            {
                held.drain(..written.unwrap());
            }
            if held.is_empty() {
                assert!(Pin::new(&mut *stream).poll_flush(context).is_ready());
            }
            let mut bytes = [0; 256];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(read) => read.unwrap(),
                Poll::Pending => return,
            }
            held.extend(buffer.filled());
        }
    }

    #[tokio::test]
    async fn the_answers_to_a_client_that_reads_slowly_hold_little_memory() {
        let (server, mut client) = duplex(1 << 10);
        let mut stream = stream_of(server, &CancellationToken::new());
        stream.wires.write_timeout = WRITE_TIMEOUT;
        let (mut held, mut most_held, mut received) = (Vec::new(), 0, 0);
        // tokio's budget for the current task would end the reads and writes.
        let attack = unconstrained(async {
            let mut pipe = [0; 1 << 10];
            for _ in 0..200 {
                while client.write(&pipe).now_or_never().is_some() {
                    echo(&mut stream, &mut held);
                }
                most_held = most_held.max(held.len());
                received += client.read(&mut pipe).await.unwrap();
                echo(&mut stream, &mut held);
            }
        });
        attack.now_or_never().expect("nothing waits");
        assert!(most_held < UNANSWERED_BYTES + 1000, "{most_held} bytes are held, {received} were received");
        assert!(most_held > UNANSWERED_BYTES / 2 && received > 100_000);
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn the_task_that_reads_is_woken_by_each_write() {
        let outcomes: [fn(&mut Backpressure); 3] = [
            |backpressure| backpressure.on_write(&Poll::Ready(Ok(1)), WRITE_TIMEOUT),
            |backpressure| {
                backpressure.on_write(&Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())), WRITE_TIMEOUT)
            },
            |backpressure| backpressure.on_flush(&Poll::Ready(Ok(())), WRITE_TIMEOUT),
        ];
        for outcome in outcomes {
            let mut backpressure = Backpressure::default();
            backpressure.on_write(&Poll::Pending, WRITE_TIMEOUT);
            backpressure.read(UNANSWERED_BYTES);
            let woken = Arc::new(Woken(AtomicBool::new(false)));
            let waker = woken.clone().into();
            assert!(backpressure.may_read(&mut Context::from_waker(&waker)).is_pending());
            outcome(&mut backpressure);
            assert!(woken.0.load(Ordering::Relaxed));
            assert!(backpressure.may_read(&mut Context::from_waker(&waker)).is_ready());
        }
    }

    /// The other end has room, so no write would have to wait.
    #[tokio::test]
    async fn nothing_is_read_or_written_after_an_abort() {
        let (client, mut server) = duplex(1 << 10);
        let mut stream = stream_of(client, &CancellationToken::new());
        stream.write_all(b"before").await.unwrap();
        server.write_all(b"x").await.unwrap();
        stream.handle.abort();
        assert!(stream.write(b"after").await.is_err());
        assert!(stream.flush().await.is_err());
        assert!(stream.read_u8().await.is_err());
        drop(stream);
        let mut written = String::new();
        server.read_to_string(&mut written).await.unwrap();
        assert_eq!(written, "before");
    }

    /// The end of a shutdown aborts all connections with one token.
    #[tokio::test]
    async fn a_task_that_waits_for_the_client_learns_that_all_connections_are_aborted() {
        let (client, mut server) = duplex(1 << 10);
        let all = CancellationToken::new();
        let mut stream = stream_of(client, &all);
        let read = tokio::select! {
            biased;
            read = stream.read_u8() => Some(read),
            () = async { all.cancel(); std::future::pending().await } => None,
        };
        assert!(read.is_some_and(|read| read.is_err()));
        assert!(stream.write(b"after").await.is_err());
        drop(stream);
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
