//! Records every event at its sender and at each receiver, and compares the two.
//!
//! In: numbered events, sent, acknowledged and received, in any order of reporting. Out: for each pair of a sender and a
//! receiver the events that were lost, duplicated or out of order. It does no I/O.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::clock::Moment;

/// The sender of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// A client of pgio node A, which relays it.
    A,
    /// A client of pgio node B, which relays it.
    B,
    /// The library's emitter, at Postgres directly.
    Emitter,
    /// `pgio emit`, a process for each event, at Postgres directly.
    Cli,
    /// The Node server with adapter 0.5.0.
    Node05,
    /// The Node server with adapter 0.3.1.
    Node03,
    /// As `A`, through the attachment table.
    AFiles,
    /// As `Emitter`, through the attachment table.
    EmitterFiles,
    /// As `Node05`, through the attachment table.
    Node05Files,
}

impl Sender {
    pub const ALL: [Self; 9] = [
        Self::A,
        Self::B,
        Self::Emitter,
        Self::Cli,
        Self::Node05,
        Self::Node03,
        Self::AFiles,
        Self::EmitterFiles,
        Self::Node05Files,
    ];

    /// The name of the stream and of its events.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "client-of-A",
            Self::B => "client-of-B",
            Self::Emitter => "emitter",
            Self::Cli => "pgio-emit",
            Self::Node05 => "node-0.5",
            Self::Node03 => "node-0.3",
            Self::AFiles => "client-of-A-files",
            Self::EmitterFiles => "emitter-files",
            Self::Node05Files => "node-0.5-files",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sender| sender.name() == name)
    }

    /// Whether the sender learns that an event was published. A Node server does not.
    pub fn is_acknowledged(self) -> bool {
        !matches!(self, Self::Node05 | Self::Node03 | Self::Node05Files)
    }

    /// Whether events are published in the order of their numbers. A Node server's pool does not keep it.
    fn keeps_order(self) -> bool {
        self.is_acknowledged()
    }
}

/// A receiver of all streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Receiver {
    /// A client of pgio node A: the one that sends.
    A,
    /// Another client of pgio node A, which receives what the first one sends without Postgres.
    LocalA,
    /// A client of pgio node B.
    B,
    /// A client of the Node server with adapter 0.5.0.
    Node05,
    /// A client of the Node server with adapter 0.3.1.
    Node03,
    /// `pgio tail`.
    Tail,
    /// The harness itself, with a plain `LISTEN` at Postgres: the reference for which events were published, and in which
    /// order. It does not look into attachments.
    Witness,
}

impl Receiver {
    pub const ALL: [Self; 7] =
        [Self::A, Self::LocalA, Self::B, Self::Node05, Self::Node03, Self::Tail, Self::Witness];

    /// The name of its ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::LocalA => "A-local",
            Self::B => "B",
            Self::Node05 => "0.5",
            Self::Node03 => "0.3",
            Self::Tail => "tail",
            Self::Witness => "witness",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|receiver| receiver.name() == name)
    }
}

/// The route of an event: its sender and one of its receivers.
pub type Pair = (Sender, Receiver);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// The sender never learns more.
    Sent,
    /// Not answered yet.
    Pending,
    Published,
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    sent: Moment,
    outcome: Outcome,
}

#[derive(Debug, Default)]
struct Route {
    /// When each number first came, and how many others had come before.
    came: BTreeMap<u64, Came>,
    twice: Vec<u64>,
    /// The numbers that came for the first time since the order was last checked, in order of arrival.
    recent: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Came {
    at: Moment,
    rank: usize,
}

#[derive(Debug, Default)]
struct Records {
    sent: BTreeMap<Sender, BTreeMap<u64, Event>>,
    routes: BTreeMap<Pair, Route>,
}

/// The records of a run.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Records>);

/// The fate of the events of one route that were sent within a span of time.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Published, and not received.
    pub lost: Vec<u64>,
    /// When the last of them was sent.
    pub last_lost: Option<Moment>,
    /// When the first of them was published.
    pub first_lost: Option<Moment>,
    /// The longest time from sending to receiving.
    pub slowest: Duration,
    pub received: usize,
}

/// The answers that the sender got to its events.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub refused: usize,
    pub last_refused: Option<Moment>,
    /// Neither acknowledged nor refused.
    pub unanswered: Vec<u64>,
}

impl Ledger {
    pub fn sent(&self, sender: Sender, number: u64, at: Moment) {
        let outcome = if sender.is_acknowledged() { Outcome::Pending } else { Outcome::Sent };
        self.with(|records| {
            records.sent.entry(sender).or_default().insert(number, Event { sent: at, outcome })
        });
    }

    pub fn settled(&self, sender: Sender, number: u64, is_published: bool) {
        self.with(|records| {
            let event = records.sent.get_mut(&sender).and_then(|events| events.get_mut(&number));
            if let Some(event) = event {
                event.outcome = if is_published { Outcome::Published } else { Outcome::Refused };
            }
        });
    }

