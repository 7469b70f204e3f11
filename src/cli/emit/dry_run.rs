//! `emit --from --dry-run`: counts the events of a file by their rooms, and sends nothing.

use std::collections::BTreeMap;

use serde_json::json;

use super::source::{Source, line};
use super::{Emit, room_map};
use crate::Namespace;
use crate::cli::arguments::{Format, Global};
use crate::cli::event_line::{Line, LineTargets};
use crate::cli::exit::Failure;
use crate::cli::output::lines::Lines;
use crate::cli::output::{number, safe};

/// The maximum number of listed targets.
const MAX_LISTED: usize = 20;

/// Reads the whole source and sends nothing.
pub(super) async fn run(emit: &Emit, global: &Global, mut source: Source) -> Result<(), Failure> {
    let mut counts = Counts::default();
    let mut number = 0_u64;
    while let Some((parsed, _)) = source.next_event(number + 1).await? {
        number += 1;
        let at = line(number);
        let counted = match parsed {
            Ok(None) => Ok(()),
            Ok(Some(Line::Other(_))) => {
                counts.skipped += 1;
                Ok(())
            }
            Ok(Some(Line::Event(wanted))) => counts.add(emit, global, wanted.targets()),
            Err(reason) => Err(Failure::Other(reason)),
        };
        match counted.map_err(|failure| failure.at(&at)) {
            Ok(()) => {}
            Err(failure) if emit.keep_going => {
                counts.bad += 1;
                global.warn(&failure.to_string());
            }
            Err(failure) => return Err(failure),
        }
    }
    counts.print_result(global)
}

#[derive(Default)]
struct Counts {
    targets: BTreeMap<String, u64>,
    events: u64,
    bad: u64,
    skipped: u64,
}

impl Counts {
    fn add(&mut self, emit: &Emit, global: &Global, own: &LineTargets) -> Result<(), Failure> {
        let listed = emit.namespaces.list();
        let namespaces = emit.namespaces_of(own, &listed);
        namespaces.iter().try_for_each(|nsp| nsp.channel(&global.options.channel_prefix).map(drop))?;
        for nsp in namespaces {
            self.events += 1;
            *self.targets.entry(target(emit, own, nsp)).or_default() += 1;
        }
        Ok(())
    }

    fn print_result(self, global: &Global) -> Result<(), Failure> {
        let mut lines = Lines::stdout();
        match global.output {
            Format::Json => lines.json(&json!({
                "sent": 0, "wouldSend": self.events, "bad": self.bad, "skipped": self.skipped
            }))?,
            Format::Text => {
                let mut targets: Vec<_> = self.targets.iter().collect();
                targets.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
                for (target, count) in targets.iter().take(MAX_LISTED) {
                    lines.text(&format!("{:>9}  to {}", number::count(**count), safe::line(target)))?;
                }
                if targets.len() > MAX_LISTED {
                    let more = number::count((targets.len() - MAX_LISTED) as u64);
                    lines.text(&format!("           and to {more} more targets"))?;
                }
            }
        }
        lines.flush()?;
        global.note(&match self.events {
            1 => "dry run: 1 event would be sent".to_owned(),
            events => format!("dry run: {} events would be sent", number::count(events)),
        });
        match self.bad {
            0 => Ok(()),
            1 => Err(Failure::Other("1 invalid line".into())),
            bad => Err(Failure::Other(format!("{bad} invalid lines"))),
        }
    }
}

/// `r1 of /`, `all sockets of / except staff`.
fn target(emit: &Emit, own: &LineTargets, nsp: &Namespace) -> String {
    let rooms = room_map::apply(&emit.room_map, own.rooms.as_deref().unwrap_or(&emit.rooms));
    let except = room_map::apply(&emit.room_map, own.except.as_deref().unwrap_or(&emit.except));
    let mut target = match rooms.as_ref() {
        [] => format!("all sockets of {nsp}"),
        rooms => format!("{} of {nsp}", rooms.join(", ")),
    };
    if !except.is_empty() {
        target += &format!(" except {}", except.join(", "));
    }
    target
}
