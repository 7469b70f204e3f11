//! `pgio doctor`: checks the database and the cluster, and suggests remedies.

mod emitters;
mod exposure;
mod finding;
mod rooms;
mod server;
mod servers;
mod sql;
mod table;
mod traffic;

use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::arguments::{Format, Global, Namespaces};
use super::duration;
use super::exit::Failure;
use super::output::lines::Lines;
use super::socket::Target;
use crate::cluster::Cluster;
use crate::postgres::Settings;
use crate::postgres::health::Examiner;
use crate::{AdapterOptions, Error, Namespace};
use finding::{Finding, Status};

/// Check the database, the channels and the servers for problems
///
/// Checks Postgres, connection poolers, the attachment table and its privileges, the notification queue, the listening
/// sessions, and which Socket.IO servers answer. It publishes a request for the live servers and a loopback probe on a
/// separate channel, and inserts a row that it rolls back. Otherwise it changes nothing. Each line is ok, warn (works, but will cause problems) or FAIL (does not
/// work), with a hint. The exit status is 1 if a check fails.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio doctor                           check everything
  pgio doctor -n chat -n admin          check these namespaces
  pgio doctor --room lobby              why does this room receive nothing?
  pgio doctor --server http://db1:3000  tokens, origins and metrics of a server
  pgio doctor -o json | jq -r 'select(.status != \"ok\").advice'")]
pub(super) struct Doctor {
    #[command(flatten)]
    namespaces: Namespaces,
    /// Check why this room receives nothing: its sockets and servers, and rooms with a similar name. May be repeated
    #[arg(short, long = "room", value_name = "ROOM", allow_hyphen_values = true)]
    rooms: Vec<String>,
    /// Listen for this time to emitters whose messages newer servers drop: @socket.io/postgres-emitter 0.1.1
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, default_value = "1s")]
    listen: Duration,
    /// Check the access control of this Socket.IO server as well: tokens, origins, metrics. May be repeated
    ///
    /// Add the path to the URL if it is not /socket.io. The check connects without a token, once with the Origin of
    /// another site.
    #[arg(long = "server", value_name = "URL", value_parser = Target::parse)]
    servers: Vec<Target>,
}

/// The deadline of a check.
const DEADLINE: Duration = Duration::from_secs(10);
/// The deadline of a check after an earlier check has timed out.
const NEXT_DEADLINE: Duration = Duration::from_secs(2);

/// The time for which the monitor listens to emitters.
const LISTEN: Duration = Duration::from_secs(1);

/// The server's error code for a lack of connections.
const TOO_MANY_CONNECTIONS: &str = "53300";

/// The context of the checks.
struct Context {
    examiner: Examiner,
    options: AdapterOptions,
    namespaces: Vec<Namespace>,
    /// The time to listen to emitters.
    listen: Duration,
}

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let mut report = Report::new(Sink::Print { lines: Lines::stdout(), global });
        let (settings, options) = (global.settings()?, global.adapter_options());
        if !report.examine(&settings, options, self.namespaces.list(), self.listen).await? {
            return report.end();
        }
        if !self.rooms.is_empty() {
            let cluster = Cluster::connect(settings, global.adapter_options()).await?;
            report.add_all(rooms::check(&cluster, &self.namespaces.list(), &self.rooms).await?)?;
        }
        for server in &self.servers {
            report.add_all(exposure::check(server).await)?;
        }
        report.end()
    }
}

/// The findings as JSON objects.
pub(super) async fn findings(
    settings: &Settings,
    options: AdapterOptions,
    namespaces: Vec<Namespace>,
) -> Result<Vec<serde_json::Value>, Failure> {
    let mut report = Report::new(Sink::Collect(Vec::new()));
    report.examine(settings, options, namespaces, LISTEN).await?;
    match report.sink {
        Sink::Collect(findings) => Ok(findings),
        Sink::Print { .. } => Ok(Vec::new()),
    }
}

