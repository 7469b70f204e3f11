//! `emit --from`: sends the events of a file or of stdin, one for each line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::json;
use tokio::time::sleep;

use super::source::{Pace, Source};
use super::{Emit, room_map};
use crate::cli::arguments::{Format, Global};
use crate::cli::event_line::{self, Line, Wanted};
use crate::cli::exit::Failure;
use crate::cli::output::{lines::Lines, progress};
use crate::cli::signals::Signals;
use crate::emitter::PreparedBroadcast;
use crate::protocol::{EventArgs, Flags};
use crate::{BroadcastOperator, Cluster, Emitter, Error, Namespace, Receipt};

/// How many events may be on their way before the oldest has to be committed.
const UNDER_WAY: usize = 8192;

/// How many of these are waited for at once.
const AT_ONCE: usize = 2048;

/// How often the progress is redrawn, in lines.
const REDRAW: u64 = 512;

/// How long it waits for Postgres at the end before it prints a note.
const SILENCE: Duration = Duration::from_secs(1);

/// Sends what the source has.
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
        () = emit.warn_of_trouble(global, &watched) => Ok(()),
        () = signals.next_on_terminal() => Err(Failure::Interrupted),
    };
    // Events in progress still count, and their errors are reported.
    while !replay.under_way.is_empty() {
        tokio::select! {
            settled = replay.settle(0) => outcome = outcome.and(settled),
            () = signals.next_on_terminal() => {
                outcome = outcome.and(Err(Failure::Interrupted));
                break;
            }
            () = tell_of_silence(global) => {}
        }
    }
    replay.progress.finish_and_clear();
    emit.warn_of_duplicates(global, replay.cluster.possible_duplicates());
    outcome.map_err(|failure| failure.after(replay.summary()))?;
    replay.tell()
}

/// Never ends.
async fn tell_of_silence(global: &Global) {
    sleep(SILENCE).await;
    global.note("waiting for Postgres; Ctrl-C again stops at once");
    std::future::pending().await
}

struct Replay<'a> {
    emit: &'a Emit,
    global: &'a Global,
    cluster: Cluster,
    targets: Arc<Targets>,
    under_way: VecDeque<Sent>,
    progress: ProgressBar,
    start: Instant,
    lines: u64,
    sent: u64,
    /// Those that were in progress when the connection broke: Postgres may have committed them.
    lost: u64,
    bad: u64,
    other: u64,
    /// Lines whose own rooms outrank `--room`.
    outranked: u64,
}

/// Where a line goes that names neither rooms nor a namespace.
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

/// Where an error is.
fn line(number: u64) -> String {
    format!("line {number}")
}

/// The sockets that a line is for: those that it names, else those of the command line.
fn operator(emit: &Emit, cluster: &Cluster, nsp: &Namespace, wanted: &Wanted) -> BroadcastOperator {
    let rename = |rooms| room_map::apply(&emit.room_map, rooms);
    let rooms = rename(wanted.rooms.as_deref().unwrap_or(&emit.rooms));
    let except = rename(wanted.except.as_deref().unwrap_or(&emit.except));
    let Flags { volatile, compress, .. } = wanted.flags.clone().unwrap_or_default();
    let mut operator = Emitter::new(cluster.clone()).of(nsp.clone()).to(&*rooms).except(&*except);
    if volatile.unwrap_or(emit.volatile) {
        operator = operator.volatile();
    }
    if emit.durable {
        operator = operator.durable();
    }
    match compress.or(emit.compress) {
        Some(compress) => operator.compress(compress),
        None => operator,
    }
}

/// An event on its way.
struct Sent {
    receipt: Receipt,
    outcome: Option<crate::Result<()>>,
    line: u64,
}

