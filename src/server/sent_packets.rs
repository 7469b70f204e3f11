//! Finds events and acknowledgements in the bytes that the server writes to a client, and says how much of the client's
//! send buffer they free.
//!
//! Other packets (pings, responses to connect requests) do not count for the buffer, so they free nothing.

use super::client_buffers::PACKET_BYTES;
use super::options::Parser;

/// The bytes at the start of a websocket frame that decide: the longest head of a frame from a server, which has no
/// mask (RFC 6455, section 5.2), and the two types of a Socket.IO packet.
const START: usize = 10 + 2;

/// Separates the packets of a poll (Engine.IO protocol 4).
pub(super) const SEPARATOR: u8 = 0x1e;

/// The frames of one websocket, parsed as they are written.
pub(super) struct SentFrames {
    parser: Parser,
    /// The first bytes of a frame whose start was cut.
    cut: [u8; START],
    cut_bytes: usize,
    /// The bytes of the current frame that are still to come.
    left: u64,
    /// What the current frame frees when it is written.
    frees: u64,
}

/// The start of a frame.
struct FrameStart {
    bytes: usize,
    left: u64,
    frees: u64,
}

impl SentFrames {
    pub(super) fn new(parser: Parser) -> Self {
        Self { parser, cut: [0; START], cut_bytes: 0, left: 0, frees: 0 }
    }

    /// Takes the next bytes that were written. Returns the bytes of the send buffer that they free.
    pub(super) fn written(&mut self, mut bytes: &[u8]) -> u64 {
        let mut freed = 0;
        loop {
            let skipped = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= skipped as u64;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.left == 0 {
                freed += std::mem::take(&mut self.frees);
            }
            let Some((next, rest)) = bytes.split_first() else { return freed };
            if self.cut_bytes == 0
                && let Some(start) = FrameStart::read(bytes, self.parser)
            {
                bytes = bytes.get(start.bytes..).unwrap_or_default();
                (self.left, self.frees) = (start.left, start.frees);
                continue;
            }
            // Never `None`, since no start is longer.
            if let Some(place) = self.cut.get_mut(self.cut_bytes) {
                *place = *next;
            }
            self.cut_bytes += 1;
            bytes = rest;
            let cut = self.cut.get(..self.cut_bytes).unwrap_or_default();
            if let Some(start) = FrameStart::read(cut, self.parser) {
                self.cut_bytes = 0;
                (self.left, self.frees) = (start.left, start.frees);
            }
        }
    }
}

impl FrameStart {
    /// Reads the start of a frame. `None` if it is not complete.
    fn read(bytes: &[u8], parser: Parser) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (length, content) = match (second & 0x7f, rest) {
            (126, [a, b, content @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), content),
            (127, [a, b, c, d, e, f, g, h, content @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), content)
            }
            (126 | 127, _) => return None,
            (length, content) => (u64::from(length), content),
        };
        let types = if length < 2 { length as usize } else { 2 };
        let (types, after) = content.split_at_checked(types)?;
        let frees = match first & 0x0f {
            1 if is_counted(types) => length + PACKET_BYTES as u64,
            2 => length + binary_packet_bytes(parser),
            _ => 0,
        };
        Some(Self { bytes: bytes.len() - after.len(), left: length - types.len() as u64, frees })
    }
}

/// The bytes of the send buffer that the response to a poll frees.
pub(super) fn freed_by_poll(parser: Parser, response: &[u8]) -> u64 {
    let freed = response.split(|byte| *byte == SEPARATOR).map(|packet| match packet.first() {
        // The bytes are in base64, with padding.
        Some(b'b') => ((packet.len() - 1) / 4 * 3) as u64 + binary_packet_bytes(parser),
        _ if is_counted(packet) => (packet.len() + PACKET_BYTES) as u64,
        _ => 0,
    });
    freed.sum()
}

/// Whether a text is a message of Engine.IO (4) with an event (2, 5) or an acknowledgement (3, 6) of Socket.IO.
fn is_counted(text: &[u8]) -> bool {
    matches!(text, [b'4', b'2' | b'3' | b'5' | b'6', ..])
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

    /// What the frames free after each of them. The size of the pieces must not matter.
    fn freed(parser: Parser, frames: &[Vec<u8>]) -> Vec<u64> {
        let mut expected = None;
        for size in [1, 2, 3, 7, 4096, usize::MAX] {
            let mut state = SentFrames::new(parser);
            let after = frames.iter().map(|frame| frame.chunks(size).map(|piece| state.written(piece)).sum());
            let after: Vec<u64> = after.collect();
            assert_eq!(expected.get_or_insert_with(|| after.clone()), &after, "{size}");
        }
        // All frames in one piece.
        let sum: u64 = expected.iter().flatten().sum();
        assert_eq!(SentFrames::new(parser).written(&frames.concat()), sum);
        expected.unwrap_or_default()
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
    fn the_packets_of_a_poll_free_the_buffer() {
        let response = b"2\x1e42[1]\x1e40{}\x1e451-[{}]\x1ebAAAA\x1e6";
        assert_eq!(freed_by_poll(Parser::Default, response), 5 + PACKET + 8 + PACKET + 3);
        assert_eq!(freed_by_poll(Parser::Msgpack, b"2\x1ebAAAA"), 3 + PACKET);
        assert_eq!(freed_by_poll(Parser::Default, b""), 0);
    }
}