    pub fn received(&self, (sender, receiver): Pair, number: u64, at: Moment) {
        self.with(|records| {
            let route = records.routes.entry((sender, receiver)).or_default();
            if route.came.contains_key(&number) {
                route.twice.push(number);
                return;
            }
            let rank = route.came.len();
            route.came.insert(number, Came { at, rank });
            route.recent.push(number);
        });
    }

    /// A number that the sender has not used.
    pub fn next_number(&self, sender: Sender) -> u64 {
        // A killed sender may have used some numbers more than it reported.
        self.with(|records| {
            records.sent.get(&sender).and_then(|events| events.last_key_value()).map_or(1, |e| e.0 + 10_000)
        })
    }

    /// When the first event came that was sent at that moment or later.
    pub fn flows_since(&self, pair: Pair, moment: Moment) -> Option<Moment> {
        self.with(|records| {
            let (events, route) = (records.sent.get(&pair.0)?, records.routes.get(&pair)?);
            let later = events.iter().rev().take_while(|(_, event)| event.sent >= moment);
            later.filter_map(|(number, _)| route.came.get(number)).map(|came| came.at).min()
        })
    }

    /// The fate of the events that were sent from `from` until before `until`.
    pub fn verdict(&self, pair: Pair, from: Moment, until: Moment) -> Verdict {
        self.with(|records| {
            let mut verdict = Verdict::default();
            let Some(events) = records.sent.get(&pair.0) else { return verdict };
            let route = records.routes.get(&pair);
            let witness = records.routes.get(&(pair.0, Receiver::Witness));
            for (number, event) in span(events, from, until) {
                let witnessed = witness.and_then(|route| route.came.get(number)).map(|came| came.at);
                let is_published = match (pair.0, event.outcome) {
                    // A Node server that fails to publish is not pgio's fault.
                    (Sender::Node03, _) => witnessed.is_some(),
                    (_, outcome) => matches!(outcome, Outcome::Sent | Outcome::Published),
                };
                // How long the sender takes counts for members that are judged as senders.
                let published = match pair.0 {
                    Sender::Node03 => witnessed.unwrap_or(event.sent),
                    _ => event.sent,
                };
                match route.and_then(|route| route.came.get(number)) {
                    Some(came) => {
                        verdict.received += 1;
                        verdict.slowest = verdict.slowest.max(came.at.since(published));
                    }
                    None if is_published => {
                        verdict.lost.push(*number);
                        verdict.last_lost = verdict.last_lost.max(Some(published));
                        verdict.first_lost =
                            Some(verdict.first_lost.map_or(published, |first| first.min(published)));
                    }
                    None => {}
                }
            }
            verdict.lost.sort_unstable();
            verdict
        })
    }

    /// The answers to the events that it sent from `from` until before `until`.
    pub fn answers(&self, sender: Sender, from: Moment, until: Moment) -> Answers {
        self.with(|records| {
            let mut answers = Answers::default();
            for (number, event) in
                records.sent.get(&sender).into_iter().flat_map(|events| span(events, from, until))
            {
                match event.outcome {
                    Outcome::Refused => {
                        answers.refused += 1;
                        answers.last_refused = answers.last_refused.max(Some(event.sent));
                    }
                    Outcome::Pending => answers.unanswered.push(*number),
                    Outcome::Sent | Outcome::Published => {}
                }
            }
            answers.unanswered.sort_unstable();
            answers
        })
    }

    /// The numbers that came twice, and those that came out of order, since this was last asked.
    pub fn take_disorder(&self, pair: Pair) -> (Vec<u64>, Vec<u64>) {
        self.with(|records| {
            let route = records.routes.entry(pair).or_default();
            let (twice, recent) = (std::mem::take(&mut route.twice), std::mem::take(&mut route.recent));
            let witness = records.routes.get(&(pair.0, Receiver::Witness));
            let place = |number: &u64| match pair.0.keeps_order() {
                true => Some(*number),
                false => witness?.came.get(number).map(|came| came.rank as u64),
            };
            let mut highest = 0;
            let placed = recent.into_iter().filter_map(|number| Some((number, place(&number)?)));
            let disordered = placed.filter(|(_, place)| {
                let is_late = *place < highest;
                highest = highest.max(*place);
                is_late
            });
            (twice, disordered.map(|(number, _)| number).collect())
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Records) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// The events that were sent from `from` until before `until`, the latest first. Numbers grow with time.
fn span(events: &BTreeMap<u64, Event>, from: Moment, until: Moment) -> impl Iterator<Item = (&u64, &Event)> {
    let until_from = events.iter().rev().take_while(move |(_, event)| event.sent >= from);
    until_from.filter(move |(_, event)| event.sent < until)
}

/// Numbers as a person reads them: `3-7, 9, 12-40 and 5 more`.
pub fn ranges(numbers: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges.iter().take(4).map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let text = shown.collect::<Vec<_>>().join(", ");
    match ranges.len().checked_sub(4) {
        Some(more @ 1..) => format!("{text} and {more} more ranges"),
        _ => text,
    }
}
