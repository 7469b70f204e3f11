//! The input of `emit --from`, and its rate limit.

use std::pin::Pin;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use memchr::memchr;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::cli::event_line::{self, Line};
use crate::cli::exit::Failure;
use crate::cluster::LONGEST;

/// A parsed line: `None` for an empty line, the reason for an invalid line.
pub(super) type ParsedLine<'a> = Result<Option<Line<'a>>, String>;

/// The place of an error: `line 3`.
pub(super) fn line(number: u64) -> String {
    format!("line {number}")
}

/// Reads the lines of a file or of stdin.
pub(super) struct Source {
    reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    /// The size in bytes, if it is known.
    pub(super) size: Option<u64>,
    line: Vec<u8>,
}

impl Source {
    pub(super) fn open(file: &str) -> Result<Self, Failure> {
        const BUFFER: usize = 256 * 1024;
        let (reader, size): (Box<dyn AsyncRead + Send + Unpin>, _) = match file {
            "-" => (Box::new(tokio::io::stdin()), None),
            path => {
                let failed = |error: std::io::Error| Failure::file(path, &error);
                let file = std::fs::File::open(path).map_err(failed)?;
                let metadata = file.metadata().map_err(failed)?;
                if metadata.is_dir() {
                    return Err(Failure::Other(format!("{path}: is a directory")));
                }
                (Box::new(File::from_std(file)), metadata.is_file().then_some(metadata.len()))
            }
        };
        Ok(Self { reader: BufReader::with_capacity(BUFFER, reader), size, line: Vec::new() })
    }

    /// The next line, parsed, and its size in bytes, or `None` at the end. An empty line has no event.
    pub(super) async fn next_event(&mut self, number: u64) -> Result<Option<(ParsedLine<'_>, u64)>, Failure> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line).await;
        let bytes = read.map_err(|error| Failure::file(line(number), &error))?;
        Ok((bytes > 0).then(|| (parse(&self.line), bytes as u64)))
    }

    /// The same without waiting: `None` if the buffer has no complete line.
    pub(super) fn buffered_event(&mut self) -> Option<(ParsedLine<'_>, u64)> {
        let buffer = self.reader.buffer();
        let bytes = memchr(b'\n', buffer)? + 1;
        self.line.clear();
        self.line.extend_from_slice(&buffer[..bytes]);
        Pin::new(&mut self.reader).consume(bytes);
        Some((parse(&self.line), bytes as u64))
    }
}

/// Parses a line with or without its line break.
fn parse(line: &[u8]) -> ParsedLine<'_> {
    let line = std::str::from_utf8(line)
        .map_err(|error| format!("byte {} is not UTF-8", error.valid_up_to() + 1))?;
    let text = line.trim_end_matches(['\n', '\r']);
    if text.trim().is_empty() { Ok(None) } else { event_line::parse(text).map(Some) }
}

/// Parses `100/s`, `30/m`, `5/h`, `100` as events per second.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, seconds) = match text.split_once('/') {
        None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
        Some((number, "m")) => (number, 60.0),
        Some((number, "h")) => (number, 3600.0),
        Some(_) => return Err("write it as 100/s, 30/m or 5/h".into()),
    };
    let number: f64 = number.parse().map_err(|_| "write it as 100/s, 30/m or 5/h".to_owned())?;
    if number.is_finite() && number > 0.0 { Ok(number / seconds) } else { Err("must be more than 0".into()) }
}

/// Parses the factor of `--speed`.
pub(super) fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("must be a number more than 0".into()),
    }
}

/// A delay up to this is made up for, so that short pauses do not lower the rate.
const CATCH_UP: Duration = Duration::from_millis(200);

/// The pace of a replay.
pub(super) enum Pace {
    AtOnce,
    /// At most so many events per second.
    Rate {
        rate: f64,
        /// When the events that were counted began.
        start: Instant,
        sent: u64,
    },
    /// The recorded pace, relative to the time of the first event.
    Recorded {
        speed: f64,
        first: Option<(Timestamp, Instant)>,
    },
}

impl Pace {
    pub(super) fn new(rate: Option<f64>, speed: Option<f64>) -> Self {
        match (rate, speed) {
            (Some(rate), _) => Self::Rate { rate, start: Instant::now(), sent: 0 },
            (None, Some(speed)) => Self::Recorded { speed, first: None },
            (None, None) => Self::AtOnce,
        }
    }

    /// The due time of an event with this recorded time; `None` means now.
    fn due(&mut self, recorded: Option<Timestamp>) -> Option<Instant> {
        match self {
            Self::AtOnce => None,
            Self::Rate { rate, start, sent } => {
                let after = Duration::try_from_secs_f64(*sent as f64 / *rate).unwrap_or(LONGEST);
                *sent += 1;
                let (due, now) = (*start + after.min(LONGEST), Instant::now());
                // After a pause of the input or of Postgres, the events of the pause do not follow at full speed.
                if due + CATCH_UP < now {
                    (*start, *sent) = (now, 1);
                    return Some(now);
                }
                Some(due)
            }
            Self::Recorded { speed, first } => {
                let recorded = recorded?;
                let (from, start) = *first.get_or_insert((recorded, Instant::now()));
                let pause = recorded.duration_since(from).as_secs_f64() / *speed;
                Some(start + Duration::try_from_secs_f64(pause).unwrap_or_default().min(LONGEST))
            }
        }
    }

    /// When an event is due, unless it is due now.
    pub(super) fn due_later(&mut self, recorded: Option<Timestamp>) -> Option<Instant> {
        self.due(recorded).filter(|due| *due > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(parse_rate("100/s"), Ok(100.0));
        assert_eq!(parse_rate("30/m"), Ok(0.5));
        assert_eq!(parse_rate("2.5"), Ok(2.5));
        for bad in ["", "0", "-1/s", "5/parsec", "x/s", "inf"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
        assert!(parse_speed("0").is_err());
    }

    #[test]
    fn events_go_when_they_are_due() {
        let mut pace = Pace::new(Some(10.0), None);
        let first = pace.due(None).unwrap();
        assert_eq!(pace.due(None).unwrap() - first, Duration::from_millis(100));

        // After a pause of ten seconds, the hundred events of the pause do not follow at once.
        let before = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let mut pace = Pace::Rate { rate: 10.0, start: before, sent: 1 };
        let first = pace.due(None).unwrap();
        assert!(first > before + Duration::from_secs(9));
        assert_eq!(pace.due(None).unwrap() - first, Duration::from_millis(100));

        let mut pace = Pace::new(None, Some(2.0));
        let at = |ms| Some(Timestamp::from_millisecond(ms).unwrap());
        let first = pace.due(at(1000)).unwrap();
        assert_eq!(pace.due(at(3000)).unwrap() - first, Duration::from_secs(1));
        assert_eq!(pace.due(at(500)).unwrap(), first);
        assert_eq!(pace.due(None), None);
    }
}
