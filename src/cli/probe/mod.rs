//! `pgio probe`: checks that an event arrives, from Postgres to a client, and how fast.

mod outcome;
mod path;

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tokio::time::{MissedTickBehavior, interval};

use super::arguments::{Format, Global, OutputFlag};
use super::client::Access;
use super::duration;
use super::exit::{self, Failure};
use super::output::lines::Lines;
use super::socket::Target;
use crate::Namespace;
use outcome::{Limits, Measured, Status};
use path::{Open, Path};

/// Check that an event arrives from Postgres at a client of a server, and measure its latency
///
/// Connects to the server at URL as a client, emits an event through Postgres to this one client, and waits for it
/// (end-to-end check). The first event after a connection is not measured. The probe works with every server of the
/// cluster, Node or pgio, and needs no change there. No server counts the probe as a server, and it leaves nothing
/// behind. The exit status is that of monitoring plugins: 0 ok, 1 warning, 2 critical (also if Postgres or the server is
/// unreachable), 3 unknown (Postgres or the server refuses the probe, or a file cannot be read). An invalid command line
/// exits with 2.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio probe http://localhost:3000
  pgio probe https://chat.example.com --auth @auth.json --warn 200ms
  pgio probe localhost:3000 --every 10s               a line every 10 s
  pgio probe localhost:3000 -o prometheus >pgio.prom  for node_exporter")]
pub(super) struct Probe {
    /// The URL of the server, such as http://localhost:3000; with its path if that is not /socket.io
    url: String,
    /// The namespace; `admin` means `/admin`
    #[arg(short, long, value_name = "NSP", default_value = "/")]
    namespace: String,
    #[command(flatten)]
    access: Access,
    /// Exit with status 1 (warning) from this latency on, which is at most --critical
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "500ms")]
    warn: Duration,
    /// Exit with status 2 (critical) from this latency on, which is also the timeout of the event
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive, default_value = "5s")]
    critical: Duration,
    /// Repeat the check at this interval, such as 10s [default: check once]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive)]
    every: Option<Duration>,
    /// Exit with the worst status after N checks of --every [default: no limit]
    #[arg(short, long, value_name = "N", requires = "every", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Output format: text for people, json with one object per line, or prometheus (text exposition format) [default: text]
    #[arg(
        id = "output",
        short,
        long,
        value_name = "FORMAT",
        value_parser = PossibleValuesParser::new(["text", "json", "prometheus"]).map(OutputFlag::named),
        help_heading = super::arguments::GLOBAL
    )]
    output: Option<OutputFlag>,
}

impl Probe {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let target = Target::parse(&self.url).map_err(Failure::Usage)?;
        let limits = Limits::new(self.warn, self.critical)?;
        let is_prometheus = self.output == Some(OutputFlag::Prometheus);
        if is_prometheus && self.every.is_some() {
            return Err(Failure::Usage(
                "--every does not go with -o prometheus, which prints one check".into(),
            )
            .with_hint("run it from cron or a timer"));
        }
        let nsp = Namespace::new(&self.namespace);
        let print = |measured: &Measured| {
            let mut lines = Lines::stdout();
            match global.output {
                _ if is_prometheus => {
                    if measured.has_reason() {
                        global.warn(&measured.text());
                    }
                    measured.prometheus(&target, &nsp).lines().try_for_each(|line| lines.raw(line))?;
                }
                Format::Json => lines.json(measured)?,
                Format::Text => lines.text(&measured.text())?,
            }
            lines.flush()
        };
        let auth = match self.access.auth() {
            // A missing file is no reason for a warning or an alarm.
            Err(Failure::Other(reason)) => {
                print(&Measured::unknown(reason))?;
                return Err(Failure::Told(Status::Unknown.code()));
            }
            auth => auth?,
        };
        let path = Path { access: &self.access, target: &target, nsp: &nsp, auth: auth.as_ref(), limits };
        let mut open = None;
        let work = async {
            match self.every {
                None => {
                    let measured = path.measure(global, &mut open).await;
                    print(&measured)?;
                    Ok(measured.status)
                }
                Some(every) => self.repeat(global, &path, every, &mut open, print).await,
            }
        };
        let worst = exit::unless_interrupted(work).await;
        if let Some(open) = open {
            open.close().await;
        }
        match worst? {
            Status::Ok => Ok(()),
            worst => Err(Failure::Told(worst.code())),
        }
    }

    /// Checks until `--count` is reached. Returns the worst status.
    async fn repeat(
        &self,
        global: &Global,
        path: &Path<'_>,
        every: Duration,
        open: &mut Option<Open>,
        print: impl Fn(&Measured) -> Result<(), Failure>,
    ) -> Result<Status, Failure> {
        let mut worst = Status::Ok;
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checks = 0;
        loop {
            path.idle_until(open, ticks.tick()).await;
            let measured = path.measure(global, open).await;
            print(&measured)?;
            worst = worst.max(measured.status);
            checks += 1;
            if self.count == Some(checks) {
                return Ok(worst);
            }
        }
    }
}
