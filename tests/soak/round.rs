//! Runs one fault from its beginning until the cluster has recovered, and checks the guarantees.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::check::{Broken, Check};
use super::clock::Moment;
use super::fault::{Fault, NOTICED, Notice, Promise};
use super::inject::{Injected, inject};
use super::ledger::{Pair, Sender, Verdict, ranges};
use super::pgio_node::SAMPLING;
use super::requests::DEADLINE;
use super::routes::{LOCAL, Member, Reach, Routes};
use super::world::{Level, World, application, sessions};

/// The allowance for measuring: `/readyz` is asked ten times a second, and the machine is shared.
pub const NOTICED_SLACK: Duration = Duration::from_secs(1);
pub const RECOVERED_SLACK: Duration = Duration::from_millis(500);
pub const REQUEST_SLACK: Duration = Duration::from_secs(1);

/// How long a pgio node may take to recover until the harness gives up and starts a new cluster.
pub const GIVE_UP: Duration = Duration::from_secs(15);

/// How long the harness waits for the Node server, for which nothing is promised.
pub const GIVE_UP_NODE: Duration = Duration::from_secs(5);

/// How long everything flows before a round is judged.
const SETTLE: Duration = Duration::from_millis(800);

/// How long events that were sent before that may take to arrive.
const ARRIVE: Duration = Duration::from_secs(5);

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

