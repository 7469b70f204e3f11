//! The target sockets of a message, and its delivery flags.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Rooms, room_list};

/// The target sockets of a message: the sockets in any of `rooms`, or all sockets if it is empty, without those in any of
/// `except`.
///
/// A room is a name or a socket's id: in Node each socket is in a room that has its id as its name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BroadcastOptions {
    /// Rooms and socket ids to reach; empty means every socket of the namespace.
    #[serde(default, deserialize_with = "room_list::target")]
    pub rooms: Vec<String>,
    /// Rooms and socket ids to exclude.
    #[serde(default, deserialize_with = "room_list::lenient")]
    pub except: Vec<String>,
    /// The delivery flags. They are always sent: Node reads `flags.timeout` without checking whether `flags` exists.
    #[serde(default, deserialize_with = "null_is_default")]
    pub flags: Flags,
}

impl BroadcastOptions {
    /// Adds the sockets in these rooms. A room may be a socket's id. An empty list adds none; without any room, all sockets
    /// of the namespace are selected.
    ///
    /// ```
    /// let opts = pgio::protocol::BroadcastOptions::default().to(["r1", "r2"]).except("r3");
    /// assert_eq!((opts.rooms.len(), opts.except.len()), (2, 1));
    /// ```
    pub fn to(mut self, rooms: impl Rooms) -> Self {
        add(&mut self.rooms, rooms);
        self
    }

    /// Excludes the sockets in any of these rooms.
    pub fn except(mut self, rooms: impl Rooms) -> Self {
        add(&mut self.except, rooms);
        self
    }

    /// Replaces the flags.
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }
}

fn add(list: &mut Vec<String>, rooms: impl Rooms) {
    for room in rooms.into_rooms() {
        // The rooms are a set in Node.
        if !list.contains(&room) {
            list.push(room);
        }
    }
}

/// The delivery flags of an event. A flag that is not set is not sent.
///
/// ```
/// use std::time::Duration;
/// use pgio::protocol::{BroadcastOptions, Flags};
///
/// let flags = Flags::default().volatile(true).timeout(Duration::from_micros(1500));
/// assert_eq!((flags.volatile, flags.compress, flags.timeout), (Some(true), None, Some(2)));
/// let opts = BroadcastOptions::default().to("r1").flags(flags);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Flags {
    /// May be dropped for a client that is not ready to receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volatile: Option<bool>,
    /// Whether the transport should compress it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<bool>,
    /// The timeout of acknowledgements, in milliseconds. A fraction, which Node also accepts, is rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_millis")]
    pub timeout: Option<u64>,
    /// The sender expects a single acknowledgement, and takes its value alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_single_response: Option<bool>,
}

impl Flags {
    /// Sets [`volatile`](Self#structfield.volatile).
    #[must_use]
    pub fn volatile(mut self, volatile: bool) -> Self {
        self.volatile = Some(volatile);
        self
    }

    /// Sets [`compress`](Self#structfield.compress).
    #[must_use]
    pub fn compress(mut self, compress: bool) -> Self {
        self.compress = Some(compress);
        self
    }

    /// Sets [`timeout`](Self#structfield.timeout). A fraction of a millisecond is rounded up.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        self.timeout = Some(u64::try_from(millis).unwrap_or(u64::MAX));
        self
    }

    /// Sets [`expect_single_response`](Self#structfield.expect_single_response).
    #[must_use]
    pub fn expect_single_response(mut self, expect_single_response: bool) -> Self {
        self.expect_single_response = Some(expect_single_response);
        self
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Flags, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn whole_millis<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    // The cast saturates: a negative number becomes zero, and a number that is too large becomes the maximum.
    Ok(Option::<f64>::deserialize(deserializer)?.map(|millis| millis.ceil() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_numbers_as_javascript_has_them() {
        for (sent, read) in [("1500", 1500), ("1500.5", 1501), ("1e3", 1000), ("-1", 0), ("0", 0)] {
            let flags: Flags = serde_json::from_str(&format!(r#"{{"timeout":{sent}}}"#)).unwrap();
            assert_eq!(flags.timeout, Some(read), "{sent}");
        }
        let flags: Flags = serde_json::from_str(r#"{"timeout":null}"#).unwrap();
        assert_eq!(flags.timeout, None);
        assert!(serde_json::from_str::<Flags>(r#"{"timeout":"soon"}"#).is_err());
    }
}
