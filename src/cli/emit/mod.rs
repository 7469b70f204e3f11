//! `pgio emit`: sends events to clients.

mod ack;
mod cron;
mod dry_run;
mod replay;
mod room_map;
mod schedule;
mod source;
mod warnings;

use std::slice;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use futures_util::future::join_all;
use tokio::time::sleep;

use super::arguments::{Format, Global, TargetNamespaces};
use super::connection::{Deadline, RetryBudget};
use super::event_line::LineTargets;
use super::exit::{self, Failure};
use super::expect::Expectation;
use super::nodes::too_few_live;
use super::output::lines::Lines;
use super::output::number;
use super::values::Spread;
use super::{duration, socket_ids, values};
use crate::postgres::OnLoss;
use crate::protocol::Flags;
use crate::{BroadcastOperator, Cluster, Emitter, Namespace, Value};
use schedule::Schedule;

/// The timeout for the answers of live nodes for `--require-nodes`. Each node answers at once.
const NODES_WAIT: Duration = Duration::from_secs(2);

/// Send an event to the clients of the cluster
///
/// Exit status 0 means that Postgres has committed the event, not that a client has received it (at-most-once delivery);
/// --ack requests acknowledgements, and --durable lets pgio servers replay the event after a reconnect. An ARG that is JSON
/// is sent as that value, any other ARG as text. @FILE sends the bytes of a file, @- those of stdin. {"$binary":"<base64>"}
/// is binary, at any depth.
#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).args(["event", "from"]))]
#[command(group = ArgGroup::new("repeat").args(["every", "cron"]))]
#[command(after_help = "\
Examples:
  pgio emit --room r1 ping '<>' '{\"a\":1}'          text and an object, to a room
  pgio emit --ack --timeout 3s question 42         print the acknowledgements
  pgio emit --from events.jsonl --rate 1000/s      many events, rate limited
  pgio emit --durable -r r1 --expect 1 paid 7      replayed after a reconnect
  pgio emit --require-nodes 2 --retry-for 30s up   for a crontab")]
