//! Checks the guarantees of a round.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::check::{Broken, Check};
use super::clock::Moment;
use super::fault::{NOTICED, Notice, Promise, RECOVERED};
use super::ledger::{Pair, Receiver, Sender, Verdict, ranges};
use super::observe::{files_span, flows_since, lost};
use super::pgio_node::SAMPLING;
use super::requests::DEADLINE;
use super::round::GIVE_UP;
use super::routes::{LOCAL, Member, Reach};
use super::world::World;

/// The allowance for measuring: `/readyz` is asked ten times a second, and the machine is shared.
pub const NOTICED_SLACK: Duration = Duration::from_secs(1);
pub const RECOVERED_SLACK: Duration = Duration::from_millis(500);
pub const REQUEST_SLACK: Duration = Duration::from_secs(1);

/// Events older than this have arrived when a fault begins.
const IN_FLIGHT: Duration = Duration::from_millis(500);

/// The allowance for measuring the moment when `/readyz` says 200.
const READY_SLACK: Duration = Duration::from_millis(200);

/// How long events with an attachment may take to flow again; they are few, so this is coarse.
const FILES_FLOW: Duration = Duration::from_secs(5);

/// The results of a member in a round.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub noticed: Option<Duration>,
    /// `None`: never within the time that the harness waits.
    pub recovered: Option<Duration>,
    pub received: usize,
    pub lost: usize,
    pub twice: usize,
    pub disordered: usize,
    /// Events of its client that the node answered with an error.
    pub refused: usize,
    pub slowest: Duration,
    /// Of the events with an attachment.
    pub files_lost: usize,
}

/// A round to be checked, and the failed checks so far.
pub struct Judge<'a> {
    pub world: &'a World,
    pub promise: Promise,
    pub reach: Reach,
    /// The members whose routes tell when A had recovered.
    pub recovery: Reach,
    /// The allowance for other load of the machine.
    pub lag: Duration,
    /// When the round before ended.
    pub from: Moment,
    /// When the fault began.
    pub began: Moment,
    /// When Postgres answered again.
    pub answers: Moment,
    /// When the round ended.
    pub until: Moment,
    pub broken: Vec<Broken>,
}

