//! Finds the packets of Socket.IO in the bytes that the server writes to a client. It counts them, and says how much of the
//! client's send buffer they free.
//!
//! Only events, acknowledgements and responses to connect requests are counted. Events must keep their order to these, and
//! not to the other packets (pings, disconnect packets).

use std::ops::AddAssign;

use super::client_buffers::PACKET_BYTES;
use super::incoming_event;
use super::options::Parser;

/// The bytes at the start of a websocket frame that decide: the longest head of a frame from a server, which has no
/// mask (RFC 6455, section 5.2), and the start of a packet up to the number of its attachments.
const START: usize = 10 + incoming_event::START_BYTES;

/// Separates the packets of a poll (Engine.IO protocol 4).
pub(super) const SEPARATOR: u8 = 0x1e;

/// What was sent to a client.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    /// The bytes of the send buffer that are free again.
    pub(super) freed: u64,
    /// The number of packets that are sent with all their attachments. Always 0 for msgpack.
    pub(super) packets: u64,
}

impl AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.freed += other.freed;
        self.packets += other.packets;
    }
}

/// The frames of one websocket, parsed as they are written.
pub(super) struct SentFrames {
    parser: Parser,
    /// The first bytes of a frame whose start was cut.
    cut: [u8; START],
    cut_bytes: usize,
    /// The current frame, until it is written.
    frame: Option<SentFrame>,
    /// The frames of the current packet that are not written yet: its text and its attachments.
    missing: u64,
    is_closed: bool,
}

/// A frame that is being written.
struct SentFrame {
    /// The bytes that are still to come.
    left: u64,
    /// What it frees when it is written.
    frees: u64,
    kind: FrameKind,
}

#[derive(Clone, Copy)]
enum FrameKind {
    /// The text of a counted packet.
    Packet {
        attachments: u64,
    },
    Binary,
    Close,
    Other,
}

impl SentFrames {
    pub(super) fn new(parser: Parser) -> Self {
        Self { parser, cut: [0; START], cut_bytes: 0, frame: None, missing: 0, is_closed: false }
    }

    /// Whether another packet may follow now: the last packet is complete, and the websocket is not closed.
    pub(super) fn is_between_packets(&self) -> bool {
        self.cut_bytes == 0 && self.frame.is_none() && self.missing == 0 && !self.is_closed
    }

    /// Takes the next bytes that were written.
    pub(super) fn written(&mut self, mut bytes: &[u8]) -> Sent {
        let mut sent = Sent::default();
        loop {
            if let Some(frame) = &mut self.frame {
                let skipped = bytes.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
                frame.left -= skipped as u64;
                bytes = bytes.get(skipped..).unwrap_or_default();
                sent += self.end_frame();
            }
            let Some((next, rest)) = bytes.split_first() else { return sent };
            if self.cut_bytes == 0
                && let Some((start, frame)) = SentFrame::read(bytes, self.parser)
            {
                bytes = bytes.get(start..).unwrap_or_default();
                self.frame = Some(frame);
                continue;
            }
            // Never `None`, since no start is longer.
            if let Some(place) = self.cut.get_mut(self.cut_bytes) {
                *place = *next;
            }
            self.cut_bytes += 1;
            bytes = rest;
            let cut = self.cut.get(..self.cut_bytes).unwrap_or_default();
            if let Some((_, frame)) = SentFrame::read(cut, self.parser) {
                self.cut_bytes = 0;
                self.frame = Some(frame);
            }
        }
    }

    /// Ends the current frame, if it is complete.
    fn end_frame(&mut self) -> Sent {
        let Some(frame) = self.frame.take_if(|frame| frame.left == 0) else { return Sent::default() };
        match frame.kind {
            FrameKind::Packet { attachments } => self.missing = attachments,
            FrameKind::Binary if self.missing > 0 => self.missing -= 1,
            FrameKind::Close => self.is_closed = true,
            FrameKind::Binary | FrameKind::Other => return Sent { freed: frame.frees, packets: 0 },
        }
        Sent { freed: frame.frees, packets: u64::from(self.missing == 0 && !self.is_closed) }
    }
}

