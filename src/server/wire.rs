//! The byte stream of one connection. It counts the bytes, and fails once the connection is aborted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::disconnect::UpgradedConnections;
use crate::adapter::Sid;

/// A handle to a connection, with which the server can abort it.
pub(super) struct ConnectionHandle {
    pub(super) peer: SocketAddr,
    pub(super) abort: CancellationToken,
    /// The session that upgraded from polling to this connection.
    pub(super) session: OnceLock<Sid>,
}

/// A stream whose reads and writes fail once its handle is aborted.
pub(super) struct Wire<S> {
    stream: S,
    handle: Arc<ConnectionHandle>,
    upgraded: Arc<UpgradedConnections>,
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
        upgraded: Arc<UpgradedConnections>,
        token: TaskTrackerToken,
    ) -> Self {
        let aborted = || Box::pin(handle.abort.clone().cancelled_owned());
        Self {
            stream,
            read_abort: aborted(),
            write_abort: aborted(),
            handle,
            upgraded,
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
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        if let Some(sid) = self.handle.session.get() {
            self.upgraded.forget(*sid, &self.handle);
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
        this.sent.increment(written as u64);
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
        this.sent.increment(written as u64);
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