impl Sent {
    /// Waits for the outcome, which stays known.
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
            under_way: VecDeque::new(),
            progress,
            start: Instant::now(),
            lines: 0,
            sent: 0,
            lost: 0,
            bad: 0,
            other: 0,
            outranked: 0,
        })
    }

    async fn all(&mut self, source: &mut Source) -> Result<(), Failure> {
        let mut pace = Pace::new(self.emit.rate, self.emit.speed);
        loop {
            if source.is_drained() {
                // Before waiting for a line that may be long in coming: a failure must not wait as well.
                self.settle(0).await?;
            }
            let (parsed, bytes) = match source.next().await {
                Ok(Some((line, bytes))) if line.trim().is_empty() => (Ok(None), bytes),
                Ok(Some((line, bytes))) => (event_line::parse(line).map(Some), bytes),
                Ok(None) => return Ok(()),
                Err(error) => return Err(Failure::file(line(self.lines + 1), &error)),
            };
            self.lines += 1;
            match parsed {
                Ok(None) => {}
                Ok(Some(Line::Other(_))) => self.other += 1,
                Ok(Some(Line::Event(wanted))) => {
                    pace.wait(wanted.time).await;
                    self.send(wanted).await?;
                }
                Err(reason) => self.refuse(Failure::Other(reason).at(&line(self.lines)))?,
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

    /// A bad line ends it, or is skipped where that was asked for.
    fn refuse(&mut self, failure: Failure) -> Result<(), Failure> {
        if !self.emit.keep_going {
            return Err(failure);
        }
        self.bad += 1;
        self.progress.suspend(|| self.global.warn(&failure.to_string()));
        Ok(())
    }

    async fn send(&mut self, wanted: Wanted) -> Result<(), Failure> {
        self.outranked += u64::from(wanted.rooms.is_some() && !self.emit.rooms.is_empty());
        let targets = self.targets.clone();
        if let (true, Some((last, others))) = (wanted.is_bare(), targets.prepared.split_last()) {
            for prepared in others {
                let queued = prepared.enqueue(wanted.event.clone()).await;
                self.note(queued)?;
            }
            let queued = last.enqueue(wanted.event).await;
            self.note(queued)?;
        } else {
            for nsp in self.emit.namespaces_of(&wanted, &targets.namespaces) {
                let operator = operator(self.emit, &self.cluster, nsp, &wanted);
                let queued = operator.enqueue_event(wanted.event.clone()).await;
                self.note(queued)?;
            }
        }
        self.settle(UNDER_WAY).await
    }

    /// Notes what became of an event of the current line.
    fn note(&mut self, queued: crate::Result<Receipt>) -> Result<(), Failure> {
        match queued {
            Ok(receipt) => {
                self.under_way.push_back(Sent { receipt, outcome: None, line: self.lines });
                Ok(())
            }
            Err(error) => self.refuse(Failure::from(error).at(&line(self.lines))),
        }
    }

    /// Waits until at most so many are in progress. The publisher sends again what a loss of the connection concerns, in
    /// its order, for as long as it was asked to.
    async fn settle(&mut self, at_most: usize) -> Result<(), Failure> {
        while self.under_way.len() > at_most {
            // A later one first: those before it are done by then, which spares a wake-up for each.
            let count = self.under_way.len().min(if at_most == 0 { 1 } else { AT_ONCE });
            if let Some(last) = self.under_way.get_mut(count - 1) {
                // It is counted in its turn.
                drop(last.wait().await);
            }
            for _ in 0..count {
                // In its place, so that an interruption here does not lose count of it.
                let Some(oldest) = self.under_way.front_mut() else { break };
                let outcome = oldest.wait().await;
                let Some(Sent { line, .. }) = self.under_way.pop_front() else { break };
                self.finish(line, outcome)?;
            }
        }
        Ok(())
    }

    /// Counts an event that is not in progress any more.
    fn finish(&mut self, line: u64, outcome: crate::Result<()>) -> Result<(), Failure> {
        match outcome {
            Ok(()) => self.sent += 1,
            Err(error) if error.is_disconnected() => {
                self.lost += u64::from(matches!(error, Error::ConnectionLost(_)));
                return Err(error.into());
            }
            Err(error) => self.refuse(Failure::from(error).at(&self::line(line)))?,
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let unknown = match self.under_way.len() as u64 + self.lost {
            0 => String::new(),
            n => format!(", {} unknown", progress::count(n)),
        };
        format!("{} sent{unknown}", progress::count(self.sent))
    }

    fn tell(&self) -> Result<(), Failure> {
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
        if self.outranked > 0 {
            let lines = match self.outranked {
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
