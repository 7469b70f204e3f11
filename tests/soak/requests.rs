//! Requests that have a deadline, one after the other, over the connection that the faults hit.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgio::Emitter;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::program;

/// The deadline of every request.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// When a request that has not ended is given up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// The pause between two requests of a kind.
const PAUSE: Duration = Duration::from_millis(400);

/// The requesting programs, and their arguments without the deadline.
const PROGRAMS: [(&str, &[&str]); 3] = [
    ("pgio sockets", &["sockets", "-o", "json", "-q"]),
    ("pgio rooms", &["rooms", "-o", "json", "-q"]),
    ("pgio emit --ack", &["emit", "-q", "--ack", "question"]),
];

/// How requests of one kind ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    pub count: usize,
    pub longest: Duration,
}

/// Requests that have ended, and requests in flight.
#[derive(Default)]
struct Records(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    ended: BTreeMap<&'static str, Ended>,
    in_flight: BTreeMap<&'static str, Instant>,
}

/// Sends requests until it is dropped.
pub struct Requests {
    records: Arc<Records>,
    _asking: Vec<AbortOnDropHandle<()>>,
}

impl Requests {
    /// Starts to ask with this emitter, and with programs that connect to `database`.
    pub fn start(emitter: &Emitter, database: &str) -> Self {
        let records = Arc::<Records>::default();
        let mut asking = Vec::new();
        let (own, handle) = (records.clone(), emitter.clone());
        asking.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                // Incomplete answers and errors are both an end.
                own.measure("fetch_sockets", async { drop(handle.timeout(DEADLINE).fetch_sockets().await) })
                    .await;
                let ask = async {
                    drop(handle.timeout(DEADLINE).emit_with_ack::<pgio::Value>("question", ()).await)
                };
                own.measure("emit_with_ack", ask).await;
            }
        })));
        let (own, database) = (records.clone(), database.to_owned());
        asking.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                for (name, arguments) in PROGRAMS {
                    let deadline = format!("{}s", DEADLINE.as_secs());
                    let mut command = program::pgio(arguments);
                    command.args(["--timeout", &deadline]).env("DATABASE_URL", &database);
                    command.stdout(Stdio::null()).stderr(Stdio::null());
                    own.measure(name, async { drop(command.status().await) }).await;
                }
            }
        })));
        Self { records, _asking: asking }
    }

    /// The requests that ended since the last call, and the age of those in flight.
    pub fn take(&self) -> BTreeMap<&'static str, Ended> {
        let mut records = self.records.lock();
        let mut taken = std::mem::take(&mut records.ended);
        for (name, since) in &records.in_flight {
            let ended = taken.entry(name).or_default();
            ended.longest = ended.longest.max(since.elapsed());
        }
        taken
    }
}

impl Records {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a request, and pauses.
    async fn measure(&self, name: &'static str, request: impl Future<Output = ()>) {
        let started = Instant::now();
        self.lock().in_flight.insert(name, started);
        // The caller sees a request that was given up by its time.
        timeout(GIVE_UP, request).await.ok();
        self.ended(name, started.elapsed());
        sleep(PAUSE).await;
    }

    fn ended(&self, name: &'static str, time: Duration) {
        let mut records = self.lock();
        records.in_flight.remove(name);
        let ended = records.ended.entry(name).or_default();
        ended.count += 1;
        ended.longest = ended.longest.max(time);
    }
}
