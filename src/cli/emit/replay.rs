//! `emit --from`: sends the events of a file or of stdin, one for each line.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::poll;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until};

use super::source::{Pace, Source, line};
use super::warnings::Warnings;
use super::{Emit, room_map};
use crate::cli::arguments::{Format, Global};
use crate::cli::event_line::{Line, LineEvent, LineTargets, Wanted};
use crate::cli::exit::Failure;
use crate::cli::output::{lines::Lines, number, progress};
use crate::cli::signals::Signals;
use crate::emitter::PreparedBroadcast;
use crate::postgres::{GroupOutcome, GroupReceipt, MessageGroup};
use crate::protocol::{Channel, Encoded, Flags};
use crate::{BroadcastOperator, Cluster, Emitter, Error, Namespace};

/// The maximum number of events in flight.
const MAX_IN_FLIGHT: usize = 8192;

/// The number of events that are awaited together once the maximum is reached.
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
    replay.warnings.print().await;
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
    /// The events that are not queued yet.
    next: Group,
    in_flight: VecDeque<InFlight>,
    /// The number of events in these groups.
    events_in_flight: usize,
    /// The memory of events that have ended, for the next ones.
    spares: Vec<String>,
    progress: ProgressBar,
    warnings: Warnings,
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
        let prepare = |nsp| operator(emit, cluster, nsp, LineTargets::NONE).prepare();
        let prepared = namespaces.iter().map(prepare).collect::<Result<_, _>>()?;
        Ok(Self { namespaces, prepared })
    }
}

/// The operator of a line, with the rooms and flags of the command line as defaults.
fn operator(emit: &Emit, cluster: &Cluster, nsp: &Namespace, own: &LineTargets) -> BroadcastOperator {
    let rename = |rooms| room_map::apply(&emit.room_map, rooms);
    let rooms = rename(own.rooms.as_deref().unwrap_or(&emit.rooms));
    let except = rename(own.except.as_deref().unwrap_or(&emit.except));
    let operator = Emitter::new(cluster.clone()).of(nsp.clone()).to(&*rooms).except(&*except);
    match &own.flags {
        Some(flags) => emit.with_flags(operator, flags),
        None => emit.with_flags(operator, &Flags::default()),
    }
}

/// Events that are queued together, with the line of each.
#[derive(Default)]
struct Group {
    messages: MessageGroup,
    lines: Vec<u64>,
}

/// A group of events in flight.
struct InFlight {
    receipt: GroupReceipt,
    /// Known once all have ended.
    outcome: Option<GroupOutcome>,
    lines: Vec<u64>,
}

