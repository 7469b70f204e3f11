//! `emit --from`: sends the events of a file or of stdin, one for each line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::json;
use tokio::time::sleep;

use super::source::{Pace, Source, line};
use super::{Emit, room_map};
use crate::cli::arguments::{Format, Global};
use crate::cli::event_line::{Line, Wanted};
use crate::cli::exit::Failure;
use crate::cli::output::{lines::Lines, progress};
use crate::cli::signals::Signals;
use crate::emitter::PreparedBroadcast;
use crate::protocol::{EventArgs, Flags};
use crate::{BroadcastOperator, Cluster, Emitter, Error, Namespace, Receipt};

/// The maximum number of events in flight.
const MAX_IN_FLIGHT: usize = 8192;

/// The maximum number of receipts that are awaited together.
const AT_ONCE: usize = 2048;

/// The number of lines between two redraws of the progress.
const REDRAW: u64 = 512;

/// The waiting time at the end after which a note says that the command waits for Postgres.
const WAIT_NOTE_AFTER: Duration = Duration::from_secs(1);

/// Sends all events of the source.
pub(super) async fn run(
    emit: &Emit,
    global: &Global,
    cluster: Cluster,
    mut source: Source,
) -> Result<(), Failure> {
    let progress = progress::bytes(global, source.size);
    let mut signals = Signals::listen()?;
    let mut replay = Replay::new(emit, global, cluster, progress)?;
    let watched = replay.cluster.clone();
    let mut outcome = tokio::select! {
        outcome = replay.all(&mut source) => outcome,
        () = emit.warn_while_retrying(global, &watched) => Ok(()),
        () = signals.next_on_terminal() => Err(Failure::Interrupted),
    };
    // Events in progress still count, and their errors are reported.
    while !replay.in_flight.is_empty() {
        tokio::select! {
            settled = replay.await_receipts(0) => outcome = outcome.and(settled),
            () = signals.next_on_terminal() => {
                outcome = outcome.and(Err(Failure::Interrupted));
                break;
            }
            () = note_long_wait(global) => {}
        }
    }
    replay.progress.finish_and_clear();
    emit.warn_of_duplicates(global, replay.cluster.possible_duplicates());
    outcome.map_err(|failure| failure.after(replay.summary()))?;
    replay.print_result()
}

/// Prints a note if the wait takes long. Never returns.
async fn note_long_wait(global: &Global) {
    sleep(WAIT_NOTE_AFTER).await;
    global.note("waiting for Postgres; Ctrl-C again stops at once");
    std::future::pending().await
}

struct Replay<'a> {
    emit: &'a Emit,
    global: &'a Global,
    cluster: Cluster,
    targets: Arc<Targets>,
    in_flight: VecDeque<Sent>,
    progress: ProgressBar,
    start: Instant,
    lines: u64,
    sent: u64,
    /// The number of events in flight when the connection was lost. Postgres may have committed them.
    lost: u64,
    bad: u64,
    other: u64,
    /// The number of lines whose own rooms override `--room`.
    ignored_rooms: u64,
}

/// The prepared broadcasts for lines without rooms and namespace.
struct Targets {
    namespaces: Vec<Namespace>,
    prepared: Vec<PreparedBroadcast>,
}

impl Targets {
    fn new(emit: &Emit, cluster: &Cluster) -> crate::Result<Self> {
        let namespaces = emit.namespaces.list();
        let bare = Wanted::only(EventArgs::new("", []));
        let prepare = |nsp| operator(emit, cluster, nsp, &bare).prepare();
        let prepared = namespaces.iter().map(prepare).collect::<Result<_, _>>()?;
        Ok(Self { namespaces, prepared })
    }
}

/// The operator of a line, with the rooms and flags of the command line as defaults.
fn operator(emit: &Emit, cluster: &Cluster, nsp: &Namespace, wanted: &Wanted) -> BroadcastOperator {
    let rename = |rooms| room_map::apply(&emit.room_map, rooms);
    let rooms = rename(wanted.rooms.as_deref().unwrap_or(&emit.rooms));
    let except = rename(wanted.except.as_deref().unwrap_or(&emit.except));
    let operator = Emitter::new(cluster.clone()).of(nsp.clone()).to(&*rooms).except(&*except);
    match &wanted.flags {
        Some(flags) => emit.with_flags(operator, flags),
        None => emit.with_flags(operator, &Flags::default()),
    }
}

/// An event in flight.
struct Sent {
    receipt: Receipt,
    outcome: Option<crate::Result<()>>,
    line: u64,
}

impl Sent {
    /// Waits for the outcome, and keeps it.
    async fn wait(&mut self) -> crate::Result<()> {
        match &self.outcome {
            Some(outcome) => outcome.clone(),
            None => {
                let outcome = (&mut self.receipt).await;
                self.outcome = Some(outcome.clone());
                outcome
            }
        }
    }
}

impl<'a> Replay<'a> {
    fn new(
        emit: &'a Emit,
        global: &'a Global,
        cluster: Cluster,
        progress: ProgressBar,
    ) -> crate::Result<Self> {
        Ok(Self {
            emit,
            global,
            targets: Arc::new(Targets::new(emit, &cluster)?),
            cluster,
            in_flight: VecDeque::new(),
            progress,
            start: Instant::now(),
            lines: 0,
            sent: 0,
            lost: 0,
            bad: 0,
            other: 0,
            ignored_rooms: 0,
        })
    }