/// The results of a round.
pub struct Round {
    pub fault: Fault,
    pub a: Row,
    pub node05: Row,
    pub longest_request: Option<(&'static str, Duration)>,
    /// How long the round took.
    pub took: Duration,
    /// By how much the bounds had to grow as the machine was busy.
    pub lag: Duration,
    /// The failed checks.
    pub broken: Vec<Broken>,
    /// The warnings and errors of node A.
    pub log: Vec<String>,
    /// Whether the cluster can be used for the next one.
    pub is_healthy: bool,
}

/// Makes a fault happen. `from` is where the last round ended; returns where this one does.
pub async fn run(world: &mut World, fault: Fault, from: Moment) -> (Round, Moment) {
    let started = Instant::now();
    let Injected { began, answers, mut failover, mut broken } = inject(world, fault).await;
    let (promise, reach) = (fault.promise(), fault.reach());
    let (mut flows, mut flows_node) = wait_until_recovered(world, reach, answers).await;
    if let Some(failover) = &mut failover {
        broken.extend(failover.thaw(world).await);
        // The old primary may have drawn sessions back.
        let thawed = Moment::now();
        let (again, again_node) = wait_until_recovered(world, reach, thawed).await;
        flows = flows.filter(|_| again.is_some());
        flows_node = flows_node.filter(|_| again_node.is_some());
    }
    let is_spared = bystanders_flow(world, reach, answers).await;
    // The next round judges how the Node servers are reached: they have to be back before it begins.
    let node03_is_back = failover.is_some() || bystanders_flow(world, Reach::Victims, answers).await;
    sleep(SETTLE).await;
    let until = Moment::now();
    wait_for_arrivals(world, reach, from, until).await;

    let lag = world.lag.take();
    let mut judge = Judge { world, promise, reach, lag, from, began, answers, until, broken };
    let mut a = judge.member(Member::A, flows);
    let mut node05 = judge.member(Member::Node05, flows_node);
    judge.bystanders(is_spared);
    judge.local();
    judge.notice(&mut a);
    judge.recovered(&a);
    judge.files(&mut a, flows.is_some()).await;
    let longest_request = judge.requests();
    judge.answers();
    let mut broken = judge.broken;
    node05.noticed = world.node05.noticed_since(began).map(|at| at.since(began));
    let (files_from, files_until) = files_span(world, from, until);
    let files_lost = lost(world, &Member::Node05.files(), files_from, files_until);
    node05.files_lost = files_lost.iter().map(|(_, numbers)| numbers.len()).sum();
    let died: Vec<_> =
        [&mut world.a, &mut world.b].into_iter().filter_map(|n| n.has_died().then_some(n.name)).collect();
    broken.extend(
        died.iter().map(|name| Broken::new(Check::Alive, format!("the process of node {name} has ended"))),
    );
    let all_flow = flows.is_some() && flows_node.is_some() && is_spared && node03_is_back;
    let is_healthy = all_flow && failover.is_none() && died.is_empty();
    let log = world.a.warnings_since(began);
    (
        Round { fault, a, node05, longest_request, took: started.elapsed(), lag, broken, log, is_healthy },
        until,
    )
}

/// Waits until A and the Node server have recovered; returns when that was, or `None` where the harness gave up.
async fn wait_until_recovered(
    world: &World,
    reach: Reach,
    answers: Moment,
) -> (Option<Moment>, Option<Moment>) {
    let started = Instant::now();
    loop {
        let [a, node05] =
            [Member::A, Member::Node05].map(|member| recovered_since(world, member, reach, answers));
        let is_over = a.is_some() && (node05.is_some() || started.elapsed() > GIVE_UP_NODE);
        if is_over || started.elapsed() > GIVE_UP {
            return (a, node05);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// When a member had recovered: a later event has come on each route, and `/readyz` says 200.
fn recovered_since(world: &World, member: Member, reach: Reach, answers: Moment) -> Option<Moment> {
    let flows = flows_since(world, &member.inline(reach), answers)?;
    match member {
        Member::A => Some(flows.max(world.a.ready_since()?)),
        _ => Some(flows),
    }
}

fn flows_since(world: &World, routes: &Routes, moment: Moment) -> Option<Moment> {
    // One process for each event is too slow to tell the moment.
    let dense = routes.all().filter(|(sender, _)| *sender != Sender::Cli);
    dense
        .map(|pair| world.ledger.flows_since(pair, moment))
        .try_fold(moment, |last, flows| Some(last.max(flows?)))
}

async fn bystanders_flow(world: &World, reach: Reach, answers: Moment) -> bool {
    let deadline = Instant::now() + GIVE_UP;
    while flows_since(world, &Member::Bystanders.inline(reach), answers).is_none() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}

/// Waits until all that has to arrive has arrived, in vain if it is lost.
async fn wait_for_arrivals(world: &World, reach: Reach, from: Moment, until: Moment) {
    let routes = [Member::A, Member::Node05, Member::Bystanders].map(|member| member.inline(reach));
    // Only the latest events can still be in flight.
    let recently = Moment(until.0 - 1000).max(from);
    let deadline = Instant::now() + ARRIVE;
    let all_reported = Duration::from_millis(500);
    sleep(all_reported).await;
    let is_missing = || {
        let acknowledged = [Sender::A, Sender::B, Sender::Emitter];
        let unanswered =
            acknowledged.iter().any(|s| !world.ledger.answers(*s, recently, until).unanswered.is_empty());
        unanswered || routes.iter().any(|routes| !lost(world, routes, recently, until).is_empty())
    };
    while is_missing() && Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
    }
}

/// The events that were published and did not arrive: the numbers for each route.
fn lost(world: &World, routes: &Routes, from: Moment, until: Moment) -> Vec<(Pair, Vec<u64>)> {
    let verdicts = routes.all().map(|pair| (pair, world.ledger.verdict(pair, from, until).lost));
    verdicts.filter(|(_, lost)| !lost.is_empty()).collect()
}

/// The window for events with an attachment: a second earlier, as the round does not wait for the last ones.
fn files_span(world: &World, from: Moment, until: Moment) -> (Moment, Moment) {
    (Moment(from.0 - 1000).max(world.flows_since), Moment(until.0 - 1000))
}

fn describe((sender, receiver): Pair, numbers: &[u64]) -> String {
    format!("{} {} → {}: {}", numbers.len(), sender.name(), receiver.name(), ranges(numbers))
}

struct Judge<'a> {
    world: &'a World,
    promise: Promise,
    reach: Reach,
    lag: Duration,
    from: Moment,
    began: Moment,
    answers: Moment,
    until: Moment,
    broken: Vec<Broken>,
}

impl Judge<'_> {
    fn breaks(&mut self, check: Check, seen: String) {
        self.broken.push(Broken::new(check, seen));
    }

    /// Counts the inline events of a member; checks those of pgio node A.
    fn member(&mut self, member: Member, flows: Option<Moment>) -> Row {
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
        for (check, numbers) in [(Check::Once, twice), (Check::Ordered, disordered)] {
            if !numbers.is_empty() {
                self.breaks(check, describe(pair, numbers));
            }
        }
    }

    fn bystanders(&mut self, flow: bool) {
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
    fn local(&mut self) {
        let (twice, disordered) = self.world.ledger.take_disorder(LOCAL);
        self.disorder(LOCAL, &twice, &disordered);
        if !self.promise.keeps_local {
            return;
        }
        let verdict = self.world.ledger.verdict(LOCAL, self.from, self.until);
        if !verdict.lost.is_empty() {
            self.breaks(Check::LocalDelivery, format!("lost {}", describe(LOCAL, &verdict.lost)));
        }
        let bound = super::fault::RECOVERED + RECOVERED_SLACK + self.lag;
        if verdict.slowest > bound {
            let slowest = verdict.slowest.as_secs_f64();
            self.breaks(Check::LocalDelivery, format!("it took up to {slowest:.1} s"));
        }
    }

    fn notice(&mut self, row: &mut Row) {
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

    fn recovered(&mut self, row: &Row) {
        match (row.recovered, self.promise.recovered) {
            (None, _) => {
                let pairs = Member::A.inline(self.reach);
                let standing = pairs.all().filter(|(sender, _)| *sender != Sender::Cli);
                let standing =
                    standing.filter(|pair| self.world.ledger.flows_since(*pair, self.answers).is_none());
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
                let recovered = recovered.as_secs_f64();
                self.breaks(Check::Recovered, format!("after {recovered:.1} s, {bound:?} is allowed"));
            }
            (Some(_), _) => {}
        }
    }

    /// Events with an attachment: they flow again, and are kept where they do not suffer.
    async fn files(&mut self, row: &mut Row, is_recovered: bool) {
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
    fn requests(&mut self) -> Option<(&'static str, Duration)> {
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
    fn answers(&mut self) {
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

/// The resources of a node at first and at the end, and whether they are about the same.
pub struct Ending {
    pub text: String,
    pub is_level: bool,
}

/// Waits until the resources of the nodes are back at their first level.
pub async fn at_the_end(world: &World) -> Vec<Ending> {
    let mut endings = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    let admin = world.admin().await;
    for node in [&world.a, &world.b] {
        let Some(first) = world.at_first.get(node.name) else { continue };
        let ending = loop {
            let Some(resources) = node.resources() else {
                break Ending { text: format!("node {} is not there", node.name), is_level: false };
            };
            let now = Level { resources, sessions: sessions(&admin, application(node.name)).await };
            let is_level = now.is_about(first);
            if is_level || Instant::now() > deadline {
                break Ending {
                    text: format!("node {}: {first} at first, {now} at the end", node.name),
                    is_level,
                };
            }
            sleep(SAMPLING).await;
        };
        endings.push(ending);
    }
    endings
}
