//! Bounds the packets in one request of a client that polls.
//!
//! engineioxide handles all packets of a request before anything else runs, and each may start a task. So a request with very many
//! short packets would take much memory at once. Its session ends instead.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// How many packets one request may have. A browser sends what was emitted while its last request was under way.
const MAX_PACKETS: usize = 10_000;

/// What separates the packets of a request.
const SEPARATOR: u8 = 0x1e;

/// The body of a request, which fails after too many packets.
pub(super) struct PacketLimit<B> {
    body: B,
    separators: usize,
}

impl<B> PacketLimit<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, separators: 0 }
    }
}

impl<B> HttpBody for PacketLimit<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        let count = |data: &Bytes| data.iter().filter(|byte| **byte == SEPARATOR).count();
        self.separators += frame.data_ref().map_or(0, count);
        if self.separators >= MAX_PACKETS {
            let message = format!("a request with more than {MAX_PACKETS} packets");
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::QuotaExceeded, message))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