impl SentFrame {
    /// Reads the start of a frame. Returns its number of bytes, or `None` if it is not complete.
    fn read(bytes: &[u8], parser: Parser) -> Option<(usize, Self)> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (length, content) = match (second & 0x7f, rest) {
            (126, [a, b, content @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), content),
            (127, [a, b, c, d, e, f, g, h, content @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), content)
            }
            (126 | 127, _) => return None,
            (length, content) => (u64::from(length), content),
        };
        let (start, frees, kind) = match first & 0x0f {
            1 => {
                let start = packet_start(content, length)?;
                if is_counted(start) {
                    let attachments = incoming_event::attachments(start);
                    let bytes = if is_connect(start) { 0 } else { length + PACKET_BYTES as u64 };
                    (start.len(), bytes, FrameKind::Packet { attachments })
                } else {
                    (start.len(), 0, FrameKind::Other)
                }
            }
            2 => (0, length + binary_packet_bytes(parser), FrameKind::Binary),
            8 => (0, 0, FrameKind::Close),
            _ => (0, 0, FrameKind::Other),
        };
        let bytes = bytes.len() - content.len() + start;
        Some((bytes, Self { left: length - start as u64, frees, kind }))
    }
}

/// The start of a text with `length` bytes: its two types, and the number of attachments if it has one. `None` if it is
/// not complete.
fn packet_start(text: &[u8], length: u64) -> Option<&[u8]> {
    let limit = |bytes: usize| usize::try_from(length).unwrap_or(usize::MAX).min(bytes);
    let types = text.get(..limit(2))?;
    if !matches!(types, b"45" | b"46") {
        return Some(types);
    }
    let most = limit(incoming_event::START_BYTES);
    let head = text.get(..most.min(text.len()))?;
    match head.iter().position(|byte| *byte == b'-') {
        Some(end) => head.get(..=end),
        None => text.get(..most),
    }
}

/// What the response to a poll sends.
pub(super) fn sent_by_poll(parser: Parser, response: &[u8]) -> Sent {
    let mut sent = Sent::default();
    for packet in response.split(|byte| *byte == SEPARATOR) {
        sent += match packet.first() {
            // The bytes are in base64, with padding.
            Some(b'b') => {
                let bytes = ((packet.len() - 1) / 4 * 3) as u64;
                Sent { freed: bytes + binary_packet_bytes(parser), packets: 0 }
            }
            _ if is_connect(packet) => Sent { freed: 0, packets: 1 },
            _ if is_counted(packet) => Sent { freed: (packet.len() + PACKET_BYTES) as u64, packets: 1 },
            _ => Sent::default(),
        };
    }
    sent
}

/// Whether a text is a message of Engine.IO (4) with a response to a connect request (0), an event (2, 5) or an
/// acknowledgement (3, 6) of Socket.IO.
fn is_counted(text: &[u8]) -> bool {
    matches!(text, [b'4', b'0' | b'2' | b'3' | b'5' | b'6', ..])
}

/// Whether a text is a response to a connect request. It takes no room in the buffer.
fn is_connect(text: &[u8]) -> bool {
    matches!(text, [b'4', b'0', ..])
}

