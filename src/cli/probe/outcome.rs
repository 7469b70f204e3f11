//! The outcome of a check.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::Namespace;
use crate::cli::exit::Failure;
use crate::cli::output::safe;
use crate::cli::socket::Target;
use crate::cli::timestamp;

/// The status of monitoring plugins, from good to bad. `Unknown` is worse than a warning, and not as bad as critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Warning,
    Unknown,
    Critical,
}

impl Status {
    /// The exit status.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }
}

/// The latencies from which the status is a warning or critical.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) warn: Duration,
    pub(super) critical: Duration,
}

impl Limits {
    pub(super) fn new(warn: Duration, critical: Duration) -> Result<Self, Failure> {
        match warn <= critical {
            true => Ok(Self { warn, critical }),
            false => Err(Failure::Usage(format!("--warn {warn:?} is more than --critical {critical:?}"))),
        }
    }
}

/// The result of one check.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    #[serde(serialize_with = "json_time")]
    time: SystemTime,
    pub(super) status: Status,
    #[serde(rename = "latencyMs", serialize_with = "json_millis")]
    latency: Option<Duration>,
    reason: Option<String>,
}

impl Measured {
    pub(super) fn delivered(latency: Duration, limits: Limits) -> Self {
        let status = match latency {
            latency if latency >= limits.critical => Status::Critical,
            latency if latency >= limits.warn => Status::Warning,
            _ => Status::Ok,
        };
        Self { time: SystemTime::now(), status, latency: Some(latency), reason: None }
    }

    pub(super) fn not_delivered(limits: Limits) -> Self {
        Self::critical(format!("the event did not arrive within {:?}", limits.critical))
    }

    pub(super) fn critical(reason: String) -> Self {
        Self { time: SystemTime::now(), status: Status::Critical, latency: None, reason: Some(reason) }
    }

    pub(super) fn unknown(reason: String) -> Self {
        Self { status: Status::Unknown, ..Self::critical(reason) }
    }

    /// Whether the text has the reason why there is no latency.
    pub(super) fn has_reason(&self) -> bool {
        self.reason.is_some()
    }

    /// Formats the result: `ok 3.2 ms`, `unknown: ...`.
    pub(super) fn text(&self) -> String {
        let word = self.status.word();
        match (self.latency, &self.reason) {
            (Some(latency), _) => format!("{word} {:.1} ms", millis(latency)),
            (None, reason) => format!("{word}: {}", safe::line(reason.as_deref().unwrap_or_default())),
        }
    }

    /// Formats the result for Prometheus.
    pub(super) fn prometheus(&self, target: &Target, nsp: &Namespace) -> String {
        let labels = format!("url=\"{}\",namespace=\"{}\"", label(&target.to_string()), label(nsp.as_str()));
        let mut text = String::new();
        let mut gauge = |name: &str, help: &str, value: f64| {
            // Writing to a string cannot fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{labels}}} {value}\n");
        };
        let is_delivered = self.latency.is_some();
        gauge("pgio_probe_success", "Whether the event arrived.", f64::from(u8::from(is_delivered)));
        let status = f64::from(self.status.code());
        gauge("pgio_probe_status", "0 ok, 1 warning, 2 critical, 3 unknown.", status);
        if let Some(latency) = self.latency {
            let help = "How long the event took from Postgres to the client.";
            gauge("pgio_probe_latency_seconds", help, latency.as_secs_f64());
        }
        let time = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        gauge("pgio_probe_timestamp_seconds", "When the check ended.", time);
        text
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Escapes the value of a label.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn json_time<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:.3}", timestamp::of(*time)))
}

fn json_millis<S: serde::Serializer>(latency: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    // Rounds to microseconds. A network latency has no meaningful finer digits.
    latency.map(|latency| (millis(latency) * 1000.0).round() / 1000.0).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latency_decides() {
        let limits = Limits::new(Duration::from_millis(100), Duration::from_secs(1)).unwrap();
        for (millis, text, code) in
            [(3, "ok 3.0 ms", 0), (100, "warning 100.0 ms", 1), (1000, "critical 1000.0 ms", 2)]
        {
            let measured = Measured::delivered(Duration::from_millis(millis), limits);
            assert_eq!((measured.text().as_str(), measured.status.code()), (text, code));
        }
        let lost = Measured::not_delivered(limits);
        assert_eq!(lost.text(), "critical: the event did not arrive within 1s");
        assert!(Limits::new(Duration::from_secs(2), Duration::from_secs(1)).is_err());
        assert!(Status::Critical > Status::Unknown && Status::Unknown > Status::Warning);
    }

    #[test]
    fn metrics_are_those_of_prometheus() {
        let target = Target::parse("http://user:secret@h:1").unwrap();
        let text = Measured::unknown("away".into()).prometheus(&target, &Namespace::new("/a\"b"));
        assert!(text.contains("pgio_probe_success{url=\"http://h:1\",namespace=\"/a\\\"b\"} 0\n"), "{text}");
        assert!(!text.contains("latency"), "{text}");
    }
}
