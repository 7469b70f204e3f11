//! What a notification costs the cluster's state machine while requests are under way. `make bench-state` runs only this.

use super::programs::Programs;
use super::report::{self, Row};
use super::state_machine::{REQUESTS, nanoseconds};

const ROUNDS: usize = 5;
/// Notifications in a round.
const MESSAGES: usize = 100_000;
const COMMAND: &str = "make bench-state";

pub fn run(programs: &Programs) {
    let row = |what: &str, requests: usize| {
        Row::new(&format!("{what}, {requests} requests under way"), Vec::new(), COMMAND)
    };
    let mut answers = REQUESTS.map(|requests| row("an answer", requests));
    let mut broadcasts = REQUESTS.map(|requests| row("a broadcast", requests));
    for _ in 0..programs.rounds(ROUNDS) {
        for (index, requests) in REQUESTS.into_iter().enumerate() {
            let [answer, broadcast] = nanoseconds(requests, MESSAGES);
            answers[index].values.push(answer);
            broadcasts[index].values.push(broadcast);
        }
    }
    report::heading("A notification in the state machine of pgio: time");
    let [one, .., most] = report::rows::<3>("ns", &mut answers);
    report::ratio("answer, most requests : one", most / one);
    let [one, .., most] = report::rows::<3>("ns", &mut broadcasts);
    report::ratio("broadcast, most requests : one", most / one);
}