pub(super) struct Emit {
    /// The name of the event
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    event: Option<String>,
    /// The arguments of the event: JSON, text, or @FILE
    #[arg(allow_negative_numbers = true, requires = "event")]
    args: Vec<String>,
    #[command(flatten)]
    namespaces: TargetNamespaces,
    /// Select only sockets in this room, or with this id. May be repeated
    #[arg(short, long = "room", alias = "to", value_name = "ROOM", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    rooms: Vec<String>,
    /// Select only the socket with this id; the first characters are enough if they are unique. May be repeated
    #[arg(long = "socket", value_name = "ID", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true, conflicts_with = "from")]
    sockets: Vec<String>,
    /// Exclude sockets in this room, or with this id. May be repeated
    #[arg(short = 'x', long, value_name = "ROOM", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    except: Vec<String>,
    /// Let servers drop the event for clients that are not ready to receive (volatile)
    #[arg(long)]
    volatile: bool,
    /// Store the event, so that pgio serve and pgio tail replay it after a reconnect [default: no]
    #[arg(long, conflicts_with_all = ["ack", "volatile"])]
    durable: bool,
    /// Set whether the transport compresses the event [default: the servers decide]
    #[arg(long, value_name = "BOOL")]
    compress: Option<bool>,
    /// Send every ARG as text, even if it looks like JSON or @FILE
    #[arg(long)]
    string: bool,
    /// Request acknowledgements from the clients, and print them; exit with status 4 if some are missing
    #[arg(long, conflicts_with = "from")]
    ack: bool,
    /// The timeout for the acknowledgements
    #[arg(long, value_parser = duration::parse, default_value = "5s", value_name = "TIME", requires = "ack")]
    timeout: Duration,
    /// Read events from a file, or from stdin (-): each line is an event line of `pgio tail -o json`, or ["event", ...args]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["event", "string"])]
    from: Option<String>,
    /// Skip invalid lines, and exit with status 1 at the end
    #[arg(long, conflicts_with = "event")]
    keep_going: bool,
    /// Print which events would be sent to which rooms, and send nothing
    #[arg(long, conflicts_with_all = ["event", "rate", "speed"])]
    dry_run: bool,
    /// Replace room A by room B in event lines. May be repeated
    #[arg(long = "map-room", value_name = "A=B", value_parser = room_map::parse, conflicts_with = "event")]
    room_map: Vec<room_map::Renamed>,
    /// Send at most N events a second or a minute (rate limit): 100/s, 30/m [default: no limit]
    #[arg(long, value_name = "N/s", value_parser = source::parse_rate, conflicts_with = "event")]
    rate: Option<f64>,
    /// Replay at the recorded pace (by the "time" of the lines) times this factor: 2 is twice as fast [default: no pauses]
    #[arg(long, value_name = "FACTOR", value_parser = source::parse_speed, conflicts_with_all = ["event", "rate"])]
    speed: Option<f64>,
    /// Send the event now, and again at this interval, such as 10s, until the command is interrupted
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive, conflicts_with = "from")]
    every: Option<Duration>,
    /// Send the event at the times of this crontab expression, such as '0 9 * * 1-5', until the command is interrupted
    #[arg(long, value_name = "EXPR", value_parser = cron::parse_cron, conflicts_with = "from")]
    cron: Option<Box<croner::Cron>>,
    /// The time zone of --cron, such as Europe/Madrid [default: local time]
    #[arg(long, value_name = "ZONE", value_parser = cron::parse_zone, requires = "cron")]
    tz: Option<jiff::tz::TimeZone>,
    /// Exit after sending the event N times [default: no limit]
    #[arg(long, value_name = "N", requires = "repeat", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Exit with status 0 after at least N acknowledgements, and with status 4 after fewer [default: all]
    #[arg(long, value_name = "N", requires = "ack")]
    min_acks: Option<u64>,
    #[command(flatten)]
    expectation: Expectation,
    /// Send nothing and exit with status 4 if fewer than N servers are live [default: no check]
    ///
    /// With --every or --cron, this applies to the start. A later round with fewer servers is skipped with a warning.
    #[arg(long, value_name = "N")]
    require_nodes: Option<usize>,
    /// Retry with back-off for this time, such as 30s, while Postgres is unreachable [default: no retry]
    ///
    /// A retry may send an event twice (at-least-once), unless the event is durable: then pgio checks whether its row
    /// exists.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    retry_for: Option<Duration>,
}

/// The interval between two checks of the health of publishing.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// One event, ready to be sent.
struct Event {
    name: String,
    args: Vec<Value>,
}

/// The namespaces of the event, with the target sockets in each.
type Targets = Vec<(Namespace, BroadcastOperator)>;

/// An event that was sent to all its namespaces.
enum Sent {
    /// With all required acknowledgements, if any.
    Whole,
    /// Too few clients have acknowledged it.
    AcksMissing(Failure),
}

impl Emit {
    pub(super) async fn run(mut self, global: &Global) -> Result<(), Failure> {
        self.namespaces.check(global)?;
        if let Some(file) = &self.from {
            if self.expectation.is_given() {
                return Err(Failure::Usage(
                    "--expect cannot be combined with --from, since each line may name its rooms".into(),
                ));
            }
            let source = source::Source::open(file)?;
            if self.dry_run {
                return exit::unless_interrupted(dry_run::run(&self, global, source)).await;
            }
            let cluster = self.connect(global, &mut self.retry_budget()).await?;
            self.check_nodes(&cluster).await?;
            return replay::run(&self, global, cluster, source).await;
        }
        let event = Event {
            name: self.event.clone().unwrap_or_default(),
            args: values::parse_all(&self.args, self.string)?,
        };
        if !self.sockets.is_empty() {
            exit::unless_interrupted(self.complete_sockets(global)).await?;
        }
        if let Some(schedule) = Schedule::new(self.every, self.cron.as_deref(), self.tz.clone()) {
            return schedule::run(&self, global, &event, schedule).await;
        }
        exit::unless_interrupted(self.send_once(global, &event)).await
    }

