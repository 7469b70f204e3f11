//! The progress of a client's event with attachments.
//!
//! socketioxide keeps such an event in memory until its last attachment has arrived. In: messages. Out: the number of bytes
//! that it keeps.

/// The number of bytes at the start of a text that are parsed, as in `451234-`.
pub(super) const START_BYTES: usize = 8;

/// The number of attachments if it does not end within [`START_BYTES`], as in `4500000001-`. socketioxide reads any number
/// of digits.
const UNKNOWN: u64 = u64::MAX;

/// The event of a client that waits for attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct IncomingEvent {
    /// The number of missing attachments. [`UNKNOWN`] until the next text.
    missing: u64,
    /// The number of received bytes.
    held: u64,
}

impl IncomingEvent {
    /// Records a text of `bytes` bytes that begins with `start`. If attachments are missing, socketioxide ends the
    /// session.
    pub(super) fn text(&mut self, start: &[u8], bytes: u64) {
        self.missing = attachments(start);
        self.held = if self.missing == 0 { 0 } else { bytes };
    }

    /// Records a binary message of `bytes` bytes.
    pub(super) fn binary(&mut self, bytes: u64) {
        if self.missing != UNKNOWN {
            self.missing = self.missing.saturating_sub(1);
        }
        self.held = if self.missing == 0 { 0 } else { self.held.saturating_add(bytes) };
    }

    /// The number of bytes that socketioxide keeps.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Whether an event waits for attachments.
    pub(super) fn is_waiting(&self) -> bool {
        self.missing > 0
    }
}

/// The number of binary messages that follow a text: `451-["e",...]` has one.
pub(super) fn attachments(start: &[u8]) -> u64 {
    let Some(digits) = start.strip_prefix(b"45").or_else(|| start.strip_prefix(b"46")) else { return 0 };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match digits.get(length) {
        Some(b'-') => digits[..length].iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0')),
        // socketioxide ends the session.
        Some(_) => 0,
        None if length > 0 => UNKNOWN,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_held_until_its_last_attachment() {
        let mut event = IncomingEvent::default();
        event.text(b"452-[\"e\"", 100);
        assert_eq!((event.held(), event.is_waiting()), (100, true));
        event.binary(1000);
        assert_eq!((event.held(), event.is_waiting()), (1100, true));
        event.binary(10);
        assert_eq!((event.held(), event.is_waiting()), (0, false));
        event.binary(1000);
        event.text(b"42[\"e\"]", 100);
        assert_eq!((event.held(), event.is_waiting()), (0, false));
    }

    #[test]
    fn the_number_of_attachments_is_read() {
        for (start, count) in
            [(&b"451-[\""[..], 1), (b"4612-/a,", 12), (b"42[\"45\"]", 0), (b"45-", 0), (b"45x-", 0), (b"", 0)]
        {
            assert_eq!(attachments(start), count);
        }
    }

    /// A number with leading zeros is longer than what is read of a text.
    #[test]
    fn a_number_that_is_cut_off_waits_until_the_next_text() {
        let mut event = IncomingEvent::default();
        event.text(b"45000000", 1000);
        event.binary(10);
        assert_eq!((event.held(), event.is_waiting()), (1010, true));
        event.text(b"42[\"e\"]", 100);
        assert!(!event.is_waiting());
    }
}
