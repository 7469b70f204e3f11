//! `pgio doctor`: what can go wrong, and what to do about it.

mod finding;
mod server;
mod servers;
mod table;
mod traffic;

use clap::Args;

use super::arguments::{Format, Global, Namespaces};
use super::exit::Failure;
use super::output::lines::Lines;
use crate::cluster::Cluster;
use crate::postgres::health::Examiner;
use crate::{AdapterOptions, Namespace};
use finding::{Finding, Status};

/// Check the database for everything that can go wrong
///
/// Looks at the server, what may stand between, the attachment table and its privileges, the notification queue, who
/// listens, and which Socket.IO servers answer. Changes nothing; it publishes the question who is live, and a
/// notification on a channel of its own. A line says ok, warn (works, and will cause trouble) or FAIL (does not work),
/// and what to do. Exit status 1 if a check fails.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio doctor                           check everything
  pgio doctor -n chat -n admin          the channels of these namespaces, too
  pgio doctor --channel-prefix app -q   with the options that your servers have
  pgio doctor -o json | jq -r 'select(.status != \"ok\").advice'")]
pub(super) struct Doctor {
    #[command(flatten)]
    namespaces: Namespaces,
}

/// What the checks need to know.
struct Context {
    examiner: Examiner,
    options: AdapterOptions,
    namespaces: Vec<Namespace>,
}

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let options = global.adapter_options();
        let settings = global.settings()?;
        let target = settings.target();
        let examiner = Examiner::connect(settings.clone(), options.table_name.clone()).await?;
        let context = Context { examiner, options, namespaces: self.namespaces.list() };
        let mut report = Report { lines: Lines::stdout(), global, checks: 0, failed: 0 };

        let about = context.examiner.server().await?;
        report.add(server::connection(&target, &about))?;
        report.add(server::version(&about))?;
        report.add(server::primary(&about))?;
        report.add(server::latency(&context.examiner).await?)?;
        report.add(server::clock(&context.examiner).await?)?;
        // A standby takes no notifications, and an older server knows too little of what is asked here.
        if server::is_recent(&about) {
            let mut is_heard = false;
            if !about.is_standby {
                let delivery = traffic::delivery(&context).await?;
                is_heard = delivery.iter().all(|finding| finding.status != Status::Fail);
                report.add_all(delivery)?;
            }
            report.add(traffic::queue(&context).await?)?;
            report.add(traffic::channels(&context))?;
            report.add_all(traffic::listeners(&context).await?)?;
            if is_heard {
                // After those who listen were counted, as it is one of them.
                let cluster = Cluster::connect(settings, context.options.clone()).await?;
                report.add_all(servers::check(&cluster, &context.namespaces).await?)?;
            }
            report.add_all(table::check(&context, &about).await?)?;
        }
        report.end()
    }
}

struct Report<'a> {
    lines: Lines,
    global: &'a Global,
    checks: usize,
    failed: usize,
}

impl Report<'_> {
    /// Prints a finding at once: the next check may take a while.
    fn add(&mut self, finding: Finding) -> Result<(), Failure> {
        self.checks += 1;
        if finding.status == Status::Fail {
            self.failed += 1;
        }
        match self.global.output {
            Format::Json => self.lines.json(&finding.object())?,
            Format::Text if self.global.quiet && finding.status == Status::Ok => {}
            Format::Text => self.lines.text(&finding.text(self.lines.width()))?,
        }
        self.lines.flush()
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
