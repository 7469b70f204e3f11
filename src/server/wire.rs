//! The byte stream of one connection. It counts the bytes, and fails once the connection is aborted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::client_buffers::ClientBuffer;
use super::disconnect::UpgradedConnections;
use super::readers::Readers;
use super::undecided::UndecidedNamespaces;
use crate::adapter::Sid;

/// A handle to a connection, with which the server can abort it.
pub(super) struct ConnectionHandle {
    pub(super) peer: SocketAddr,
    pub(super) abort: CancellationToken,
    /// The session that upgraded from polling to this connection.
    pub(super) session: OnceLock<Sid>,
    /// What waits for the client of this connection, once it is a websocket.
    pub(super) buffer: OnceLock<Arc<ClientBuffer>>,
    /// The namespaces that wait for the decision on the clients of this connection.
    pub(super) undecided: UndecidedNamespaces,
    is_websocket: AtomicBool,
    /// The polling session of the last request.
    polling: Mutex<Option<Sid>>,
}

impl ConnectionHandle {
    pub(super) fn new(peer: SocketAddr, abort: CancellationToken) -> Self {
        Self {
            peer,
            abort,
            session: OnceLock::new(),
            buffer: OnceLock::new(),
            undecided: UndecidedNamespaces::default(),
            is_websocket: AtomicBool::new(false),
            polling: Mutex::default(),
        }
    }

    /// The connection becomes a websocket.
    pub(super) fn upgrade(&self) {
        self.is_websocket.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_websocket(&self) -> bool {
        self.is_websocket.load(Ordering::Relaxed)
    }

    /// The next request on this connection is for this polling session.
    pub(super) fn set_polling(&self, sid: Option<Sid>) {
        self.undecided.restart();
        *self.polling.lock().unwrap_or_else(PoisonError::into_inner) = sid;
    }

    pub(super) fn polling(&self) -> Option<Sid> {
        *self.polling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all streams of a server share.
#[derive(Clone)]
pub(super) struct Wires {
    pub(super) upgraded: Arc<UpgradedConnections>,
    pub(super) readers: Arc<Readers>,
}

/// A stream whose reads and writes fail once its handle is aborted.
pub(super) struct Wire<S> {
    stream: S,
    handle: Arc<ConnectionHandle>,
    wires: Wires,
    /// The task that reads.
    reader: Option<task::Id>,
    // One for each direction, since different tasks poll them.
    read_abort: Pin<Box<WaitForCancellationFutureOwned>>,
    write_abort: Pin<Box<WaitForCancellationFutureOwned>>,
    received: Counter,
    sent: Counter,
    /// Counts this connection as open until it is dropped.
    _token: TaskTrackerToken,
}

impl<S> Wire<S> {
    pub(super) fn new(
        stream: S,
        handle: Arc<ConnectionHandle>,
        wires: Wires,
        token: TaskTrackerToken,
    ) -> Self {
        let aborted = || Box::pin(handle.abort.clone().cancelled_owned());
        Self {
            stream,
            read_abort: aborted(),
            write_abort: aborted(),
            handle,
            wires,
            reader: None,
            received: metrics::counter!("pgio_bytes_received_total"),
            sent: metrics::counter!("pgio_bytes_sent_total"),
            _token: token,
        }
    }

    fn poll_abort(
        aborted: &mut Pin<Box<WaitForCancellationFutureOwned>>,
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        match aborted.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "aborted by the server")),
            Poll::Pending => Ok(()),
        }
    }

    /// Notes which task reads: first the one that serves HTTP, then the one of the websocket.
    fn note_reader(&mut self) {
        let task = task::try_id();
        if task != self.reader {
            self.wires.readers.replace(self.reader, task, &self.handle);
            self.reader = task;
        }
    }

    fn count_sent(&self, bytes: usize) {
        self.sent.increment(bytes as u64);
        if let Some(buffer) = self.handle.buffer.get() {
            buffer.sent(bytes);
        }
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        self.wires.readers.replace(self.reader, None, &self.handle);
        if let Some(sid) = self.handle.session.get() {
            self.wires.upgraded.forget(*sid, &self.handle);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        Self::poll_abort(&mut this.read_abort, context)?;
        this.note_reader();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.received.increment((buffer.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        Self::poll_abort(&mut this.write_abort, context)?;
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.count_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        Self::poll_abort(&mut this.write_abort, context)?;
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, bytes))?;
        this.count_sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        Self::poll_abort(&mut this.write_abort, context)?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        Self::poll_abort(&mut this.write_abort, context)?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}
