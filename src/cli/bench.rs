//! `pgio bench`: measures the throughput and latency of events through this cluster's Postgres.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::arguments::{Format, Global};
use super::connection::RetryBudget;
use super::duration;
use super::exit::Failure;
use super::output::lines::Lines;
use super::output::number;
use crate::cluster::{Content, Event, Subscription};
use crate::protocol::{Body, Uid};
use crate::{Cluster, Emitter, Error, Namespace};

/// The time after which an event counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measure this cluster: emit rate, delivery rate, latency
///
/// The events go through the real database, in a separate namespace that no server hosts, so clients receive none of
/// them. The benchmark first measures throughput at full speed, then latency at a steady rate. The rates are those of
/// this program and Postgres together. The benchmark slows down other traffic.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio bench                              100,000 events of 100 bytes
  pgio bench --events 10000 --size 20000  through the attachment table
  pgio bench --rate 5000 --for 30s        latency under that load
  pgio bench -o json | jq .latencyMs.p99")]
pub(super) struct Bench {
    /// The number of events to send at full speed
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000), value_name = "N")]
    events: u32,
    /// The bytes of text in each event
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=10_000_000), value_name = "BYTES")]
    size: u32,
    /// The steady rate for the latency, in events a second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    rate: u32,
    /// The duration of the steady rate
    #[arg(long = "for", default_value = "5s", value_parser = duration::parse_positive, value_name = "TIME")]
    for_: Duration,
}

/// The results of the benchmark.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    events: u32,
    bytes: u32,
    emitted_per_second: f64,
    delivered_per_second: f64,
    latency_ms: Latency,
}

/// The latency from the emitter to a subscriber, in milliseconds, at a steady rate.
#[derive(Serialize)]
struct Latency {
    rate: u32,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Bench {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let cluster = global.connect(&mut RetryBudget::none()).await?;
        let nsp = Namespace::new(&format!("/pgio/bench/{}", Uid::random()));
        let heard = cluster.subscribe([&nsp], |_| true).await?;
        let mut run = Run { emitter: emitter(&cluster, &nsp), heard, text: "x".repeat(self.size as usize) };
        global.note_on_terminal(&format!("{} events at full speed ...", number::count(self.events.into())));
        let (emitted_per_second, delivered_per_second) = run.flood(self.events).await?;
        global.note_on_terminal(&format!(
            "{} events/s for {:?} ...",
            number::count(self.rate.into()),
            self.for_
        ));
        let latency_ms = run.pace(self.rate, self.for_).await?;
        let (events, bytes) = (self.events, self.size);
        print(global, &Measured { events, bytes, emitted_per_second, delivered_per_second, latency_ms })
    }
}

fn emitter(cluster: &Cluster, nsp: &Namespace) -> crate::BroadcastOperator {
    Emitter::new(cluster.clone()).of(nsp.as_str()).to(&[] as &[String])
}

struct Run {
    emitter: crate::BroadcastOperator,
    heard: Subscription,
    text: String,
}

impl Run {
    /// Sends events at full speed. Returns the rates in events per second: first of the commits, then of the
    /// deliveries.
    async fn flood(&mut self, events: u32) -> Result<(f64, f64), Failure> {
        let Self { emitter, heard, text } = self;
        let start = Instant::now();
        let emit = async {
            emitter.emit_all((0..events).map(|number| ("bench", (u64::from(number), text.as_str())))).await?;
            Ok::<_, Failure>(start.elapsed())
        };
        let hear = async {
            for number in 0..events {
                let heard = next(heard).await?;
                if heard != u64::from(number) {
                    return Err(Failure::Other(format!(
                        "event {number} did not arrive; {heard} arrived instead"
                    )));
                }
            }
            Ok(start.elapsed())
        };
        let (emitted, delivered) = tokio::try_join!(emit, hear)?;
        let per_second = |time: Duration| f64::from(events) / time.as_secs_f64();
        Ok((per_second(emitted), per_second(delivered)))
    }

    /// Measures the latency of events at a steady rate.
    async fn pace(&mut self, rate: u32, time: Duration) -> Result<Latency, Failure> {
        let Self { emitter, heard, text } = self;
        let events = (f64::from(rate) * time.as_secs_f64()).ceil().max(1.0) as u64;
        let start = Instant::now();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let emit = async {
            let mut ticks = interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut receipts = Vec::new();
            for _ in 0..events {
                ticks.tick().await;
                receipts.push(emitter.enqueue("bench", (nanos(start.elapsed()), text.as_str())).await?);
            }
            for receipt in receipts {
                receipt.await?;
            }
            Ok::<_, Failure>(())
        };
        let hear = async {
            let mut times = Vec::new();
            for _ in 0..events {
                let sent = Duration::from_nanos(next(heard).await?);
                times.push(start.elapsed().saturating_sub(sent).as_secs_f64() * 1000.0);
            }
            Ok(times)
        };
        let ((), mut times) = tokio::try_join!(emit, hear)?;
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times.get((times.len() - 1) * percent / 100).copied().unwrap_or_default();
        Ok(Latency { rate, p50: at(50), p90: at(90), p99: at(99), max: at(100) })
    }
}

/// Waits for the next event, and returns the number in it.
async fn next(heard: &mut Subscription) -> Result<u64, Failure> {
    let next = async {
        loop {
            return match heard.next().await {
                // The event is late, and not lost.
                Some(Event::Stalled | Event::Resumed(_)) => continue,
                Some(Event::Message(received)) => match &received.content {
                    Content::Message(message) => number(&message.body),
                    Content::Missing(_) => {
                        Err(Failure::Other("the attachment of an event is missing".into()))
                    }
                    Content::Unreadable(_, error) => Err(error.clone().into()),
                },
                Some(Event::Lost(error)) => Err(error.into()),
                Some(Event::Missed(count)) => {
                    Err(Failure::Other(format!("{count} events were dropped: the receive queue is full")))
                }
                Some(Event::Restored(_)) | None => Err(Error::Closed.into()),
            };
        }
    };
    let number = timeout(PATIENCE, next).await;
    number.map_err(|_| Failure::Other(format!("an event did not arrive within {PATIENCE:?}")))?
}

fn number(body: &Body) -> Result<u64, Failure> {
    let Body::Broadcast { event, .. } = body else { return Err(Error::Closed.into()) };
    let (_, args) = event.clone().into_parts()?;
    let number =
        args.first().and_then(|number| number.as_i64()).and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| Failure::Other("an event arrived changed".into()))
}

fn print(global: &Global, measured: &Measured) -> Result<(), Failure> {
    let mut lines = Lines::stdout();
    if global.output == Format::Json {
        lines.json(measured)?;
        return lines.flush();
    }
    let Measured { events, bytes, emitted_per_second, delivered_per_second, latency_ms } = measured;
    let (events, bytes) = (number::count((*events).into()), number::count((*bytes).into()));
    let rate = |rate: &f64| number::count(*rate as u64);
    let Latency { rate: pace, p50, p90, p99, max } = latency_ms;
    lines.text(&format!("{events} events with {bytes} bytes of text"))?;
    lines.text(&format!("  emitted     {:>10} events/s, committed", rate(emitted_per_second)))?;
    lines.text(&format!("  delivered   {:>10} events/s, to one subscriber", rate(delivered_per_second)))?;
    lines.text(&format!("{} events/s, from the emitter to a subscriber", number::count((*pace).into())))?;
    lines.text(&format!("  p50 {p50:.2} ms   p90 {p90:.2} ms   p99 {p99:.2} ms   max {max:.2} ms"))?;
    lines.flush()
}
