//! Times for printing.

use std::time::SystemTime;

use jiff::Timestamp;

/// The same time; 1970-01-01 for one outside of the years -9999 to 9999, to which only a broken clock can be set.
pub(super) fn of(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}