impl InFlight {
    /// Waits for the outcome, and keeps it.
    async fn wait(&mut self) {
        if self.outcome.is_none() {
            self.outcome = Some((&mut self.receipt).await);
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
            next: Group::default(),
            in_flight: VecDeque::new(),
            events_in_flight: 0,
            spares: Vec::new(),
            warnings: Warnings::new(progress.clone()),
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

    /// Queues all events of the source. The events before an invalid line are queued as well.
    async fn all(&mut self, source: &mut Source) -> Result<(), Failure> {
        let outcome = self.lines(source).await;
        outcome.and(self.queue().await)
    }

    async fn lines(&mut self, source: &mut Source) -> Result<(), Failure> {
        let mut pace = Pace::new(self.emit.rate, self.emit.speed);
        loop {
            let next = match source.buffered_event() {
                Some(next) => Some(next),
                None => self.settle_during(source.next_event(self.lines + 1)).await??,
            };
            let Some((parsed, bytes)) = next else { return Ok(()) };
            self.lines += 1;
            match parsed {
                Ok(None) => {}
                Ok(Some(Line::Other(_))) => self.other += 1,
                Ok(Some(Line::Event(wanted))) => {
                    if let Some(due) = pace.due_later(wanted.time) {
                        self.settle_during(sleep_until(due.into())).await?;
                    }
                    self.send(&wanted).await?;
                }
                Err(reason) => self.on_bad_line(Failure::Other(reason).at(&line(self.lines)))?,
            }
            self.warnings.print().await;
            if self.progress.is_hidden() {
                continue;
            }
            self.progress.inc(bytes);
            if self.lines.is_multiple_of(REDRAW) {
                self.progress.set_message(format!("{} sent", number::count(self.sent)));
            }
        }
    }

    /// Waits for something that may take long. Meanwhile it queues the events so far, and reports their failures at once.
    async fn settle_during<T>(&mut self, waiting: impl Future<Output = T>) -> Result<T, Failure> {
        let mut waiting = pin!(waiting);
        if let Poll::Ready(done) = poll!(&mut waiting) {
            return Ok(done);
        }
        // It runs to its end, since dropping it would drop events. Dropping the wait for receipts drops none.
        self.queue().await?;
        tokio::select! {
            biased;
            done = &mut waiting => return Ok(done),
            settled = self.await_receipts(0) => settled?,
        }
        Ok(waiting.await)
    }

    /// Fails at an invalid line, or skips it with `--keep-going`.
    fn on_bad_line(&mut self, failure: Failure) -> Result<(), Failure> {
        if !self.emit.keep_going {
            return Err(failure);
        }
        self.bad += 1;
        self.warnings.push(failure.to_string());
        Ok(())
    }

    async fn send(&mut self, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let targets = self.targets.clone();
        if wanted.is_bare() {
            for prepared in &targets.prepared {
                let encoded = match &wanted.event {
                    LineEvent::Text(text) => {
                        prepared.encode_text(*text, self.spares.pop().unwrap_or_default())
                    }
                    LineEvent::Args(args) => prepared.encode(args.clone()),
                };
                self.add(encoded).await?;
            }
            return Ok(());
        }
        let own = wanted.targets();
        self.ignored_rooms += u64::from(own.rooms.is_some() && !self.emit.rooms.is_empty());
        for nsp in self.emit.namespaces_of(own, &targets.namespaces) {
            let operator = operator(self.emit, &self.cluster, nsp, own);
            self.add(wanted.event.to_args().and_then(|args| operator.encode(args))).await?;
        }
        Ok(())
    }

    /// Adds an event of the current line to the group, and queues the group if it is full.
    async fn add(&mut self, encoded: crate::Result<(Channel, Encoded)>) -> Result<(), Failure> {
        match encoded {
            Ok((channel, encoded)) => {
                self.next.messages.push(channel, encoded);
                self.next.lines.push(self.lines);
                if self.next.messages.is_full() { self.queue().await } else { Ok(()) }
            }
            Err(error) => self.on_bad_line(Failure::from(error).at(&line(self.lines))),
        }
    }

    /// Queues the group. Waits while too many events are in flight.
    async fn queue(&mut self) -> Result<(), Failure> {
        if self.next.messages.is_empty() {
            return Ok(());
        }
        let Group { messages, lines } = std::mem::take(&mut self.next);
        let receipt = self.cluster.enqueue_group(messages).await?;
        self.events_in_flight += lines.len();
        self.in_flight.push_back(InFlight { receipt, outcome: None, lines });
        // The publisher and the connection have the same thread.
        yield_now().await;
        match self.events_in_flight > MAX_IN_FLIGHT {
            true => self.await_receipts(MAX_IN_FLIGHT - AT_ONCE).await,
            false => Ok(()),
        }
    }

    /// Waits until at most `at_most` events are in flight. After a lost connection the publisher itself retries them in
    /// order.
    async fn await_receipts(&mut self, at_most: usize) -> Result<(), Failure> {
        if at_most > 0 {
            // Waits for the last of them first. The others are then done as well, which saves a wake-up for each.
            let mut left = self.events_in_flight;
            let last = self.in_flight.iter_mut().find(|group| {
                left -= group.lines.len();
                left <= at_most
            });
            if let Some(last) = last {
                last.wait().await;
            }
        }
        while self.events_in_flight > at_most {
            // The group stays in the queue during the wait, so that an interruption still counts it.
            let Some(oldest) = self.in_flight.front_mut() else { break };
            oldest.wait().await;
            let Some(group) = self.in_flight.pop_front() else { break };
            self.events_in_flight -= group.lines.len();
            self.finish(group)?;
        }
        self.warnings.print().await;
        Ok(())
    }

    /// Counts the events of a group that has ended. Returns the first failure.
    fn finish(&mut self, group: InFlight) -> Result<(), Failure> {
        let GroupOutcome { failures, texts } = group.outcome.unwrap_or_default();
        self.spares.extend(texts);
        self.spares.truncate(MAX_IN_FLIGHT);
        self.sent += (group.lines.len() - failures.len()) as u64;
        let mut outcome = Ok(());
        for (index, error) in failures {
            self.lost += u64::from(matches!(error, Error::ConnectionLost(_)));
            let failed = match error.is_disconnected() {
                true => Err(error.into()),
                false => self.on_bad_line(Failure::from(error).at(&line(group.lines[index]))),
            };
            outcome = outcome.and(failed);
        }
        outcome
    }

    fn summary(&self) -> String {
        let unknown = match self.events_in_flight as u64 + self.lost {
            0 => String::new(),
            n => format!(", {} unknown", number::count(n)),
        };
        format!("{} sent{unknown}", number::count(self.sent))
    }

    fn print_result(&self) -> Result<(), Failure> {
        if self.global.output == Format::Json {
            let mut lines = Lines::stdout();
            lines.json(&json!({ "sent": self.sent, "bad": self.bad, "skipped": self.other }))?;
            lines.flush()?;
        } else {
            let took = self.start.elapsed();
            let rate = self.sent as f64 / took.as_secs_f64().max(0.001);
            let sent = number::count(self.sent);
            let mut text = format!("{sent} sent in {took:.1?} ({}/s)", number::count(rate as u64));
            if self.other > 0 {
                text += &match self.other {
                    1 => "; 1 line that is not a broadcast skipped".to_owned(),
                    lines => format!("; {} lines that are not broadcasts skipped", number::count(lines)),
                };
            }
            self.global.note(&text);
        }
        if self.ignored_rooms > 0 {
            let lines = match self.ignored_rooms {
                1 => "1 line that names rooms".to_owned(),
                lines => format!("{} lines that name rooms", number::count(lines)),
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
