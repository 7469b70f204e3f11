//! The server itself: its version, whether it is a primary, its round trip time and its clock.

use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Zoned};

use super::finding::Finding;
use crate::Result;
use crate::postgres::health::{Examiner, Server};

/// The oldest version that supports the queries of all checks.
const OLDEST: i32 = 10;

/// The round trip time from which the check warns, since people notice the delay.
const FAR: Duration = Duration::from_millis(100);

/// The clock skew from which the check warns, since the logs of several machines can no longer be compared.
const SKEW: SignedDuration = SignedDuration::from_secs(1);

pub(super) fn connection(target: &str, server: &Server) -> Finding {
    let Server { user, database, .. } = server;
    Finding::ok("connection", format!("{target}, database {database}, as {user}"))
}

pub(super) fn is_recent(server: &Server) -> bool {
    server.major >= OLDEST
}

pub(super) fn version(server: &Server) -> Finding {
    judge_version(server.major, &server.version, Zoned::now().date())
}

fn judge_version(major: i32, version: &str, today: Date) -> Finding {
    let detail = format!("PostgreSQL {version}");
    if major < OLDEST {
        return Finding::fail(
            "version",
            format!("{detail} is too old for pgio"),
            format!("upgrade to {OLDEST} or later"),
        );
    }
    // Each major version gets fixes for five years. Source: https://www.postgresql.org/support/versioning/
    let end = i16::try_from(major + 2012).ok().and_then(|year| Date::new(year, 11, 15).ok());
    match end {
        Some(end) if today > end => {
            let year = end.year();
            Finding::warn("version", format!("{detail} has had no fixes since {year}"), "upgrade the server")
        }
        _ => Finding::ok("version", detail),
    }
}

pub(super) fn primary(server: &Server) -> Finding {
    let advice = "connect to the primary: name all servers in the URL, without target_session_attrs or with target_session_attrs=read-write";
    if server.is_standby {
        return Finding::fail(
            "primary",
            "this is a standby, which accepts neither LISTEN nor NOTIFY",
            advice,
        );
    }
    if server.is_read_only {
        let detail = "transactions are read-only, so attachments cannot be written";
        return Finding::fail(
            "primary",
            detail,
            "set default_transaction_read_only to off for this user and database",
        );
    }
    Finding::ok("primary", "accepts writes")
}

pub(super) async fn latency(examiner: &Examiner) -> Result<Finding> {
    let took = examiner.round_trip().await?;
    let detail = format!("a round trip takes {}", short(took));
    Ok(match took < FAR {
        true => Finding::ok("latency", detail),
        false => Finding::warn(
            "latency",
            detail,
            "run the servers near the database: each message takes at least this round trip",
        ),
    })
}

pub(super) async fn clock(examiner: &Examiner) -> Result<Finding> {
    let (ahead, doubt) = examiner.clock().await?;
    let size = Duration::try_from(ahead.abs()).unwrap_or_default();
    let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
    let doubt_signed = SignedDuration::try_from(doubt).unwrap_or(SignedDuration::MAX);
    Ok(if ahead.abs() > SKEW.saturating_add(doubt_signed) {
        Finding::warn(
            "clock",
            format!("the server's clock is {} {direction} this machine's", short(size)),
            "synchronize both clocks with NTP; the ages of attachments depend on the server's clock",
        )
    } else {
        let within = size.max(doubt).max(Duration::from_millis(1));
        Finding::ok("clock", format!("the server's clock agrees with this machine's to {}", short(within)))
    })
}

/// Formats a duration with three digits at most, below 1000 s.
pub(super) fn short(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        ..0.995 => format!("{millis:.2} ms"),
        ..9.95 => format!("{millis:.1} ms"),
        ..999.5 => format!("{millis:.0} ms"),
        ..99_950.0 => format!("{:.1} s", millis / 1e3),
        _ => format!("{:.0} s", millis / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    #[test]
    fn versions_grow_old() {
        let today = Date::constant(2026, 11, 23);
        for (major, status) in
            [(9, Status::Fail), (10, Status::Warn), (14, Status::Warn), (15, Status::Ok), (99, Status::Ok)]
        {
            assert_eq!(judge_version(major, "x", today).status, status, "{major}");
        }
        assert_eq!(judge_version(14, "14.1", Date::constant(2026, 11, 1)).status, Status::Ok);
    }

    #[test]
    fn times_have_three_digits() {
        for (micros, text) in [(20, "0.02 ms"), (1_234, "1.2 ms"), (45_678, "46 ms"), (1_500_000, "1.5 s")] {
            assert_eq!(short(Duration::from_micros(micros)), text);
        }
        assert_eq!(short(Duration::from_secs(3600)), "3600 s");
    }
}