    /// Completes abbreviated socket ids.
    async fn complete_sockets(&mut self, global: &Global) -> Result<(), Failure> {
        let cluster = global.connect(&mut self.retry_budget()).await?;
        let ids = socket_ids::complete(&cluster, &self.namespaces.list(), &self.sockets).await?;
        self.rooms.extend(ids);
        Ok(())
    }

    async fn send_once(&self, global: &Global, event: &Event) -> Result<(), Failure> {
        let deadline = Deadline::after(self.timeout);
        let cluster = match self.ack && self.retry_for.is_none() && self.require_nodes.is_none() {
            true => deadline.connect(global).await?,
            false => self.connect(global, &mut self.retry_budget()).await?,
        };
        let targets = self.checked_targets(&cluster).await?;
        // The time of the checks is not that of the clients.
        let deadline = match self.expectation.is_given() || self.require_nodes.is_some() {
            true => Deadline::after(self.timeout),
            false => deadline,
        };
        let sent = self.send(global, &cluster, event, targets, deadline).await?;
        self.warn_of_duplicates(global, cluster.possible_duplicates());
        match sent {
            Sent::Whole => self.print_sent(global, event),
            Sent::AcksMissing(failure) => Err(failure),
        }
    }

    /// The namespaces for a line of `--from`: those of `-n`, else the one of the line, else `/`. `listed` has those of
    /// `-n`, or `/`.
    fn namespaces_of<'a>(&self, own: &'a LineTargets, listed: &'a [Namespace]) -> &'a [Namespace] {
        match &own.namespace {
            Some(nsp) if !self.namespaces.is_given() => slice::from_ref(nsp),
            _ => listed,
        }
    }

    fn retry_budget(&self) -> RetryBudget {
        self.retry_for.map_or_else(RetryBudget::none, RetryBudget::of)
    }

    /// The policy for events whose connection is lost. A schedule always retries for a short time.
    fn on_loss(&self) -> OnLoss {
        let repeats = self.every.is_some() || self.cron.is_some();
        match self.retry_for.or_else(|| repeats.then_some(schedule::PATIENCE)) {
            Some(time) => OnLoss::Retry(time),
            None => OnLoss::Fail,
        }
    }

    /// Warns once when publishing fails while events are retried. Never returns.
    async fn warn_while_retrying(&self, global: &Global, cluster: &Cluster) {
        let mut is_told = false;
        loop {
            sleep(HEALTH_CHECK_INTERVAL).await;
            let fault = cluster.health().publishing;
            if let (Some(fault), Some(time), false) = (&fault, self.retry_for, is_told) {
                global.warn(&format!("{fault}; retrying for {time:.0?}"));
            }
            is_told = fault.is_some();
        }
    }

    async fn connect(&self, global: &Global, retries: &mut RetryBudget) -> Result<Cluster, Failure> {
        global.connect_with(retries, self.on_loss()).await
    }

    /// Checks the number of live servers for `--require-nodes`.
    async fn check_nodes(&self, cluster: &Cluster) -> Result<(), Failure> {
        let Some(required) = self.require_nodes else { return Ok(()) };
        for nsp in self.namespaces.list() {
            let live = cluster.nodes(&nsp, NODES_WAIT, required).await?.len();
            if live < required {
                return Err(Failure::TooFew(too_few_live(live, &nsp, required)));
            }
        }
        Ok(())
    }

    /// The target sockets in each namespace, after the checks of `--require-nodes` and `--expect`.
    async fn checked_targets(&self, cluster: &Cluster) -> Result<Targets, Failure> {
        self.check_nodes(cluster).await?;
        let targets = self.namespaces.list().into_iter();
        let targets: Targets = targets.map(|nsp| (nsp.clone(), self.operator(cluster, &nsp))).collect();
        self.expectation.check(&targets, &self.describe_target()).await?;
        Ok(targets)
    }

