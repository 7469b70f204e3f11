//! The incomplete event with attachments of a client that polls.
//!
//! The client may post one event in several requests. This owns the quota for the received bytes, which counts for the
//! client's address like the quota of websocket messages. It also owns the deadline of the event.

use tokio_util::task::AbortOnDropHandle;

use super::incoming_event::{IncomingEvent, START_BYTES};
use super::quotas::Incomplete;

/// Separates the packets of a request.
const SEPARATOR: u8 = 0x1e;

/// The number of bytes of an incomplete event that need no quota.
pub(super) const FREE_BYTES: u64 = 8 << 10;

/// The event of a client that polls.
#[derive(Default)]
pub(super) struct PostedEvent {
    event: IncomingEvent,
    granted: u64,
    permits: Vec<Incomplete>,
    deadline: Option<AbortOnDropHandle<()>>,
}

impl PostedEvent {
    /// Reads the packets of a request. Returns the number of additional bytes that need quota.
    pub(super) fn read(&mut self, packets: &[u8]) -> Option<u64> {
        for packet in packets.split(|byte| *byte == SEPARATOR) {
            let bytes = packet.len() as u64;
            match packet {
                [b'4', ..] => self.event.text(&packet[..packet.len().min(START_BYTES)], bytes),
                // Base64.
                [b'b', ..] => self.event.binary(bytes / 4 * 3),
                _ => {}
            }
        }
        if !self.event.is_waiting() {
            self.forget();
        }
        let held = self.event.held();
        (held > FREE_BYTES.max(self.granted)).then(|| held - self.granted)
    }

    /// Adds quota for `bytes` more bytes. `deadline` ends the session if the event takes too long.
    pub(super) fn grant(
        &mut self,
        bytes: u64,
        room: Incomplete,
        deadline: impl FnOnce() -> AbortOnDropHandle<()>,
    ) {
        // The event may have been completed in the meantime.
        if self.event.is_waiting() {
            self.granted += bytes;
            self.permits.push(room);
            self.deadline.get_or_insert_with(deadline);
        }
    }

    /// Takes the event. Its next attachments arrive by websocket.
    pub(super) fn take(&mut self) -> IncomingEvent {
        self.forget();
        std::mem::take(&mut self.event)
    }

    fn forget(&mut self) {
        self.granted = 0;
        self.permits.clear();
        self.deadline = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_posted_event_needs_quota() {
        let mut event = PostedEvent::default();
        let binary = format!("b{}", "A".repeat(40_000));
        assert_eq!(event.read(b"2\x1e42[\"e\"]"), None);
        assert_eq!(event.read(b"453-[\"e\",{}]"), None);
        assert_eq!(event.read(binary.as_bytes()), Some(30_012));
        assert_eq!(event.read(b"3"), Some(30_012), "nothing is granted yet");
        assert_eq!(
            event.read([binary.as_bytes(), b"\x1e3\x1e", binary.as_bytes()].concat().as_slice()),
            None
        );
        assert_eq!(event.event.held(), 0);
        // In one request.
        let whole = ["451-[\"e\",{}]".as_bytes(), binary.as_bytes()].join(&SEPARATOR);
        assert_eq!(event.read(&whole), None);
    }

    #[test]
    fn an_event_goes_on_by_websocket() {
        let mut event = PostedEvent::default();
        event.read(b"452-[\"e\",{},{}]");
        let mut taken = event.take();
        assert!(taken.is_waiting() && !event.event.is_waiting());
        taken.binary(1);
        taken.binary(1);
        assert!(!taken.is_waiting());
    }
}
