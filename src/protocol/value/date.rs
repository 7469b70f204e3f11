//! JavaScript's `Date`, and the msgpack timestamp extension in which it travels.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::{Error, Result};

/// A point in time with a resolution of one millisecond, as in JavaScript.
///
/// Shown as `Date.prototype.toISOString` does:
///
/// ```
/// let date = pgio::Date::from_millis(1_700_000_000_123).unwrap();
/// assert_eq!(date.to_string(), "2023-11-14T22:13:20.123Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(Timestamp);

impl Date {
    /// The msgpack extension type of timestamps, by the msgpack specification.
    pub(super) const EXTENSION: i8 = -1;

    /// The extension type in which notepack.io, the encoder of Socket.IO's msgpack parser, writes 8 bytes of
    /// milliseconds.
    pub(crate) const NOTEPACK_EXTENSION: i8 = 0;

    /// The date `millis` milliseconds after 1970-01-01T00:00:00Z. `None` outside of the years -9999 to 9999.
    pub fn from_millis(millis: i64) -> Option<Self> {
        Timestamp::from_millisecond(millis).ok().map(Self)
    }

    fn of(time: Timestamp) -> Self {
        // A timestamp's own milliseconds are always in range.
        Self(Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, as `Date.prototype.getTime` returns them.
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Reads the body of a timestamp extension: 4, 8 or 12 bytes.
    pub(super) fn from_extension(body: &[u8]) -> Option<Self> {
        let (seconds, nanos) = match *body {
            [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
            [a, b, c, d, e, f, g, h] => {
                let word = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                (i64::try_from(word & 0x3_ffff_ffff).ok()?, u32::try_from(word >> 34).ok()?)
            }
            [a, b, c, d, e, f, g, h, i, j, k, l] => {
                (i64::from_be_bytes([e, f, g, h, i, j, k, l]), u32::from_be_bytes([a, b, c, d]))
            }
            _ => return None,
        };
        let millis = seconds.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))?;
        Self::from_millis(millis)
    }

    /// Writes the body of a timestamp extension: 8 bytes if they suffice, otherwise 12.
    pub(super) fn to_extension(self) -> Vec<u8> {
        let millis = self.as_millis();
        let (seconds, nanos) = (millis.div_euclid(1000), (millis.rem_euclid(1000) * 1_000_000) as u32);
        match u64::try_from(seconds) {
            Ok(seconds) if seconds >> 34 == 0 => (u64::from(nanos) << 34 | seconds).to_be_bytes().to_vec(),
            _ => [nanos.to_be_bytes().as_slice(), &seconds.to_be_bytes()].concat(),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl From<SystemTime> for Date {
    /// Truncates to milliseconds. A time outside of the years -9999 to 9999 becomes the nearest date within.
    fn from(time: SystemTime) -> Self {
        let nearest = || if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
        Self::of(Timestamp::try_from(time).unwrap_or_else(|_| nearest()))
    }
}

impl FromStr for Date {
    type Err = Error;

    /// Reads an ISO-8601 time with an offset, such as the text of `Date.prototype.toISOString`.
    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self::of).map_err(|error: jiff::Error| Error::Decode(error.to_string()))
    }
}
