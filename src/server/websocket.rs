//! The byte stream of a websocket, between its connection and socketioxide.
//!
//! It parses the frames of a client, and bounds the memory of the incomplete messages of an address: a large message is
//! read only after its quota is available. A Socket.IO event with attachments is complete with its last attachment. It also
//! counts the packets that are sent to the client.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::client_buffers::Written;
use super::direct_write::{DirectWrite, SharedStream};
use super::disconnect::Reason;
use super::incoming_event::{IncomingEvent, START_BYTES};
use super::posted_event::FREE_BYTES;
use super::quotas::{Address, Incomplete, Quotas};
use super::sent_packets::{Sent, SentFrames};
use super::sessions::Session;

/// The timeout of a message that needs quota.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest head of a frame.
const MAX_HEAD: usize = 14;

/// The stream of a websocket.
pub(super) struct Websocket<S> {
    stream: Arc<SharedStream<S>>,
    frames: Frames,
    /// Counts what was sent, from the first counted packet on.
    written: Option<Arc<Written>>,
    quota: MessageQuota,
    /// The session of the client. The rest of an event that it has posted in part may arrive here.
    session: Arc<Session>,
    /// Called when the websocket ends.
    at_end: Option<Box<dyn FnOnce() + Send>>,
}

/// The quota for the incomplete messages of a client.
struct MessageQuota {
    quotas: Arc<Quotas>,
    address: Arc<Address>,
    /// The number of bytes for which quota is granted.
    granted: u64,
    permits: Vec<Incomplete>,
    waiting: Option<Pin<Box<dyn Future<Output = Option<Incomplete>> + Send>>>,
    waiting_for: u64,
    /// Runs while an incomplete message has quota.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Websocket<S> {
    pub(super) fn new(
        stream: S,
        quotas: Arc<Quotas>,
        address: Arc<Address>,
        sent: SentFrames,
        session: Arc<Session>,
        at_end: Option<Box<dyn FnOnce() + Send>>,
    ) -> Self {
        let quota = MessageQuota {
            quotas,
            address,
            granted: 0,
            permits: Vec::new(),
            waiting: None,
            waiting_for: 0,
            deadline: None,
        };
        let stream = Arc::new(SharedStream::new(stream, sent));
        Self { stream, frames: Frames::default(), written: None, quota, session, at_end }
    }

    /// Counts what was written, for the buffer of the client.
    fn count_sent(&mut self, sent: Sent)
    where
        SharedStream<S>: DirectWrite + 'static,
    {
        if sent == Sent::default() {
            return;
        }
        if self.written.is_none()
            && let Some(buffer) = self.session.buffer()
        {
            self.written = Some(buffer.written());
            // An upgrade from polling is complete, since engineioxide sends packets on the websocket.
            let stream: Arc<dyn DirectWrite> = self.stream.clone();
            buffer.use_websocket(Arc::downgrade(&stream));
        }
        if let Some(written) = &self.written {
            written.add(sent);
        }
    }
}

impl MessageQuota {
    /// Waits for quota for `held` bytes.
    fn poll_for(&mut self, held: u64, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if held == 0 && self.granted > 0 {
            self.granted = 0;
            self.permits.clear();
            self.deadline = None;
        }
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Err(close_connection("incomplete message: timed out")));
        }
        if held <= FREE_BYTES.max(self.granted) {
            return Poll::Ready(Ok(()));
        }
        if self.waiting.is_none() {
            let (quotas, address) = (self.quotas.clone(), self.address.clone());
            let more = held - self.granted;
            self.waiting_for = held;
            self.waiting = Some(Box::pin(async move { quotas.incomplete(&address, more).await }));
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(Ok(())) };
        let permit = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        let Some(permit) = permit else {
            return Poll::Ready(Err(close_connection("too many incomplete messages of this address")));
        };
        self.permits.push(permit);
        self.granted = self.waiting_for;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(MESSAGE_TIMEOUT)));
        if deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(close_connection("incomplete message: timed out")));
        }
        Poll::Ready(Ok(()))
    }
}

fn close_connection(reason: &'static str) -> io::Error {
    Reason::Incomplete.count();
    io::Error::new(io::ErrorKind::QuotaExceeded, reason)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Websocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let (quota, held) = (&mut this.quota, this.frames.held());
        ready!(this.stream.poll_read(context, buffer, |context| quota.poll_for(held, context)))?;
        let posted = || this.session.posted_event().map(|mut event| event.take());
        this.frames.read(buffer.filled().get(before..).unwrap_or_default(), posted);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Websocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (written, sent) = ready!(self.stream.poll_write(context, bytes))?;
        self.count_sent(sent);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(context)
    }
}

