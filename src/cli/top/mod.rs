//! `pgio top`: shows the live traffic of a cluster in a table.

mod draw;
pub(super) mod picture;
mod sparkline;
#[cfg(test)]
mod tests;
mod text;
pub(super) mod view;

use std::io::IsTerminal;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::time::{MissedTickBehavior, interval_at};

use super::arguments::{Format, Global};
use super::connection::RetryBudget;
use super::duration;
use super::exit::{self, Failure};
use super::namespaces::ObservedNamespaces;
use super::observer::{Observer, Watched};
use super::output::lines::Lines;
use super::screen::Screen;
use super::traffic::By;
use crate::Cluster;
use picture::{Picture, Window};
use view::{Input, Sort, View};

/// The delay after the end of a second until all of its messages are counted.
const SETTLED: Duration = Duration::from_millis(50);

/// The allowed intervals. A shorter one would flicker, and the counters do not cover a longer one.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);

/// The time that --once waits for the answers of the servers, in addition to the interval.
const PATIENCE: Duration = Duration::from_secs(6);

/// Show the live traffic of the cluster in a table: rates by event, room or sender
///
/// Counts every message, with its bytes in notifications and in attachments. Rates cover the whole seconds of the last
/// interval. Commits are those of the database, WAL is that of the whole server; - stands for a value that this role may
/// not read. Each count of sockets makes every server send a list of its sockets, so pgio requests it only every 15 s,
/// plus 1 s for each 100 sockets. pgio is not a member of the cluster: no server counts it.
///
/// Keys: Tab ranks by event, room or sender; s sorts, r reverses, / filters, space pauses, ? shows all keys, q quits.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio top                           events, rooms and senders; q quits
  pgio top --by sender -n / -n chat  the busiest senders of two namespaces
  pgio top --by room --sort bytes    the rooms with the most bytes first
  pgio top --once --interval 10s     a snapshot of ten seconds, as text
  pgio top -o json | jq .eventsPerSecond")]
pub(super) struct Top {
    #[command(flatten)]
    namespaces: ObservedNamespaces,
    /// The rows of the table
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    by: By,
    /// The sort order
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    sort: Sort,
    /// The refresh interval, 100ms to 10m; rates cover whole seconds
    #[arg(long, value_name = "TIME", value_parser = parse_interval, default_value = "1s")]
    interval: Duration,
    /// Print one interval, and exit
    #[arg(long)]
    once: bool,
    /// The maximum number of rows of --once and -o json
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Do not count sockets: each count makes every server send a list of its sockets
    #[arg(long)]
    no_sockets: bool,
}

/// Parses an interval.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse_positive(text)?;
    match INTERVALS.contains(&interval) {
        true => Ok(interval),
        false => Err("must be from 100ms to 10m".into()),
    }
}

impl Top {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        tokio::select! {
            outcome = self.watch(global) => outcome,
            // The end of the other branch restores the screen.
            () = exit::told_to_end() => Err(Failure::Interrupted),
        }
    }

    async fn watch(&self, global: &Global) -> Result<(), Failure> {
        let cluster = global.connect(&mut RetryBudget::none()).await?;
        let observed = self.namespaces.find(global, &cluster).await?;
        let namespaces = observed.list.clone();
        let newcomers = observed.watch();
        let watched =
            Watched { namespaces, newcomers, sockets: !self.no_sockets, fails_without_loopback: true };
        let mut observer = Observer::start(&cluster, global.settings()?, watched).await?;
        if self.once {
            return self.once(global, &cluster, &mut observer).await;
        }
        match global.output == Format::Text && std::io::stdout().is_terminal() {
            true => self.screen(&mut observer).await,
            false => self.lines(global, &mut observer).await,
        }
    }

    /// The interval in whole seconds, rounded up.
    fn seconds(&self) -> u64 {
        self.interval.as_secs() + u64::from(self.interval.subsec_nanos() > 0)
    }

    fn window(&self) -> Window {
        Window::Last(usize::try_from(self.seconds()).unwrap_or(usize::MAX))
    }

    async fn once(&self, global: &Global, cluster: &Cluster, observer: &mut Observer) -> Result<(), Failure> {
        let window = Duration::from_secs(self.seconds()) + SETTLED;
        let end = observer.shared.started() + window;
        let shared = observer.shared.clone();
        let wait = async {
            tokio::time::sleep_until(end.into()).await;
            // This is taken before the servers have listed their sockets, which takes longer.
            let mut picture = Picture::take(&shared, self.by, self.window());
            if !self.no_sockets {
                shared.wait_for_inventory(PATIENCE).await;
            }
            picture.refresh(&shared);
            picture
        };
        let picture = tokio::select! {
            picture = wait => picture,
            failure = observer.failed() => return Err(failure),
        };
        cluster.ensure_loopback(window)?;
        let mut lines = Lines::stdout();
        match global.output {
            Format::Json => lines.json(&picture.object(self.sort, self.limit))?,
            Format::Text => text::snapshot(&picture, self.sort, self.limit, &mut lines)?,
        }
        lines.flush()
    }

    async fn lines(&self, global: &Global, observer: &mut Observer) -> Result<(), Failure> {
        let mut lines = Lines::stdout();
        let mut ticks =
            interval_at((observer.shared.started() + self.interval + SETTLED).into(), self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        if global.output == Format::Text {
            lines.text(&text::titles())?;
        }
        let mut since = 0;
        let mut lost = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                failure = observer.failed() => return Err(failure),
            }
            // Even a late tick leaves out no second.
            let picture = Picture::take(&observer.shared, self.by, Window::Since(since));
            since = picture.second;
            if global.output == Format::Text && picture.link.lost != lost {
                match &picture.link.lost {
                    Some(error) => global.warn(&format!("{error}; reconnecting")),
                    None => global.warn("reconnected to Postgres"),
                }
                lost.clone_from(&picture.link.lost);
            }
            match global.output {
                Format::Json => lines.json(&picture.object(self.sort, self.limit))?,
                Format::Text => lines.text(&text::line(&picture))?,
            }
            lines.flush()?;
        }
    }

    async fn screen(&self, observer: &mut Observer) -> Result<(), Failure> {
        let mut screen = Screen::open()?;
        let mut terminal = Terminal::new(CrosstermBackend::new(std::io::stdout()))?;
        let mut view = View::new(self.by, self.sort, screen.is_coloured());
        let mut ticks = interval_at((observer.shared.started() + SETTLED).into(), self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut picture = Picture::take(&observer.shared, view.by, self.window());
        loop {
            if !view.is_paused || picture.by != view.by {
                picture = Picture::take(&observer.shared, view.by, self.window());
            }
            terminal.draw(|frame| draw::frame(frame, &picture, &mut view))?;
            tokio::select! {
                _ = ticks.tick() => {}
                event = screen.event() => match view.input(&event) {
                    Input::Quit => return Ok(()),
                    Input::Interrupt => return Err(Failure::Interrupted),
                    Input::Taken => {}
                },
                failure = observer.failed() => return Err(failure),
            }
        }
    }
}
