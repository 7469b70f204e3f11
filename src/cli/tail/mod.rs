//! `pgio tail`: prints the messages between the servers of a cluster, live.

mod filter;
mod save;
mod senders;
pub(super) mod text;

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use jiff::Zoned;
use tokio::time::{Instant, sleep, sleep_until};

use super::arguments::{Format, Global};
use super::connection::RetryBudget;
use super::duration;
use super::event_line::EventLine;
use super::exit::Failure;
use super::glob;
use super::namespaces::ObservedNamespaces;
use super::observer::STALLED;
use super::output::lines::Lines;
use super::socket_ids;
use crate::cluster::{Cluster, Event, GrowingSubscription, LoopbackProbe, ProbeOutcome, Received};
use crate::protocol::MessageKind;
use crate::{Error, Namespace};
use filter::Filter;
use save::Saver;

/// The silence after which a loopback probe checks the delivery of notifications, and the timeout of the probe.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show the live traffic of the cluster, with attachments decoded
///
/// The tail is not a member of the cluster: no server counts it or waits for it. It reconnects after a restart of
/// Postgres, and reports on stderr that it may have missed messages.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio tail -n / -n admin --type broadcast   broadcasts, in two namespaces
  pgio tail --event 'chat.*' --room r1       filter by event and room
  pgio tail -o json | jq .args               event lines for programs
  pgio tail -o json --for 1h > hour.jsonl    record, to replay with emit --from
  pgio tail --save photos                    save attachments as files")]
pub(super) struct Tail {
    #[command(flatten)]
    namespaces: ObservedNamespaces,
    /// Print only events whose name matches: *, ?, [a-z], {a,b}. May be repeated
    #[arg(short, long = "event", value_name = "GLOB", value_parser = glob::parse)]
    events: Vec<globset::GlobMatcher>,
    /// Print only messages to this room, or to the socket with this id. May be repeated
    #[arg(short, long = "room", value_name = "ROOM", allow_hyphen_values = true)]
    rooms: Vec<String>,
    /// Print only messages to the socket with this id; the first characters are enough if they are unique. May be repeated
    #[arg(long = "socket", value_name = "ID", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    sockets: Vec<String>,
    /// Print only messages of this type, such as broadcast or sockets_join. May be repeated
    #[arg(short, long = "type", value_name = "TYPE", value_parser = filter::parse_kind)]
    types: Vec<MessageKind>,
    /// Print only messages of this sender: the uid of a server or its first characters, or emitter. May be repeated
    #[arg(short, long = "uid", value_name = "UID")]
    uids: Vec<String>,
    /// Print heartbeats as well
    #[arg(long)]
    heartbeats: bool,
    /// Exit after N messages [default: no limit]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Exit after this time, such as 1h [default: no limit]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    for_: Option<Duration>,
    /// Save each attachment in this directory: the message as ID.json, its binary values as ID.1.bin, ...
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Do not truncate lines to the width of the terminal
    #[arg(long)]
    wide: bool,
    /// Print the raw notifications: the channel, a tab, and the payload; on a terminal with escaped control characters
    #[arg(long)]
    raw: bool,
}

impl Tail {
    pub(super) async fn run(mut self, global: &Global) -> Result<(), Failure> {
        let saver = self.save.as_deref().map(Saver::new).transpose()?;
        let cluster = global.connect(&mut RetryBudget::none()).await?;
        let observed = self.namespaces.find(global, &cluster).await?;
        let senders = senders::complete(&cluster, &observed.list, &self.uids).await?;
        self.rooms.extend(socket_ids::complete(&cluster, &observed.list, &self.sockets).await?);
        let filter = Filter::of(&self, senders);
        let wants = filter.clone();
        let mut heard =
            GrowingSubscription::start(&cluster, &observed.list, move |header| wants.wants(header)).await?;
        tell_channels(global, &cluster, &observed.list);
        let mut newcomers = observed.watch();

        let mut delivery_check = pin!(warn_if_not_delivered(global, &cluster));
        let deadline = self.for_.and_then(|time| Instant::now().checked_add(time));
        let lines = if self.wide || global.verbose > 0 { Lines::stdout().uncut() } else { Lines::stdout() };
        let mut printer = Printer { lines, global, raw: self.raw, saver };
        let mut printed = 0;
        loop {
            let event = match heard.try_next() {
                Some(event) => event,
                None => {
                    printer.lines.flush()?;
                    tokio::select! {
                        event = heard.next() => match event {
                            Some(event) => event,
                            None => return Ok(()),
                        },
                        found = newcomers.next() => {
                            match heard.add(&found).await {
                                Ok(new) => tell_channels(global, &cluster, &new),
                                Err(error) => tracing::debug!(%error, "cannot listen on more channels yet"),
                            }
                            continue;
                        }
                        () = until(deadline) => return Ok(()),
                        never = &mut delivery_check => match never {},
                    }
                }
            };
            match event {
                Event::Message(received) => {
                    if filter.shows(&received) {
                        printer.print(&received)?;
                        printed += 1;
                    }
                }
                other => {
                    printer.lines.flush()?;
                    warn(global, &other);
                }
            }
            if self.count == Some(printed) || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return printer.lines.flush();
            }
        }
    }
}

/// Prints a note with the channels that the command listens on.
fn tell_channels(global: &Global, cluster: &Cluster, namespaces: &[Namespace]) {
    let prefix = &cluster.options().channel_prefix;
    let channels: Vec<_> = namespaces.iter().map(|nsp| format!("{prefix}#{nsp}")).collect();
    if !channels.is_empty() {
        global.note(&format!("listening on {}", channels.join(", ")));
    }
}

/// Warns if the loopback probe shows that notifications are not delivered.
async fn warn_if_not_delivered(global: &Global, cluster: &Cluster) -> Infallible {
    // If servers are live, their heartbeats arrive in the meantime.
    sleep(PATIENCE).await;
    if cluster.receives_nothing()
        && let Ok(mut loopback_probe) = LoopbackProbe::listen(cluster).await
        && loopback_probe.probe(PATIENCE).await == ProbeOutcome::NotDelivered
        && cluster.receives_nothing()
    {
        global.warn(&Error::NotificationsNotDelivered.to_string());
    }
    std::future::pending().await
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Warns of missing and late messages, with the time of day.
fn warn(global: &Global, event: &Event) {
    let warning = match event {
        Event::Message(_) => return,
        Event::Missed(count) => {
            format!("{count} messages were dropped: the reader of this output is too slow (backpressure)")
        }
        Event::Lost(error) => format!("{error}; reconnecting"),
        Event::Restored(away) => {
            format!("reconnected after {away:.1?}; messages of this gap are missing, except durable events")
        }
        Event::Stalled => STALLED.to_owned(),
        Event::Resumed(after) => format!("Postgres answers again after {after:.1?}; no message is missing"),
    };
    global.warn(&format!("{} {warning}", Zoned::now().strftime("%H:%M:%S")));
}

struct Printer<'a> {
    lines: Lines,
    global: &'a Global,
    raw: bool,
    saver: Option<Saver>,
}

impl Printer<'_> {
    fn print(&mut self, received: &Received) -> Result<(), Failure> {
        if let Some(saver) = &self.saver {
            saver.save(received)?;
        }
        if self.raw {
            return self.lines.raw(&format!("{}\t{}", received.channel, received.text));
        }
        match self.global.output {
            Format::Json => self.lines.json(&EventLine(received)),
            Format::Text => {
                let width = self.lines.width();
                self.lines.text(&text::line(received, width))
            }
        }
    }
}
