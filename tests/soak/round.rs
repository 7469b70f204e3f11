//! Runs one fault from its beginning until the cluster has recovered.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::check::{Broken, Check};
use super::clock::Moment;
use super::fault::Fault;
use super::inject::{Injected, inject};
use super::judge::{Judge, Row};
use super::ledger::Sender;
use super::observe::{files_span, flows_since, lost, recovered_since};
use super::routes::{Member, Reach};
use super::world::World;

/// How long a pgio node may take to recover until the harness gives up and starts a new cluster.
pub const GIVE_UP: Duration = Duration::from_secs(15);

/// How long the harness waits for the Node server, for which nothing is promised.
pub const GIVE_UP_NODE: Duration = Duration::from_secs(5);

/// How long everything flows before a round is judged.
const SETTLE: Duration = Duration::from_millis(800);

/// How long events that were sent before that may take to arrive.
const ARRIVE: Duration = Duration::from_secs(5);

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

/// Makes a fault happen. `from` is where the last round ended; returns where this one does. Every bound is longer by
/// `allowance`.
pub async fn run(world: &mut World, fault: Fault, from: Moment, allowance: Duration) -> (Round, Moment) {
    let started = Instant::now();
    let Injected { began, answers, mut failover, mut broken } = inject(world, fault).await;
    let (promise, reach, recovery) = (fault.promise(), fault.reach(), fault.recovery());
    let (mut flows, mut flows_node) = wait_until_recovered(world, recovery, answers).await;
    if let Some(failover) = &mut failover {
        broken.extend(failover.thaw(world).await);
        // The old primary may have drawn sessions back.
        let thawed = Moment::now();
        let (again, again_node) = wait_until_recovered(world, recovery, thawed).await;
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
    let mut judge =
        Judge { world, promise, reach, recovery, lag: lag + allowance, from, began, answers, until, broken };
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
    // Events with an attachment that were sent before the fault was over suffer from this fault, not from the next one.
    world.flows_since = world.flows_since.max(Moment(answers.0 + 500));
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
