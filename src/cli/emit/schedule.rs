//! `emit --every` and `emit --cron`: stay, and send the event when it is time.

use std::time::{Duration, Instant};

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::Zoned;
use jiff::tz::TimeZone;
use tokio::time::sleep;

use super::{Emit, Event};
use crate::Cluster;
use crate::cli::arguments::Global;
use crate::cli::connection::Deadline;
use crate::cli::exit::Failure;

/// When an event is due.
pub(super) enum Schedule<'a> {
    Every { pause: Duration, next: Instant },
    Cron { cron: &'a Cron, zone: TimeZone },
}

impl<'a> Schedule<'a> {
    pub(super) fn new(
        every: Option<Duration>,
        cron: Option<&'a Cron>,
        zone: Option<TimeZone>,
    ) -> Option<Self> {
        let every = every.map(|pause| Self::Every { pause, next: Instant::now() });
        every.or_else(|| cron.map(|cron| Self::Cron { cron, zone: zone.unwrap_or_else(TimeZone::system) }))
    }

    /// How long until it is due again; `None` when it never is.
    fn next(&mut self) -> Option<Duration> {
        match self {
            Self::Every { pause, next } => {
                let now = Instant::now();
                let due = *next;
                // What was missed while Postgres was away is not made up for.
                while *next <= now {
                    *next += *pause;
                }
                Some(due.saturating_duration_since(now))
            }
            Self::Cron { cron, zone } => {
                let now = Zoned::now().with_time_zone(zone.clone());
                let next = cron.find_next_occurrence(&now, false).ok()?;
                Some(now.duration_until(&next).try_into().unwrap_or_default())
            }
        }
    }
}

/// Reads a crontab expression of five fields, or six with seconds, or a name like `@hourly`.
pub(super) fn parse_cron(text: &str) -> Result<Box<Cron>, String> {
    let cron =
        CronParser::builder().seconds(Seconds::Optional).build().parse(text).map_err(|e| e.to_string())?;
    Ok(Box::new(cron))
}

/// Reads the name of a time zone.
pub(super) fn parse_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| "no such time zone (write it like Europe/Madrid)".into())
}

/// Sends the event whenever it is due, until it has been sent often enough.
pub(super) async fn run(
    emit: &Emit,
    global: &Global,
    event: &Event,
    mut schedule: Schedule<'_>,
) -> Result<(), Failure> {
    let mut cluster = Some(emit.connect(global).await?);
    let mut sent = 0;
    while emit.count.is_none_or(|count| sent < count) {
        let Some(pause) = schedule.next() else {
            return Err(Failure::Other(format!("--cron is never due again ({sent} sent)")));
        };
        sleep(pause).await;
        match send(emit, global, event, &mut cluster).await {
            Ok(()) => {
                sent += 1;
                emit.tell_one(global, event)?;
            }
            // A server may be back when it is due the next time; a mistake in the event never mends itself.
            Err(failure) if failure.is_passing() => global.warn(&failure.to_string()),
            Err(failure) => return Err(failure.after(format!("{sent} sent"))),
        }
    }
    Ok(())
}

async fn send(
    emit: &Emit,
    global: &Global,
    event: &Event,
    cluster: &mut Option<Cluster>,
) -> Result<(), Failure> {
    let connected = match cluster.take() {
        Some(cluster) => cluster,
        None => emit.connect(global).await?,
    };
    let outcome = emit.send(global, &connected, event, Deadline::after(emit.timeout)).await;
    *cluster = Some(connected);
    outcome
}

/// How long one event is tried when nothing else was asked for.
pub(super) const RECONNECT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crontab_expressions_and_zones() {
        assert!(parse_cron("0 9 * * 1-5").is_ok());
        assert!(parse_cron("*/2 * * * * *").is_ok());
        assert!(parse_cron("@hourly").is_ok());
        assert!(parse_cron("61 * * * *").is_err());
        assert!(parse_zone("Europe/Madrid").is_ok());
        assert!(parse_zone("Europe/Atlantis").is_err());
    }

    #[test]
    fn cron_is_due_by_the_clock_of_its_zone() {
        let cron = parse_cron("0 9 * * *").unwrap();
        let zone = parse_zone("Europe/Madrid").unwrap();
        let now: Zoned = "2026-03-28T10:00:00[Europe/Madrid]".parse().unwrap();
        let next = cron.find_next_occurrence(&now.with_time_zone(zone), false).unwrap();
        // The night of the change to summer time has an hour less.
        assert_eq!(next.timestamp().to_string(), "2026-03-29T07:00:00Z");
    }
}
