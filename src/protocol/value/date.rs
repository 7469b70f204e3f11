//! JavaScript's `Date`, and the msgpack timestamp extension in which it travels.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::{Error, Result};

/// The bound of the milliseconds before and after 1970 that a `Date` of JavaScript can have.
const MAX_MILLIS: i64 = 8_640_000_000_000_000;

const MILLIS_OF_DAY: i64 = 86_400_000;

/// The number of days in an era: the 400 years after which the Gregorian calendar repeats itself.
const DAYS_OF_ERA: i64 = 146_097;

/// A point in time with a resolution of one millisecond, as in JavaScript: up to 100,000,000 days before or after 1970.
///
/// Shown as `Date.prototype.toISOString` does:
///
/// ```
/// let date = pgio::Date::from_millis(1_700_000_000_123).unwrap();
/// assert_eq!(date.to_string(), "2023-11-14T22:13:20.123Z");
/// let far = pgio::Date::from_millis(8_640_000_000_000_000).unwrap();
/// assert_eq!(far.to_string(), "+275760-09-13T00:00:00.000Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    millis: i64,
}

impl Date {
    /// The msgpack extension type of timestamps, by the msgpack specification.
    pub(super) const EXTENSION: i8 = -1;

    /// The extension type in which notepack.io, the encoder of Socket.IO's msgpack parser, writes 8 bytes of
    /// milliseconds.
    pub(crate) const NOTEPACK_EXTENSION: i8 = 0;

    /// The date `millis` milliseconds after 1970-01-01T00:00:00Z. `None` beyond the range of JavaScript.
    pub fn from_millis(millis: i64) -> Option<Self> {
        (millis.unsigned_abs() <= MAX_MILLIS.unsigned_abs()).then_some(Self { millis })
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, as `Date.prototype.getTime` returns them.
    pub fn as_millis(self) -> i64 {
        self.millis
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
        let (year, month, day) = civil(self.millis.div_euclid(MILLIS_OF_DAY));
        let time = self.millis.rem_euclid(MILLIS_OF_DAY);
        let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
        let (second, millis) = (time / 1000 % 60, time % 1000);
        match year {
            0..=9999 => write!(f, "{year:04}")?,
            _ => write!(f, "{year:+07}")?,
        }
        write!(f, "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
///
/// The arithmetic is in years that begin in March, so that the leap day is the last day of its year
/// (<https://howardhinnant.github.io/date_algorithms.html>, `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(DAYS_OF_ERA), days.rem_euclid(DAYS_OF_ERA));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

impl From<SystemTime> for Date {
    /// Truncates to milliseconds. A time beyond the range of JavaScript becomes the nearest date within.
    fn from(time: SystemTime) -> Self {
        let whole = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let millis = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => whole(after),
            Err(before) => -whole(before.duration()),
        };
        Self { millis: millis.clamp(-MAX_MILLIS, MAX_MILLIS) }
    }
}

impl FromStr for Date {
    type Err = Error;

    /// Reads an ISO-8601 time with an offset, such as the text of `Date.prototype.toISOString`.
    fn from_str(text: &str) -> Result<Self> {
        let time = match text.parse::<Timestamp>() {
            Ok(time) => Self::from_millis(time.as_millisecond()),
            Err(error) => return beyond_timestamps(text).ok_or_else(|| Error::Decode(error.to_string())),
        };
        time.ok_or_else(|| Error::Decode(format!("{text} is beyond the dates of JavaScript")))
    }
}

/// Reads the text of a date that [`Timestamp`] does not hold: a year with a sign has six digits.
fn beyond_timestamps(text: &str) -> Option<Date> {
    let (sign, digits, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, 6, rest),
        ("-", rest) => (-1, 6, rest),
        _ => (1, 4, text),
    };
    let (year, rest) = rest.split_at_checked(digits)?;
    if !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year = sign * year.parse::<i64>().ok()?;
    // The calendar repeats itself every 400 years. So the same day is read in one of the years from 2000 on.
    let year_of_era = year.rem_euclid(400);
    let in_era: Timestamp = format!("{}{rest}", 2000 + year_of_era).parse().ok()?;
    let eras = (year - year_of_era - 2000) / 400;
    Date::from_millis(in_era.as_millisecond() + eras * DAYS_OF_ERA * MILLIS_OF_DAY)
}