/// A binary message is an attachment, whose event has counted already. With msgpack it is a packet itself.
fn binary_packet_bytes(parser: Parser) -> u64 {
    match parser {
        Parser::Default => 0,
        Parser::Msgpack => PACKET_BYTES as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = PACKET_BYTES as u64;

    fn frame(opcode: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match content.len() {
            length if length < 126 => frame.push(length as u8),
            length if length < 1 << 16 => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(content);
        frame
    }

    /// What each frame frees, and whether it completes a packet. The size of the pieces must not matter.
    fn sent(parser: Parser, frames: &[Vec<u8>]) -> Vec<(u64, u64)> {
        let mut expected = None;
        for size in [1, 2, 3, 7, 4096, usize::MAX] {
            let mut state = SentFrames::new(parser);
            let after = frames.iter().map(|frame| {
                let mut sent = Sent::default();
                for piece in frame.chunks(size) {
                    sent += state.written(piece);
                }
                (sent.freed, sent.packets)
            });
            let after: Vec<_> = after.collect();
            assert_eq!(expected.get_or_insert_with(|| after.clone()), &after, "{size}");
        }
        let expected = expected.unwrap_or_default();
        let sum = expected.iter().fold((0, 0), |sum, (freed, packets)| (sum.0 + freed, sum.1 + packets));
        let Sent { freed, packets } = SentFrames::new(parser).written(&frames.concat());
        assert_eq!((freed, packets), sum, "all frames in one piece");
        expected
    }

    fn freed(parser: Parser, frames: &[Vec<u8>]) -> Vec<u64> {
        sent(parser, frames).into_iter().map(|(freed, _)| freed).collect()
    }

    #[test]
    fn frames_of_events_and_acknowledgements_free_the_buffer() {
        let event = |length: usize| [b"42".as_slice(), &vec![b'x'; length - 2]].concat();
        let frames = [
            frame(1, b"0{}"),
            frame(1, b"2"),
            frame(1, b"40{}"),
            frame(1, b"42[]"),
            frame(1, b"430[]"),
            frame(8, b"\x03\xe8"),
            frame(9, b""),
            frame(1, &event(125)),
            frame(1, &event(126)),
            frame(1, &event(70_000)),
            frame(1, b"41"),
        ];
        let expected =
            [0, 0, 0, 4 + PACKET, 5 + PACKET, 0, 0, 125 + PACKET, 126 + PACKET, 70_000 + PACKET, 0];
        assert_eq!(freed(Parser::Default, &frames), expected);
    }

    #[test]
    fn an_attachment_counts_as_its_bytes_and_a_msgpack_packet_as_a_packet() {
        let frames = [frame(1, b"451-[{}]"), frame(2, &[b'4'; 300]), frame(2, &[]), frame(2, &[1])];
        assert_eq!(freed(Parser::Default, &frames), [8 + PACKET, 300, 0, 1]);
        assert_eq!(freed(Parser::Msgpack, &frames[1..]), [300 + PACKET, PACKET, 1 + PACKET]);
    }

    #[test]
    fn a_packet_is_counted_with_its_last_attachment() {
        let frames = [
            frame(1, b"0{}"),
            frame(1, b"40{}"),
            frame(1, b"452-/a,[{},{}]"),
            frame(2, &[1; 200]),
            frame(10, b"pong"),
            frame(2, &[]),
            frame(1, b"4612-[]"),
            frame(1, b"2"),
            frame(1, b"450-[]"),
            frame(1, b"430[]"),
            frame(1, b"41"),
        ];
        let packets: Vec<_> =
            sent(Parser::Default, &frames).into_iter().map(|(_, packets)| packets).collect();
        assert_eq!(packets, [0, 1, 0, 0, 0, 1, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn a_packet_may_follow_only_a_complete_one() {
        let mut state = SentFrames::new(Parser::Default);
        let mut is_between = |bytes: &[u8]| {
            state.written(bytes);
            state.is_between_packets()
        };
        let event = frame(1, b"451-[\"e\",{}]");
        assert!(is_between(b"") && is_between(&frame(1, b"2")));
        for cut in [1, 2, 3, 5, 8] {
            assert!(!is_between(&event[..cut]) && !is_between(&event[cut..]), "{cut}");
            assert!(!is_between(&frame(2, b"1")[..2]) && is_between(b"1"), "{cut}");
        }
        assert!(!is_between(&frame(8, b"")));
    }

    #[test]
    fn the_packets_of_a_poll_free_the_buffer() {
        let response = b"2\x1e42[1]\x1e40{}\x1e451-[{}]\x1ebAAAA\x1e6";
        let sent = |freed, packets| Sent { freed, packets };
        assert_eq!(sent_by_poll(Parser::Default, response), sent(5 + PACKET + 8 + PACKET + 3, 3));
        assert_eq!(sent_by_poll(Parser::Msgpack, b"2\x1ebAAAA"), sent(3 + PACKET, 0));
        assert_eq!(sent_by_poll(Parser::Default, b""), Sent::default());
    }
}