    /// Sends the event to each namespace, with the retries of `--retry-for`.
    async fn send(
        &self,
        global: &Global,
        cluster: &Cluster,
        event: &Event,
        targets: Targets,
        deadline: Deadline,
    ) -> Result<Sent, Failure> {
        if self.ack {
            return self.request_acks(global, event, targets, deadline).await;
        }
        let count = targets.len();
        for (done, (_, operator)) in targets.into_iter().enumerate() {
            // The publisher retries automatically.
            tokio::select! {
                outcome = operator.emit(&event.name, Spread(&event.args)) => {
                    outcome.map_err(|error| Failure::from(error).after_namespaces(done, count))?;
                }
                () = self.warn_while_retrying(global, cluster) => {}
            }
        }
        Ok(Sent::Whole)
    }

    /// Requests acknowledgements in all namespaces at the same time, and prints them.
    async fn request_acks(
        &self,
        global: &Global,
        event: &Event,
        targets: Targets,
        deadline: Deadline,
    ) -> Result<Sent, Failure> {
        let ask = |(nsp, operator): (Namespace, BroadcastOperator)| async move {
            let operator = operator.timeout(deadline.left());
            (nsp, operator.emit_with_ack(&event.name, Spread(&event.args)).await)
        };
        let mut acks = ack::Tally::new(self.timeout);
        let mut outcome = Ok(());
        for (nsp, answers) in join_all(targets.into_iter().map(ask)).await {
            match answers {
                Ok(answers) => acks.add(global, &nsp, answers)?,
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome?;
        acks.finish(global, &self.describe_target(), self.min_acks)
    }

    /// Warns of possible duplicates: events that were retried although the server could not report the outcome of the first
    /// attempt.
    fn warn_of_duplicates(&self, global: &Global, count: u64) {
        match count {
            0 => {}
            1 => global.warn("1 event was retried after a lost connection, and may have been sent twice"),
            n => global.warn(&format!(
                "{} events were retried after a lost connection, and may have been sent twice",
                number::count(n)
            )),
        }
    }

    /// An operator for the target sockets of the command line.
    fn operator(&self, cluster: &Cluster, nsp: &Namespace) -> BroadcastOperator {
        let operator = Emitter::new(cluster.clone()).of(nsp.as_str()).to(self.rooms.as_slice());
        let operator = operator.except(self.except.as_slice()).timeout(self.timeout);
        self.with_flags(operator, &Flags::default())
    }

    /// Sets the flags of an event: its own ones first, else those of the command line.
    fn with_flags(&self, mut operator: BroadcastOperator, own: &Flags) -> BroadcastOperator {
        if own.volatile.unwrap_or(self.volatile) {
            operator = operator.volatile();
        }
        if self.durable {
            operator = operator.durable();
        }
        match own.compress.or(self.compress) {
            Some(compress) => operator.compress(compress),
            None => operator,
        }
    }

    fn print_sent(&self, global: &Global, event: &Event) -> Result<(), Failure> {
        if self.ack {
            return Ok(());
        }
        if global.output == Format::Json {
            let mut lines = Lines::stdout();
            lines.json(&serde_json::json!({ "sent": self.namespaces.list().len() }))?;
            return lines.flush();
        }
        global.note_on_terminal(&format!("sent {} to {}", event.name, self.describe_target()));
        Ok(())
    }

    /// `room r1 of /admin`, `all sockets of /`.
    fn describe_target(&self) -> String {
        let namespaces: Vec<_> = self.namespaces.list().iter().map(ToString::to_string).collect();
        let rooms = match self.rooms.as_slice() {
            [] => "all sockets of".to_owned(),
            [room] => format!("room {room} of"),
            rooms => format!("rooms {} of", rooms.join(", ")),
        };
        let except = if self.except.is_empty() {
            String::new()
        } else {
            format!(" except {}", self.except.join(", "))
        };
        format!("{rooms} {}{except}", namespaces.join(", "))
    }
}
