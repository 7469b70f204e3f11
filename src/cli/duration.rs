//! Durations as people write them.

use std::time::Duration;

use jiff::SignedDuration;

/// Reads `500ms`, `5s`, `1m30s`, `2h`; a bare number is milliseconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(millis) = text.parse() {
        return Ok(Duration::from_millis(millis));
    }
    let parsed = text
        .parse::<SignedDuration>()
        .map_err(|_| ())
        .and_then(|duration| Duration::try_from(duration).map_err(|_| ()));
    parsed.map_err(|()| "not a duration: write 500ms, 5s, 1m30s or a number of milliseconds".into())
}

/// The same, but not zero.
pub(super) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("must be more than 0".into()),
        duration => Ok(duration),
    }
}

/// How long ago something was, for a narrow column: `3s`, `12m`, `5h`, `20d`.
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
        for (text, millis) in
            [("250", 250), ("500ms", 500), ("5s", 5000), ("1m30s", 90_000), ("2h", 7_200_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "-5s", "5 parsecs", "s", "1.5.2"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
