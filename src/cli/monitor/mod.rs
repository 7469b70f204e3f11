//! `pgio monitor`: a web page, metrics and an API beside a cluster.

mod access;
mod api;
mod doctor;
mod live;
mod metrics;
mod pages;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use clap::Args;
use serde_json::json;
use tokio::net::lookup_host;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::arguments::{Format, Global, Log, Namespaces};
use super::connection::Patience;
use super::exit::Failure;
use super::observer::{Observer, Shared, Watched};
use super::signals::{Hangup, Signals};
use crate::Error;
use crate::server::{Tokens, listen, serve_pages};
use access::Access;
use doctor::Doctor;

/// Serve a web page, metrics and an API about a cluster
///
/// The page shows servers with their sockets, rooms, rates over ten minutes, live traffic, the attachment table and what
/// pgio doctor finds. /metrics is for Prometheus, /api/* is JSON, /healthz answers while the process runs. It works beside
/// any cluster, also one of Node servers alone: it is no member of it, and no server counts it. Without a token file it listens
/// on loopback addresses only. The token file is read again on SIGHUP.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio monitor                           open http://127.0.0.1:9464/
  pgio monitor -n / -n chat              two namespaces
  pgio monitor --listen 0.0.0.0:9464 --token-file tokens.txt
  curl -s http://127.0.0.1:9464/metrics  what Prometheus reads")]
pub(super) struct Monitor {
    /// Listen on this address; port 0 takes a free port
    #[arg(long, default_value = "127.0.0.1:9464", value_parser = super::serve::parse_listen, value_name = "HOST:PORT")]
    listen: String,
    #[command(flatten)]
    namespaces: Namespaces,
    /// Require a token listed in FILE (one per line; # starts a comment), for everything but /healthz
    ///
    /// A browser shows a form for it. Programs send it as a header: authorization: Bearer TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Do not count sockets, which makes each server list all of its own
    #[arg(long)]
    no_sockets: bool,
}

/// What the pages are about.
pub(super) struct State {
    shared: Arc<Shared>,
    doctor: Doctor,
    access: Access,
    /// Whether servers are asked for their sockets.
    has_sockets: bool,
    closing: CancellationToken,
}

impl Monitor {
    pub(super) fn log() -> Log {
        Log { format: Format::Text, is_on: true }
    }

    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let mut signals = Signals::listen()?;
        tokio::select! {
            outcome = self.serve(global) => outcome,
            // The second Ctrl-C ends the process at once.
            () = signals.second_interrupt() => Err(Failure::Interrupted),
        }
    }

    async fn serve(&self, global: &Global) -> Result<(), Failure> {
        let mut signals = Signals::listen()?;
        let mut hangup = Hangup::listen()?;
        let tokens = self.token_file.as_deref().map(Tokens::read).transpose()?;
        if tokens.is_none() {
            self.check_loopback().await?;
        }
        let started = tokio::select! {
            started = self.start(global, tokens.clone()) => started?,
            () = signals.next() => return Ok(()),
        };
        let Started { mut observer, closing, mut serving } = started;
        let reload = || match tokens.as_ref().map(Tokens::reload) {
            Some(Ok(())) => tracing::info!("tokens read again"),
            Some(Err(error)) => tracing::error!(%error, "cannot read tokens again, so the old ones stay"),
            None => {}
        };
        let outcome = tokio::select! {
            failure = observer.failed() => Err(failure),
            () = signals.next() => Ok(()),
            () = hangup.each(reload) => Ok(()),
        };
        closing.cancel();
        if let Err(error) = (&mut serving).await {
            tracing::error!(%error, "the accept loop failed");
        }
        outcome
    }

    async fn start(&self, global: &Global, tokens: Option<Tokens>) -> Result<Started, Failure> {
        let namespaces = self.namespaces.list();
        let (settings, options) = (global.settings()?, global.adapter_options());
        let (listener, address) = listen(&self.listen).await.map_err(name_flag)?;
        let cluster = global.connect(&mut Patience::none()).await?;
        let watched = Watched { namespaces: namespaces.clone(), sockets: !self.no_sockets };
        let observer = Observer::start(&cluster, settings.clone(), watched).await?;
        let closing = CancellationToken::new();
        let state = Arc::new(State {
            shared: observer.shared.clone(),
            doctor: Doctor::new(settings, options, namespaces),
            access: Access::new(tokens),
            has_sockets: !self.no_sockets,
            closing: closing.clone(),
        });
        let serving = tokio::spawn(serve_pages(listener, router(state), closing.clone()));
        announce(address, &observer.shared.server, global);
        Ok(Started { observer, closing, serving: AbortOnDropHandle::new(serving) })
    }

    /// Refuses an address that others reach: without a token everybody there would see all traffic.
    async fn check_loopback(&self) -> Result<(), Failure> {
        let addresses = lookup_host(&self.listen).await;
        let addresses = addresses
            .map_err(|error| Failure::Other(format!("--listen: cannot resolve {}: {error}", self.listen)))?;
        match addresses.into_iter().all(|address| address.ip().is_loopback()) {
            true => Ok(()),
            false => Err(Failure::Usage(format!("--listen {}: others can reach this address", self.listen))
                .with_hint("--token-file requires a token; or listen on 127.0.0.1")),
        }
    }
}

struct Started {
    observer: Observer,
    closing: CancellationToken,
    serving: AbortOnDropHandle<()>,
}

/// The error of the library names an address; the flag is missing.
fn name_flag(error: Error) -> Failure {
    Failure::from(error).at("--listen")
}

/// All pages.
pub(super) fn router(state: Arc<State>) -> Router {
    let api = api::routes().merge(live::routes()).merge(metrics::routes());
    pages::with_pages(api, state)
}

/// Prints the address to stdout, for people and for scripts.
fn announce(address: SocketAddr, database: &str, global: &Global) {
    let url = format!("http://{address}/");
    let text = match global.output {
        Format::Json => json!({ "url": url, "address": address, "database": database }).to_string(),
        Format::Text => format!("listening on {url} (database {})", crate::safe_text::line(database)),
    };
    // A closed stdout is no reason to stop.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
