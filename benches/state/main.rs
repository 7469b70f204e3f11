//! What one notification costs the cluster's state machine, with few and with many requests under way: an answer finds its
//! request by one look-up, and a broadcast costs the same whatever the requests. `make bench-state` runs it.

mod machine;

use machine::{REQUESTS, nanoseconds};

/// How many notifications each figure is the mean of.
const MESSAGES: usize = 400_000;

fn main() {
    // `cargo test` runs benchmarks as well, to see that they work.
    let messages = if std::env::args().any(|argument| argument == "--bench") { MESSAGES } else { 1000 };
    println!("{:>17}  {:>14}  {:>14}", "requests", "an answer", "a broadcast");
    for requests in REQUESTS {
        let [of_answer, of_broadcast] = nanoseconds(requests, messages);
        println!("{requests:>17}  {of_answer:>11.0} ns  {of_broadcast:>11.0} ns");
    }
}
