//! `emit --every` and `emit --cron`: send the event repeatedly, on a schedule.

use std::time::{Duration, Instant};

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{sleep, timeout};

use super::cron::{Step, Timetable};
use super::{Emit, Event, Sent, Targets};
use crate::cli::arguments::Global;
use crate::cli::connection::{Deadline, RetryBudget};
use crate::cli::exit::Failure;
use crate::cli::output::number;
use crate::cli::signals::Signals;
use crate::{Cluster, Error};

/// The default retry time of one round, for connecting and publishing.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The time that a round may take beyond its limit, for the round trips.
const GRACE: Duration = Duration::from_secs(1);

/// The limit of the checks before a round.
const CHECKS: Duration = Duration::from_secs(15);

/// A note announces an event only if it is due later than this.
const WORTH_A_LINE: SignedDuration = SignedDuration::from_mins(1);

/// The schedule of an event.
pub(super) enum Schedule<'a> {
    Every { pause: Duration, next: Instant },
    Cron(Timetable<'a>),
}

/// The event is never due again.
struct Never;

impl<'a> Schedule<'a> {
    pub(super) fn new(
        every: Option<Duration>,
        cron: Option<&'a Cron>,
        zone: Option<TimeZone>,
    ) -> Option<Self> {
        let every = every.map(|pause| Self::Every { pause, next: Instant::now() });
        every.or_else(|| {
            cron.map(|cron| Self::Cron(Timetable::new(cron, zone.unwrap_or_else(TimeZone::system))))
        })
    }

    /// The next due time for people: `2026-01-02 09:00:00 CET`. Only a crontab expression needs it. After the first
    /// round, this returns `None` if the event is due soon.
    fn next(&self, is_first: bool) -> Option<String> {
        let Self::Cron(timetable) = self else { return None };
        let now = Timestamp::now();
        let next = timetable.next(now)?;
        let is_soon = next.timestamp().duration_since(now) < WORTH_A_LINE;
        (is_first || !is_soon).then(|| next.strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
    }

    /// Waits until the event is due. Skips rounds that were missed.
    async fn wait(&mut self) -> Result<(), Never> {
        match self {
            Self::Every { pause, next } => {
                let now = Instant::now();
                let due = *next;
                while *next <= now {
                    *next += *pause;
                }
                sleep(due.saturating_duration_since(now)).await;
                Ok(())
            }
            Self::Cron(timetable) => loop {
                match timetable.step(Timestamp::now()) {
                    Step::Send => return Ok(()),
                    Step::Wait(time) => sleep(time).await,
                    Step::Never => return Err(Never),
                }
            },
        }
    }
}

/// Sends the event whenever it is due, until `--count` is reached.
pub(super) async fn run(
    emit: &Emit,
    global: &Global,
    event: &Event,
    mut schedule: Schedule<'_>,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut retries = emit.retry_budget();
    let connect = async {
        let cluster = emit.connect(global, &mut retries).await?;
        // At the start, too few servers are an error. Later they are a reason to skip a round.
        emit.check_nodes(&cluster).await.map(|()| cluster)
    };
    let connected = tokio::select! {
        connected = connect => connected?,
        () = signals.next_on_terminal() => return Err(Failure::Interrupted.after("0 sent".into())),
    };
    let mut rounds = Rounds { emit, global, event, cluster: Some(connected), sent: 0, unknown: 0 };
    let outcome = tokio::select! {
        outcome = rounds.all(&mut schedule) => outcome,
        () = signals.next_on_terminal() => Err(Failure::Interrupted),
    };
    outcome.map_err(|failure| failure.after(rounds.summary()))
}

/// Sends the event in each round of the schedule.
struct Rounds<'a> {
    emit: &'a Emit,
    global: &'a Global,
    event: &'a Event,
    /// `None` after a round without an answer. The next round then connects again.
    cluster: Option<Cluster>,
    sent: u64,
    /// The number of events that Postgres may have committed or not, including the event in progress.
    unknown: u64,
}

impl Rounds<'_> {
    async fn all(&mut self, schedule: &mut Schedule<'_>) -> Result<(), Failure> {
        let mut is_first = true;
        while self.emit.count.is_none_or(|count| self.sent < count) {
            if let Some(next) = schedule.next(is_first) {
                self.global.note(&format!("next at {next}"));
            }
            is_first = false;
            if schedule.wait().await.is_err() {
                return Err(Failure::Other("the --cron expression has no further time".into()));
            }
            match self.round().await {
                Ok(Sent::Whole) => self.emit.print_sent(self.global, self.event)?,
                Ok(Sent::AcksMissing(failure)) if self.emit.count == Some(self.sent) => return Err(failure),
                Ok(Sent::AcksMissing(failure)) => self.global.warn(&failure.to_string()),
                // An unreachable server may be back in the next round. An invalid event stays invalid.
                Err(failure) if failure.is_transient() => self.global.warn(&failure.to_string()),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Sends the event once. Ends by its deadline, even if Postgres does not answer.
    async fn round(&mut self) -> Result<Sent, Failure> {
        let cluster = match self.cluster.take() {
            Some(cluster) => cluster,
            None => self.connect().await?,
        };
        let outcome = match in_time(CHECKS, self.emit.checked_targets(&cluster)).await {
            Ok(targets) => self.send(&cluster, targets).await,
            Err(failure) => Err(failure),
        };
        // A lost connection is dropped, since statements without an answer would delay the next round.
        if !outcome.as_ref().is_err_and(Failure::is_connection_lost) {
            self.cluster = Some(cluster);
        }
        outcome
    }

    async fn connect(&self) -> Result<Cluster, Failure> {
        let retry_time = self.retry_time();
        let (limit, retries) = (retry_time.saturating_add(GRACE), &mut RetryBudget::of(retry_time));
        match timeout(limit, self.emit.connect(self.global, retries)).await {
            Ok(connected) => connected,
            Err(_) => Err(self.no_connection(limit)),
        }
    }

    async fn send(&mut self, cluster: &Cluster, targets: Targets) -> Result<Sent, Failure> {
        let limit = if self.emit.ack { self.emit.timeout } else { self.retry_time() };
        self.unknown += 1;
        let deadline = Deadline::after(self.emit.timeout);
        let send = self.emit.send(self.global, cluster, self.event, targets, deadline);
        let outcome = in_time(limit.saturating_add(GRACE), send).await;
        match &outcome {
            Ok(_) => self.sent += 1,
            Err(failure) if failure.is_connection_lost() => return outcome,
            Err(_) => {}
        }
        self.unknown -= 1;
        outcome
    }

    fn retry_time(&self) -> Duration {
        self.emit.retry_for.unwrap_or(PATIENCE)
    }

    fn no_connection(&self, limit: Duration) -> Failure {
        let reason = format!("no answer within {limit:?}");
        match self.global.settings() {
            Ok(settings) => {
                let target = settings.target();
                Error::Connect { target, reason, sqlstate: None, source: None }.into()
            }
            Err(error) => error.into(),
        }
    }

    fn summary(&self) -> String {
        let unknown = match self.unknown {
            0 => String::new(),
            n => format!(", {} unknown", number::count(n)),
        };
        format!("{} sent{unknown}", number::count(self.sent))
    }
}

/// The outcome of work that has to end within this time.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let no_answer = || Error::ConnectionLost(format!("no answer within {limit:?}"));
    timeout(limit, work).await.unwrap_or_else(|_| Err(no_answer().into()))
}
