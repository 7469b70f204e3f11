//! Chooses the faults of a run, and their order.

use std::time::Duration;

use super::fault::Fault;

/// The seed of the short form.
const SHORT_SEED: u64 = 1;

/// The time that a round takes beside the fault itself, where every guarantee holds.
const ROUND: Duration = Duration::from_secs(4);

/// Not enough for every fault.
const SHORT_TIME: Duration = Duration::from_secs(300);

/// The time that a cluster takes to start.
const START: Duration = Duration::from_secs(6);

/// Which faults, in which order.
pub struct Plan {
    pub seed: u64,
    /// How long it takes where all is well; of a timed one, how long it may take.
    pub duration: Duration,
    random: fastrand::Rng,
    pub faults: Vec<Fault>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The short form of `make test`.
    Short,
    /// These faults, each of them once.
    Named,
    /// Those that fit into the duration, again and again.
    Timed,
}

impl Plan {
    /// The plan for what the command line says.
    pub fn new(seed: Option<u64>, duration: Option<Duration>, named: &[Fault]) -> Self {
        let seed = seed.unwrap_or(SHORT_SEED);
        let mut random = fastrand::Rng::with_seed(seed);
        let choose = |random: &mut fastrand::Rng, class: &[Fault]| class[random.usize(..class.len())];
        let (kind, faults) = match (named.is_empty(), duration) {
            (false, _) => (Kind::Named, named.to_vec()),
            (true, None) => {
                (Kind::Short, Fault::SHORT.iter().map(|class| choose(&mut random, class)).collect())
            }
            (true, Some(duration)) => (Kind::Timed, shuffled(&mut random, duration)),
        };
        let all = faults.iter().map(|fault| estimate(*fault)).sum::<Duration>() + START;
        let duration = duration.filter(|_| kind == Kind::Timed).unwrap_or(all);
        Self { seed, duration, random, faults, kind }
    }

    /// The command that does the same.
    pub fn command(&self) -> String {
        let Self { seed, duration, faults, .. } = self;
        match self.kind {
            Kind::Short => format!("cargo test --features cli --test soak -- --seed {seed}"),
            Kind::Timed => format!("make soak DURATION={}s SEED={seed}", duration.as_secs()),
            Kind::Named => {
                let names = faults.iter().map(ToString::to_string).collect::<Vec<_>>();
                format!("make soak FAULTS={} SEED={seed}", names.join(","))
            }
        }
    }

    /// Whether there is time for a fault, after so long.
    pub fn has_time_for(&self, fault: Fault, elapsed: Duration, has_cluster: bool) -> bool {
        let start = if has_cluster { Duration::ZERO } else { START };
        self.kind != Kind::Timed || elapsed + estimate(fault) + start <= self.duration
    }

    /// Plans another turn through all faults; `false` where each has to run only once.
    pub fn repeat(&mut self) -> bool {
        if self.kind == Kind::Timed {
            self.faults = shuffled(&mut self.random, self.duration);
        }
        self.kind == Kind::Timed
    }
}

/// One fault of each class in random order, then another one of each, and so on until all had their turn.
/// In a short time the short ones come first, and the failover, which needs a cluster of its own, comes last in its turn.
fn shuffled(random: &mut fastrand::Rng, duration: Duration) -> Vec<Fault> {
    let mut classes: Vec<Vec<Fault>> = Fault::CLASSES.iter().map(|class| class.to_vec()).collect();
    for class in &mut classes {
        random.shuffle(class);
        if duration < SHORT_TIME {
            class.sort_by_key(|fault| std::cmp::Reverse(fault.lasts()));
        }
    }
    let mut plan = Vec::new();
    while classes.iter().any(|class| !class.is_empty()) {
        random.shuffle(&mut classes);
        let mut turn: Vec<_> = classes.iter_mut().filter_map(Vec::pop).collect();
        turn.sort_by_key(|fault| duration < SHORT_TIME && fault.is_failover());
        plan.append(&mut turn);
    }
    plan
}

/// How long a round takes where all is well.
fn estimate(fault: Fault) -> Duration {
    let start = if fault.is_failover() { START } else { Duration::ZERO };
    fault.lasts() + ROUND + start
}