impl Judge<'_> {
    fn breaks(&mut self, check: Check, seen: String) {
        self.broken.push(Broken::new(check, seen));
    }

    /// Counts the inline events of a member; checks those of pgio node A.
    pub fn member(&mut self, member: Member, flows: Option<Moment>) -> Row {
        let (world, routes) = (self.world, member.inline(self.reach));
        let mut row = Row::default();
        let mut recovered = flows;
        for (is_sending, pairs) in [(false, &routes.receiving), (true, &routes.sending)] {
            for pair in pairs {
                let verdict = world.ledger.verdict(*pair, self.from, self.until);
                let (twice, disordered) = world.ledger.take_disorder(*pair);
                row.received += verdict.received;
                row.lost += verdict.lost.len();
                row.twice += twice.len();
                row.disordered += disordered.len();
                row.slowest = row.slowest.max(verdict.slowest);
                if let Some(last) = verdict.last_lost.filter(|last| *last >= self.answers) {
                    recovered = recovered.map(|recovered| recovered.max(last));
                }
                if member == Member::A {
                    self.pair(*pair, is_sending, &verdict, &twice, &disordered);
                }
            }
        }
        if member == Member::A {
            let answers = world.ledger.answers(Sender::A, self.from, self.until);
            row.refused = answers.refused;
            if let Some(last) = answers.last_refused.filter(|last| *last >= self.answers) {
                recovered = recovered.map(|recovered| recovered.max(last));
            }
            if let Some(bound) =
                self.promise.inline_delay.filter(|bound| row.slowest > *bound + RECOVERED_SLACK + self.lag)
            {
                let slowest = row.slowest.as_secs_f64();
                self.breaks(
                    Check::InlinePasses,
                    format!("inline events were up to {slowest:.1} s late, {bound:?} is allowed"),
                );
            }
        }
        row.recovered = recovered.map(|recovered| recovered.since(self.answers));
        row
    }

    /// Checks a route of pgio node A.
    fn pair(&mut self, pair: Pair, is_sending: bool, verdict: &Verdict, twice: &[u64], disordered: &[u64]) {
        let keeps = if is_sending { self.promise.keeps_sending } else { self.promise.keeps_receiving };
        let in_flight = i64::try_from((IN_FLIGHT + self.lag).as_millis()).unwrap_or(0);
        let in_flight = Moment(self.began.0 - in_flight);
        if keeps && !verdict.lost.is_empty() {
            let check = if is_sending { Check::AcknowledgedArrives } else { Check::NothingLost };
            self.breaks(check, describe(pair, &verdict.lost));
        } else if verdict.first_lost.is_some_and(|first| first < in_flight) {
            self.breaks(Check::NothingLost, format!("before the fault, {}", describe(pair, &verdict.lost)));
        } else if !is_sending && verdict.last_lost.is_some_and(|last| self.was_ready(last)) {
            let seen = format!("though /readyz said 200 again, {}", describe(pair, &verdict.lost));
            self.breaks(Check::NothingLost, seen);
        }
        self.disorder(pair, twice, disordered);
    }

    /// Whether the node said that it is ready from before that moment until now.
    fn was_ready(&self, moment: Moment) -> bool {
        // The client of a node that was killed has to come back, too.
        let ready = self.world.a.ready_since().filter(|ready| *ready > self.began && self.promise.answers);
        ready.is_some_and(|ready| moment > ready && moment.since(ready) > READY_SLACK + self.lag)
    }

    fn disorder(&mut self, pair: Pair, twice: &[u64], disordered: &[u64]) {
        let is_judged = self.promise.has_one_server || pair.1 != Receiver::Witness;
        for (check, numbers) in [(Check::Once, twice), (Check::Ordered, disordered)] {
            if !numbers.is_empty() && is_judged {
                self.breaks(check, describe(pair, numbers));
            }
        }
    }

    /// Checks everything that no fault hits alone.
    pub fn bystanders(&mut self, flow: bool) {
        let routes = Member::Bystanders.inline(self.reach);
        for pair in routes.all() {
            let (twice, disordered) = self.world.ledger.take_disorder(pair);
            self.disorder(pair, &twice, &disordered);
        }
        if !flow {
            self.breaks(Check::BystandersSpared, format!("not recovered within {} s", GIVE_UP.as_secs()));
        }
        if self.reach == Reach::Victims {
            for (pair, numbers) in lost(self.world, &routes, self.from, self.until) {
                self.breaks(Check::BystandersSpared, format!("lost {}", describe(pair, &numbers)));
            }
        }
    }

    /// Clients of one node reach each other without Postgres.
    pub fn local(&mut self) {
        let (twice, disordered) = self.world.ledger.take_disorder(LOCAL);
        self.disorder(LOCAL, &twice, &disordered);
        if !self.promise.keeps_local {
            return;
        }
        let verdict = self.world.ledger.verdict(LOCAL, self.from, self.until);
        if !verdict.lost.is_empty() {
            self.breaks(Check::LocalDelivery, format!("lost {}", describe(LOCAL, &verdict.lost)));
        }
        let bound = RECOVERED + RECOVERED_SLACK + self.lag;
        if verdict.slowest > bound {
            let slowest = verdict.slowest.as_secs_f64();
            self.breaks(Check::LocalDelivery, format!("it took up to {slowest:.1} s"));
        }
    }

    /// Checks when node A noticed the fault.
    pub fn notice(&mut self, row: &mut Row) {
        if self.promise.notice == Notice::Nothing {
            return;
        }
        row.noticed = self.world.a.noticed_since(self.began).map(|at| at.since(self.began));
        if self.promise.notice != Notice::Required {
            return;
        }
        match row.noticed {
            None => self.breaks(Check::Noticed, format!("never, {NOTICED:?} is allowed")),
            Some(noticed) if noticed > NOTICED + NOTICED_SLACK + self.lag => {
                let noticed = noticed.as_secs_f64();
                self.breaks(Check::Noticed, format!("after {noticed:.1} s, {NOTICED:?} is allowed"));
            }
            Some(_) => {}
        }
    }

    /// Checks when node A had recovered.
    pub fn recovered(&mut self, row: &Row) {
        match (row.recovered, self.promise.recovered) {
            (None, _) => {
                let pairs = Member::A.inline(self.recovery);
                let standing =
                    pairs.timed().filter(|pair| self.world.ledger.flows_since(*pair, self.answers).is_none());
                let mut standing: Vec<_> =
                    standing.map(|(s, r)| format!("{} → {}", s.name(), r.name())).collect();
                if self.world.a.ready_since().is_none() {
                    standing.push("/readyz is not 200".into());
                }
                let standing =
                    if standing.is_empty() { "it has recovered since".into() } else { standing.join(", ") };
                self.breaks(Check::Recovered, format!("not within {} s: {standing}", GIVE_UP.as_secs()));
            }
            (Some(recovered), Some(bound)) if recovered > bound + RECOVERED_SLACK + self.lag => {
                let (recovered, last) = (recovered.as_secs_f64(), self.last_to_flow());
                self.breaks(
                    Check::Recovered,
                    format!("after {recovered:.1} s, {bound:?} is allowed ({last})"),
                );
            }
            (Some(_), _) => {}
        }
    }

    /// Which route of A flowed last, and when `/readyz` said 200.
    fn last_to_flow(&self) -> String {
        let after = |moment: Moment| moment.since(self.answers).as_secs_f64();
        let routes = Member::A.inline(self.recovery);
        let flows = routes
            .timed()
            .filter_map(|pair| Some((self.world.ledger.flows_since(pair, self.answers)?, pair)));
        let ready = self
            .world
            .a
            .ready_since()
            .map_or_else(|| "never".into(), |at| format!("after {:.1} s", after(at)));
        match flows.max_by_key(|(at, _)| *at) {
            Some((at, (sender, receiver))) => {
                let (sender, receiver) = (sender.name(), receiver.name());
                format!("{sender} → {receiver} flowed after {:.1} s, /readyz said 200 {ready}", after(at))
            }
            None => format!("/readyz said 200 {ready}"),
        }
    }

    /// Events with an attachment: they flow again, and are kept where they do not suffer.
    pub async fn files(&mut self, row: &mut Row, is_recovered: bool) {
        let routes = Member::A.files();
        let deadline = Instant::now() + FILES_FLOW;
        while flows_since(self.world, &routes, self.answers).is_none() {
            if Instant::now() > deadline || !is_recovered {
                self.breaks(Check::AttachmentsFlow, format!("they do not {FILES_FLOW:?} later"));
                break;
            }
            sleep(SAMPLING).await;
        }
        let (from, until) = files_span(self.world, self.from, self.until);
        for (is_sending, pairs) in [(false, &routes.receiving), (true, &routes.sending)] {
            for pair in pairs {
                let lost = self.world.ledger.verdict(*pair, from, until).lost;
                row.files_lost += lost.len();
                let keeps =
                    if is_sending { self.promise.keeps_sending } else { self.promise.keeps_receiving };
                if keeps && !self.promise.files_suffer && !lost.is_empty() {
                    let check = if is_sending { Check::AcknowledgedArrives } else { Check::NothingLost };
                    self.breaks(check, format!("with an attachment, {}", describe(*pair, &lost)));
                }
                let (twice, disordered) = self.world.ledger.take_disorder(*pair);
                self.disorder(*pair, &twice, &disordered);
            }
        }
    }

    /// Every request ends by its deadline.
    pub fn requests(&mut self) -> Option<(&'static str, Duration)> {
        let ended = self.world.requests.take();
        for (name, ended) in &ended {
            if ended.longest > DEADLINE + REQUEST_SLACK + self.lag {
                let longest = ended.longest.as_secs_f64();
                self.breaks(
                    Check::RequestsEnd,
                    format!("{name} took {longest:.1} s, its deadline is {DEADLINE:?}"),
                );
            }
        }
        ended.into_iter().map(|(name, ended)| (name, ended.longest)).max_by_key(|(_, longest)| *longest)
    }

    /// Every client that asked for an acknowledgement has got an answer.
    pub fn answers(&mut self) {
        let mut senders = vec![Sender::B, Sender::Emitter];
        // A node that was killed answers nothing.
        if self.promise.answers {
            senders.extend([Sender::A, Sender::AFiles]);
        }
        for sender in senders {
            let unanswered = self.world.ledger.answers(sender, self.from, self.until).unanswered;
            if !unanswered.is_empty() {
                let (count, name) = (unanswered.len(), sender.name());
                let numbers = ranges(&unanswered);
                let seen =
                    format!("{count} events of {name} were neither acknowledged nor refused: {numbers}");
                self.breaks(Check::SendersAnswered, seen);
            }
        }
    }
}

fn describe((sender, receiver): Pair, numbers: &[u64]) -> String {
    format!("{} {} → {}: {}", numbers.len(), sender.name(), receiver.name(), ranges(numbers))
}
