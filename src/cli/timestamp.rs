//! Converts times for printing.

use std::time::SystemTime;

use jiff::Timestamp;

/// Converts a time. A time outside of the years -9999 to 9999, which only a broken clock can show, becomes 1970-01-01.
pub(super) fn of(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}
