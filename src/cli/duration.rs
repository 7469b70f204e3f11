//! Parses and formats durations.

use std::time::Duration;

use jiff::SignedDuration;

/// Parses `500ms`, `5s`, `1m30s`, `2h`. Refuses a number without a unit, except 0, since it could mean seconds or
/// milliseconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(0) => Ok(Duration::ZERO),
        Ok(number) => Err(format!("a time needs a unit: {number}s or {number}ms")),
        Err(_) => parse_with_unit(text).ok_or_else(|| "not a duration: write 500ms, 5s or 1m30s".into()),
    }
}

/// Like `parse`, for options of the Node adapter, whose bare numbers are milliseconds.
pub(super) fn parse_adapter_option(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(millis) => Ok(Duration::from_millis(millis)),
        Err(_) => parse_with_unit(text)
            .ok_or_else(|| "not a duration: write 500ms, 5s, 1m30s or a number of milliseconds".into()),
    }
}

fn parse_with_unit(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}

/// Like `parse`, but refuses zero.
pub(super) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("must be more than 0".into()),
        duration => Ok(duration),
    }
}

/// Formats an age for a narrow column: `3s`, `12m`, `5h`, `20d`.
pub(super) fn short(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("0", 0), ("500ms", 500), ("5s", 5000), ("1m30s", 90_000), ("2h", 7_200_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(parse_adapter_option(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "-5s", "5 parsecs", "s", "1.5.2"] {
            assert!(parse(bad).is_err() && parse_adapter_option(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_adapter_option("250"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("250"), Err("a time needs a unit: 250s or 250ms".into()));
    }
}
