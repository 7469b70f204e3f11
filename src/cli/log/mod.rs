//! The log on stderr: one line for each event, whatever text the event quotes.
//!
//! Owns the path from an event to its line. Texts from clients, peers and Postgres are escaped and truncated here, so
//! that they cannot start a line or move the cursor. If there are too many lines of one kind, the log only counts the
//! rest. Invariant: texts of others add at most a bounded number of lines of bounded length in each
//! [`WINDOW`](repeats::WINDOW).

mod line;
mod repeats;

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use line::Fields;
pub(super) use line::Style;
use repeats::{Kind, Repeats};

/// The log of this process, once it has started.
static LOG: OnceLock<Arc<Log>> = OnceLock::new();

/// Starts the log.
pub(super) fn start(filter: Targets, style: Style) {
    let log = Arc::new(Log { style, repeats: Mutex::default() });
    let log = LOG.get_or_init(|| log).clone();
    registry().with(filter).with(ToStderr(log)).init();
}

/// Writes the counts of suppressed lines after each window. Never returns.
pub(super) async fn tell_of_repeats() {
    loop {
        tokio::time::sleep(repeats::WINDOW).await;
        if let Some(log) = LOG.get() {
            log.tell(|repeats| repeats.due(Instant::now()));
        }
    }
}

/// Writes the counts of suppressed lines at the end of the process.
pub(super) fn finish() {
    if let Some(log) = LOG.get() {
        log.tell(Repeats::all);
    }
}

struct Log {
    style: Style,
    repeats: Mutex<Repeats>,
}

impl Log {
    /// Writes the counts of suppressed lines.
    fn tell(&self, take: impl FnOnce(&mut Repeats) -> Vec<(Kind, u64)>) {
        let counts = take(&mut self.repeats.lock().unwrap_or_else(PoisonError::into_inner));
        for (kind, count) in counts {
            write(&self.style.line(kind.level, kind.target, &Fields::held_back(&kind.message, count)));
        }
    }
}

struct ToStderr(Arc<Log>);

impl<S: Subscriber> Layer<S> for ToStderr {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Self(log) = self;
        let fields = Fields::of(event);
        let metadata = event.metadata();
        let (level, target) = (*metadata.level(), metadata.target());
        // Lines of DEBUG and TRACE are not limited, since the operator has requested them.
        if level <= Level::INFO {
            let now = Instant::now();
            log.tell(|repeats| repeats.due(now));
            let place = (metadata.file(), metadata.line());
            let kind = Kind { place, message: fields.message().to_owned(), level, target };
            if !log.repeats.lock().unwrap_or_else(PoisonError::into_inner).may_pass(now, kind) {
                return;
            }
        }
        write(&log.style.line(level, fields.target().unwrap_or(target), &fields));
    }
}

/// Writes a line, and ignores the error of a closed stderr.
fn write(line: &str) {
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