    async fn all(&mut self, source: &mut Source) -> Result<(), Failure> {
        let mut pace = Pace::new(self.emit.rate, self.emit.speed);
        loop {
            if source.is_drained() {
                // The next line may take long. So this first waits for the events in flight, and reports their failures
                // at once.
                self.await_receipts(0).await?;
            }
            let Some((parsed, bytes)) = source.next_event(self.lines + 1).await? else { return Ok(()) };
            self.lines += 1;
            match parsed {
                Ok(None) => {}
                Ok(Some(Line::Other(_))) => self.other += 1,
                Ok(Some(Line::Event(wanted))) => {
                    pace.wait(wanted.time).await;
                    self.send(wanted).await?;
                }
                Err(reason) => self.on_bad_line(Failure::Other(reason).at(&line(self.lines)))?,
            }
            if self.progress.is_hidden() {
                continue;
            }
            self.progress.inc(bytes);
            if self.lines.is_multiple_of(REDRAW) {
                self.progress.set_message(format!("{} sent", progress::count(self.sent)));
            }
        }
    }

    /// Fails at an invalid line, or skips it with `--keep-going`.
    fn on_bad_line(&mut self, failure: Failure) -> Result<(), Failure> {
        if !self.emit.keep_going {
            return Err(failure);
        }
        self.bad += 1;
        self.progress.suspend(|| self.global.warn(&failure.to_string()));
        Ok(())
    }

    async fn send(&mut self, wanted: Wanted) -> Result<(), Failure> {
        self.ignored_rooms += u64::from(wanted.rooms.is_some() && !self.emit.rooms.is_empty());
        let targets = self.targets.clone();
        if let (true, Some((last, others))) = (wanted.is_bare(), targets.prepared.split_last()) {
            for prepared in others {
                let queued = prepared.enqueue(wanted.event.clone()).await;
                self.record(queued)?;
            }
            let queued = last.enqueue(wanted.event).await;
            self.record(queued)?;
        } else {
            for nsp in self.emit.namespaces_of(&wanted, &targets.namespaces) {
                let operator = operator(self.emit, &self.cluster, nsp, &wanted);
                let queued = operator.enqueue_event(wanted.event.clone()).await;
                self.record(queued)?;
            }
        }
        self.await_receipts(MAX_IN_FLIGHT).await
    }

    /// Records a queued event of the current line.
    fn record(&mut self, queued: crate::Result<Receipt>) -> Result<(), Failure> {
        match queued {
            Ok(receipt) => {
                self.in_flight.push_back(Sent { receipt, outcome: None, line: self.lines });
                Ok(())
            }
            Err(error) => self.on_bad_line(Failure::from(error).at(&line(self.lines))),
        }
    }

    /// Waits until at most `at_most` events are in flight. After a lost connection the publisher itself retries them in
    /// order.
    async fn await_receipts(&mut self, at_most: usize) -> Result<(), Failure> {
        while self.in_flight.len() > at_most {
            // Waits for a later event first. The earlier events are then done as well, which saves a wake-up for each.
            let count = self.in_flight.len().min(if at_most == 0 { 1 } else { AT_ONCE });
            if let Some(last) = self.in_flight.get_mut(count - 1) {
                // The loop below counts this event.
                drop(last.wait().await);
            }
            for _ in 0..count {
                // The event stays in the queue during the wait, so that an interruption still counts it.
                let Some(oldest) = self.in_flight.front_mut() else { break };
                let outcome = oldest.wait().await;
                let Some(Sent { line, .. }) = self.in_flight.pop_front() else { break };
                self.finish(line, outcome)?;
            }
        }
        Ok(())
    }

    /// Counts a finished event.
    fn finish(&mut self, line: u64, outcome: crate::Result<()>) -> Result<(), Failure> {
        match outcome {
            Ok(()) => self.sent += 1,
            Err(error) if error.is_disconnected() => {
                self.lost += u64::from(matches!(error, Error::ConnectionLost(_)));
                return Err(error.into());
            }
            Err(error) => self.on_bad_line(Failure::from(error).at(&super::source::line(line)))?,
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let unknown = match self.in_flight.len() as u64 + self.lost {
            0 => String::new(),
            n => format!(", {} unknown", progress::count(n)),
        };
        format!("{} sent{unknown}", progress::count(self.sent))
    }

    fn print_result(&self) -> Result<(), Failure> {
        if self.global.output == Format::Json {
            let mut lines = Lines::stdout();
            lines.json(&json!({ "sent": self.sent, "bad": self.bad, "skipped": self.other }))?;
            lines.flush()?;
        } else {
            let took = self.start.elapsed();
            let rate = self.sent as f64 / took.as_secs_f64().max(0.001);
            let sent = progress::count(self.sent);
            let mut text = format!("{sent} sent in {took:.1?} ({}/s)", progress::count(rate as u64));
            if self.other > 0 {
                text += &match self.other {
                    1 => "; 1 line that is not a broadcast skipped".to_owned(),
                    lines => format!("; {} lines that are not broadcasts skipped", progress::count(lines)),
                };
            }
            self.global.note(&text);
        }
        if self.ignored_rooms > 0 {
            let lines = match self.ignored_rooms {
                1 => "1 line that names rooms".to_owned(),
                lines => format!("{} lines that name rooms", progress::count(lines)),
            };
            self.global.note(&format!("--room was ignored for {lines}; --map-room replaces rooms of lines"));
        }
        match self.bad {
            0 => Ok(()),
            1 => Err(Failure::Other(format!("1 invalid line of {} skipped", self.lines))),
            bad => Err(Failure::Other(format!("{bad} invalid lines of {} skipped", self.lines))),
        }
    }
}