impl<S> Drop for Websocket<S> {
    fn drop(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

/// The parser state of a client's frames (RFC 6455) and packets.
#[derive(Default)]
struct Frames {
    head: [u8; MAX_HEAD],
    head_bytes: usize,
    /// The frame whose content is being read.
    frame: Option<Frame>,
    /// Whether the message that is being read is a text.
    is_text: bool,
    /// The start of that text.
    start: [u8; START_BYTES],
    start_bytes: usize,
    /// The announced bytes of the incomplete message.
    announced: u64,
    event: IncomingEvent,
}

struct Frame {
    left: u64,
    is_last: bool,
    is_control: bool,
    mask: [u8; 4],
    read: usize,
}

impl Frames {
    /// The bytes of the incomplete message.
    fn held(&self) -> u64 {
        self.event.held().saturating_add(self.announced)
    }

    /// Parses bytes that the client has sent. `posted` returns the event that the client has posted in part before.
    fn read(&mut self, mut bytes: &[u8], mut posted: impl FnMut() -> Option<IncomingEvent>) {
        while let Some((first, rest)) = bytes.split_first() {
            let Some(frame) = &mut self.frame else {
                self.read_head(*first, &mut posted);
                bytes = rest;
                continue;
            };
            let count = bytes.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
            let (content, rest) = bytes.split_at(count);
            if !frame.is_control {
                for byte in content {
                    let Some(place) = self.start.get_mut(self.start_bytes) else { break };
                    *place = byte ^ frame.mask[frame.read % 4];
                    self.start_bytes += 1;
                    frame.read += 1;
                }
            }
            frame.left -= count as u64;
            bytes = rest;
            if frame.left == 0 {
                self.end_frame(&mut posted);
            }
        }
    }

    fn read_head(&mut self, byte: u8, posted: &mut impl FnMut() -> Option<IncomingEvent>) {
        // Never `None`, since a head has at most `MAX_HEAD` bytes.
        let Some(place) = self.head.get_mut(self.head_bytes) else { return };
        *place = byte;
        self.head_bytes += 1;
        let [first, second, ..] = self.head;
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if second & 0x80 != 0 { 4 } else { 0 };
        if self.head_bytes < 2 + length_bytes + mask_bytes {
            return;
        }
        let length = &self.head[2..2 + length_bytes];
        let left = match length_bytes {
            0 => u64::from(second & 0x7f),
            _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let mut mask = [0; 4];
        mask[..mask_bytes].copy_from_slice(&self.head[2 + length_bytes..2 + length_bytes + mask_bytes]);
        let opcode = first & 0x0f;
        let is_control = opcode & 0x08 != 0;
        if !is_control {
            self.announced = self.announced.saturating_add(left);
            // A continuation has opcode 0.
            if opcode != 0 {
                self.is_text = opcode == 1;
                self.start_bytes = 0;
            }
        }
        self.head_bytes = 0;
        self.frame = Some(Frame { left, is_last: first & 0x80 != 0, is_control, mask, read: 0 });
        if left == 0 {
            self.end_frame(posted);
        }
    }

    fn end_frame(&mut self, posted: &mut impl FnMut() -> Option<IncomingEvent>) {
        let Some(frame) = self.frame.take() else { return };
        if frame.is_control || !frame.is_last {
            return;
        }
        let bytes = std::mem::take(&mut self.announced);
        if self.is_text {
            return self.event.text(self.start.get(..self.start_bytes).unwrap_or_default(), bytes);
        }
        if !self.event.is_waiting()
            && let Some(event) = posted()
        {
            self.event = event;
        }
        self.event.binary(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, content: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [1, 2, 3, 4];
        let mut frame = vec![first];
        match content.len() {
            length if length < 126 => frame.push(0x80 | length as u8),
            length if length < 1 << 16 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(content.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// The held bytes after each of these frames. The size of the pieces must not matter.
    fn held(frames: &[Vec<u8>]) -> Vec<u64> {
        let mut expected = None;
        for size in [1, 2, 3, 7, 4096, usize::MAX] {
            let mut state = Frames::default();
            let after = frames.iter().map(|frame| {
                frame.chunks(size).for_each(|piece| state.read(piece, || None));
                state.held()
            });
            let after: Vec<_> = after.collect();
            assert_eq!(expected.get_or_insert_with(|| after.clone()), &after, "{size}");
        }
        expected.unwrap_or_default()
    }

    #[test]
    fn incomplete_messages_are_held() {
        let large = vec![b'x'; 70_000];
        let part = |frame: Vec<u8>, bytes: usize| frame[..bytes].to_vec();
        assert_eq!(held(&[frame(0x81, b"3"), frame(0x81, &large), frame(0x82, &large[..300])]), [0, 0, 0]);
        assert_eq!(held(&[part(frame(0x81, &large), 14)]), [70_000]);
        // A message in three frames, with a ping between them.
        let parts = [frame(0x01, b"42[\"e\""), frame(0x89, b"ping"), frame(0x00, b",1"), frame(0x80, b"]")];
        assert_eq!(held(&parts), [6, 6, 8, 0]);
        assert_eq!(held(&[frame(0x01, b""), frame(0x80, b"")]), [0, 0]);
    }

    #[test]
    fn attachments_are_held_until_the_last_one() {
        let event = b"452-[\"e\",{},{}]";
        let frames = [frame(0x81, event), frame(0x82, &[0; 1000]), frame(0x82, &[0; 10]), frame(0x81, b"3")];
        assert_eq!(held(&frames), [15, 1015, 0, 0]);
        // A number that is longer than what is read of a text.
        let frames = [frame(0x81, b"4500000001-[]"), frame(0x82, &[0; 10]), frame(0x81, b"42[]")];
        assert_eq!(held(&frames), [13, 23, 0]);
        // The number of attachments in a frame of its own.
        let frames = [frame(0x01, b"4"), frame(0x00, b"6"), frame(0x80, b"1-/a,1[]"), frame(0x82, &[0; 10])];
        assert_eq!(held(&frames), [1, 2, 10, 0]);
    }

    #[test]
    fn an_event_that_was_posted_in_part_is_held_with_its_next_attachment() {
        let mut posted = IncomingEvent::default();
        posted.text(b"453-[", 100);
        let mut posted = Some(posted);
        let mut state = Frames::default();
        state.read(&frame(0x81, b"2probe"), || posted.take());
        assert_eq!(state.held(), 0);
        state.read(&frame(0x82, &[0; 10]), || posted.take());
        assert_eq!(state.held(), 110);
        state.read(&frame(0x82, &[0; 10]), || posted.take());
        assert_eq!(state.held(), 120);
        state.read(&frame(0x82, &[0; 10]), || posted.take());
        assert_eq!(state.held(), 0);
    }
}
