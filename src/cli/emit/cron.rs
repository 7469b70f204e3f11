//! `emit --cron`: computes when the event is due, in wall-clock time.
//!
//! The clock may be set, and the machine may sleep. So this computes only the next due time, and reads the clock every
//! second until that time.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// The interval between two reads of the clock.
const LOOK: Duration = Duration::from_secs(1);

/// The delay from which an event counts as missed: the machine was asleep, or the clock was set forward.
const LATE: SignedDuration = SignedDuration::from_mins(1);

/// The backward step of the clock from which the old state is discarded, since the clock was wrong before. The value is
/// that of Vixie cron.
const CORRECTION: SignedDuration = SignedDuration::from_hours(3);

/// Computes when an event is due.
pub(super) struct Timetable<'a> {
    cron: &'a Cron,
    zone: TimeZone,
    /// The due time of the last sent event.
    last: Option<Timestamp>,
    /// The next due time.
    due: Option<Timestamp>,
}

/// The next action.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send the event.
    Send,
    /// Wait for this time, then call `step` again.
    Wait(Duration),
    /// The expression has no later due time.
    Never,
}

impl<'a> Timetable<'a> {
    pub(super) fn new(cron: &'a Cron, zone: TimeZone) -> Self {
        Self { cron, zone, last: None, due: None }
    }

    /// The next action at the time `now`. Returns [`Step::Send`] only once for each due time, unless the clock was
    /// wrong by hours.
    pub(super) fn step(&mut self, now: Timestamp) -> Step {
        if self.last.is_some_and(|last| last.duration_since(now) > CORRECTION) {
            (self.last, self.due) = (None, None);
        }
        let due = match self.due.filter(|due| now.duration_since(*due) <= LATE) {
            // A due time that is further ahead is computed again, since the clock may have been wrong.
            Some(due) if due.duration_since(now) <= CORRECTION => due,
            _ => match self.next_after(self.last.map_or(now, |last| last.max(now))) {
                Some(due) => *self.due.insert(due),
                None => return Step::Never,
            },
        };
        match Duration::try_from(due.duration_since(now)) {
            Ok(left) if !left.is_zero() => Step::Wait(left.min(LOOK)),
            _ => {
                (self.last, self.due) = (Some(due), None);
                Step::Send
            }
        }
    }

    /// The next due time, in the zone of the expression.
    pub(super) fn next(&self, now: Timestamp) -> Option<Zoned> {
        let due = self.due.or_else(|| self.next_after(self.last.map_or(now, |last| last.max(now))));
        due.map(|due| due.to_zoned(self.zone.clone()))
    }

    fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let moment = moment.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&moment, false).ok().map(|next| next.timestamp())
    }
}

/// Parses a crontab expression of five fields, or six with seconds, or a name like `@hourly`.
pub(super) fn parse_cron(text: &str) -> Result<Box<Cron>, String> {
    let cron =
        CronParser::builder().seconds(Seconds::Optional).build().parse(text).map_err(|e| e.to_string())?;
    Ok(Box::new(cron))
}

/// Parses the name of a time zone.
pub(super) fn parse_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| "unknown time zone (write it like Europe/Madrid)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The times of the clock, in UTC, at which the event is sent.
    fn sent_at(cron: &str, clock: &[&str]) -> Vec<String> {
        let cron = parse_cron(cron).unwrap();
        let mut timetable = Timetable::new(&cron, TimeZone::UTC);
        let sent = clock.iter().filter(|time| timetable.step(at(time)) == Step::Send);
        sent.map(|time| (*time).to_owned()).collect()
    }

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
    fn it_is_due_by_the_clock_of_its_zone() {
        let cron = parse_cron("0 9 * * *").unwrap();
        let timetable = Timetable::new(&cron, parse_zone("Europe/Madrid").unwrap());
        // The night of the change to summer time is an hour shorter.
        assert_eq!(timetable.next_after(at("2026-03-28T09:00:00Z")), Some(at("2026-03-29T07:00:00Z")));
    }

    #[test]
    fn the_clock_is_read_every_second() {
        let cron = parse_cron("@hourly").unwrap();
        let mut timetable = Timetable::new(&cron, TimeZone::UTC);
        assert_eq!(timetable.step(at("2026-01-01T11:30:00Z")), Step::Wait(LOOK));
        assert_eq!(timetable.step(at("2026-01-01T11:59:59.9Z")), Step::Wait(Duration::from_millis(100)));
        assert_eq!(
            timetable.next(at("2026-01-01T11:59:59.9Z")).unwrap().timestamp(),
            at("2026-01-01T12:00:00Z")
        );
        assert_eq!(timetable.step(at("2026-01-01T12:00:00Z")), Step::Send);
        assert_eq!(timetable.step(at("2026-01-01T12:00:00Z")), Step::Wait(LOOK));
        assert_eq!(
            timetable.next(at("2026-01-01T12:00:00Z")).unwrap().timestamp(),
            at("2026-01-01T13:00:00Z")
        );
        let never = parse_cron("0 0 30 2 *").unwrap();
        assert_eq!(Timetable::new(&never, TimeZone::UTC).step(at("2026-01-01T00:00:00Z")), Step::Never);
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_nothing() {
        let clock = [
            "2026-01-01T11:59:30Z",
            "2026-01-01T12:00:00Z",
            // The clock is set back.
            "2026-01-01T11:58:30Z",
            "2026-01-01T12:00:00Z",
            "2026-01-01T12:00:10Z",
            "2026-01-01T13:00:00Z",
        ];
        assert_eq!(sent_at("@hourly", &clock), ["2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"]);
        // The clock is set back by a tenth of a second, as NTP does.
        let clock = [
            "2026-01-01T12:00:00.9Z",
            "2026-01-01T12:00:01Z",
            "2026-01-01T12:00:00.9Z",
            "2026-01-01T12:00:01Z",
        ];
        assert_eq!(sent_at("* * * * * *", &clock), ["2026-01-01T12:00:01Z"]);
    }

    #[test]
    fn a_clock_that_was_years_ahead_is_not_waited_for() {
        let clock =
            ["2036-01-01T11:59:59Z", "2036-01-01T12:00:00Z", "2026-01-01T11:30:00Z", "2026-01-01T12:00:00Z"];
        assert_eq!(sent_at("@hourly", &clock), ["2036-01-01T12:00:00Z", "2026-01-01T12:00:00Z"]);
        // The clock is set back before an event was sent.
        let clock = ["2036-01-01T11:30:00Z", "2026-01-01T11:30:00Z", "2026-01-01T12:00:00Z"];
        assert_eq!(sent_at("@hourly", &clock), ["2026-01-01T12:00:00Z"]);
    }

    #[test]
    fn what_is_slept_through_is_skipped_and_a_little_late_is_not() {
        let clock = ["2026-01-01T11:30:00Z", "2026-01-01T15:10:00Z", "2026-01-01T16:00:20Z"];
        assert_eq!(sent_at("@hourly", &clock), ["2026-01-01T16:00:20Z"]);
    }
}