impl Report<'_> {
    /// Makes all checks of the database and the cluster. Returns whether a cluster can use the server.
    async fn examine(
        &mut self,
        settings: &Settings,
        options: AdapterOptions,
        namespaces: Vec<Namespace>,
        listen: Duration,
    ) -> Result<bool, Failure> {
        let report = self;
        let target = settings.target();
        let examiner = Examiner::connect(settings.clone(), options.table_name.clone()).await?;
        let context = Context { examiner, options, namespaces, listen };
        let examiner = &context.examiner;

        // A check that fails is a finding, and the next check follows, since one finding may explain another.
        let about = report.facts("connection", examiner, examiner.server()).await?;
        if let Some(about) = &about {
            report.add(server::connection(&target, about))?;
            report.add(server::version(about))?;
            report.add(server::primary(about))?;
            report.check("latency", examiner, server::latency(examiner)).await?;
            report.check("clock", examiner, server::clock(examiner)).await?;
        }
        // The next checks need features of a recent server. The delivery check needs a primary, since a standby accepts
        // no notifications.
        if about.as_ref().is_some_and(|about| !server::is_recent(about)) {
            return Ok(false);
        }
        let delivery = match &about {
            Some(about) if !about.is_standby => {
                report.facts("delivery", examiner, traffic::delivery(&context)).await?
            }
            _ => None,
        };
        let is_heard =
            delivery.as_ref().is_some_and(|found| found.iter().all(|one| one.status != Status::Fail));
        report.add_all(delivery.unwrap_or_default())?;
        report.check("queue", examiner, traffic::queue(&context)).await?;
        if let Some(about) = &about {
            report.add(traffic::channels(&context))?;
            report.check_all("listeners", examiner, traffic::listeners(&context, &about.user)).await?;
            if is_heard {
                // This comes after the count of the listening sessions, since this cluster listens, too.
                let servers = async {
                    let cluster = Cluster::connect(settings.clone(), context.options.clone()).await?;
                    servers::check(&cluster, &context.namespaces, examiner, context.listen).await
                };
                let usual = report.deadline;
                report.deadline = usual.saturating_add(listen);
                report.check_all("servers", examiner, servers).await?;
                report.deadline = report.deadline.min(usual);
            }
            report.check_all("table", examiner, table::check(&context, about)).await?;
            report.check_all("sql", examiner, sql::check(settings, &context.options)).await?;
        }
        Ok(true)
    }
}

/// The hint for a check that failed with an error.
fn advice(error: &Error) -> String {
    match error {
        Error::Connect { sqlstate: Some(code), .. } if code == TOO_MANY_CONNECTIONS => {
            "raise max_connections of the server, or the connection limit of the user or database".into()
        }
        _ => "check the other lines, and the log of Postgres".into(),
    }
}

/// The destination of the findings.
enum Sink<'a> {
    Print { lines: Lines, global: &'a Global },
    Collect(Vec<serde_json::Value>),
}

struct Report<'a> {
    sink: Sink<'a>,
    checks: usize,
    failed: usize,
    /// The deadline of the next check.
    deadline: Duration,
}

impl<'a> Report<'a> {
    fn new(sink: Sink<'a>) -> Self {
        Self { sink, checks: 0, failed: 0, deadline: DEADLINE }
    }

    /// Runs a query that a check needs. If the query fails, this adds a finding and returns `None`.
    async fn facts<T>(
        &mut self,
        check: &'static str,
        examiner: &Examiner,
        work: impl Future<Output = crate::Result<T>>,
    ) -> Result<Option<T>, Failure> {
        let finding = match timeout(self.deadline, work).await {
            Ok(Ok(facts)) => return Ok(Some(facts)),
            Ok(Err(error)) => Finding::fail(check, error.to_string(), advice(&error)),
            Err(_) => {
                let detail = format!("no answer within {:?}", self.deadline);
                // After one long timeout, the next checks have a shorter deadline.
                self.deadline = NEXT_DEADLINE;
                examiner.abandon_session().await;
                Finding::fail(check, detail, "check whether the server hangs, or the network drops packets")
            }
        };
        self.add(finding)?;
        Ok(None)
    }

    /// Makes a check that has one finding.
    async fn check(
        &mut self,
        check: &'static str,
        examiner: &Examiner,
        work: impl Future<Output = crate::Result<Finding>>,
    ) -> Result<(), Failure> {
        let found = self.facts(check, examiner, work).await?;
        found.map_or(Ok(()), |finding| self.add(finding))
    }

    /// Makes a check that has several findings.
    async fn check_all(
        &mut self,
        check: &'static str,
        examiner: &Examiner,
        work: impl Future<Output = crate::Result<Vec<Finding>>>,
    ) -> Result<(), Failure> {
        let found = self.facts(check, examiner, work).await?;
        self.add_all(found.unwrap_or_default())
    }

    /// Prints a finding at once: the next check may take a while.
    fn add(&mut self, finding: Finding) -> Result<(), Failure> {
        self.checks += 1;
        if finding.status == Status::Fail {
            self.failed += 1;
        }
        let (lines, global) = match &mut self.sink {
            Sink::Print { lines, global } => (lines, global),
            Sink::Collect(findings) => {
                findings.push(finding.object());
                return Ok(());
            }
        };
        match global.output {
            Format::Json => lines.json(&finding.object())?,
            Format::Text if global.quiet && finding.status == Status::Ok => {}
            Format::Text => lines.text(&finding.text(lines.width()))?,
        }
        lines.flush()
    }

    fn add_all(&mut self, findings: Vec<Finding>) -> Result<(), Failure> {
        findings.into_iter().try_for_each(|finding| self.add(finding))
    }

    fn end(self) -> Result<(), Failure> {
        match self.failed {
            0 => Ok(()),
            failed => Err(Failure::Other(format!("{failed} of {} checks failed", self.checks))),
        }
    }
}
