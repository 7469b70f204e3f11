//! The bytes of one connection: counted, and cut off when that is called for.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::cutting::Upgrades;
use crate::adapter::Sid;

/// A connection, as those know it who may want to cut it off.
pub(super) struct Line {
    pub(super) peer: SocketAddr,
    pub(super) cut: CancellationToken,
    /// The session that came over to this connection from polling.
    pub(super) upgraded: OnceLock<Sid>,
}

/// A stream that ends with an error on both sides once its line is cut.
pub(super) struct Wire<S> {
    stream: S,
    line: Arc<Line>,
    upgrades: Arc<Upgrades>,
    // One for each direction: they are polled by different tasks.
    read_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    write_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    received: Counter,
    sent: Counter,
    /// Says that this is there.
    _token: TaskTrackerToken,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, line: Arc<Line>, upgrades: Arc<Upgrades>, token: TaskTrackerToken) -> Self {
        let cut = || Box::pin(line.cut.clone().cancelled_owned());
        Self {
            stream,
            read_cut: cut(),
            write_cut: cut(),
            line,
            upgrades,
            received: metrics::counter!("pgio_bytes_received_total"),
            sent: metrics::counter!("pgio_bytes_sent_total"),
            _token: token,
        }
    }

    fn poll_cut(
        cut: &mut Pin<Box<WaitForCancellationFutureOwned>>,
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        match cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut off")),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        if let Some(sid) = self.line.upgraded.get() {
            self.upgrades.forget(*sid, &self.line);
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
        Self::poll_cut(&mut this.read_cut, context)?;
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
        Self::poll_cut(&mut this.write_cut, context)?;
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
        Self::poll_cut(&mut this.write_cut, context)?;
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, bytes))?;
        this.sent.increment(written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        Self::poll_cut(&mut this.write_cut, context)?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        Self::poll_cut(&mut this.write_cut, context)?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}
