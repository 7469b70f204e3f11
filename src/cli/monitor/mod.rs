//! `pgio monitor`: serves a web page, metrics and an API about a cluster.

mod access;
mod api;
mod doctor;
mod live;
mod metrics;
mod pages;
mod watch;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use clap::Args;
use serde_json::json;
use tokio::net::lookup_host;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::arguments::{Format, Global, Log};
use super::connection::RetryBudget;
use super::exit::Failure;
use super::namespaces::ObservedNamespaces;
use super::observer::{Observer, Watched};
use super::signals::{Hangup, Signals};
use crate::postgres::Settings;
use crate::server::{Tokens, listen, serve_pages, watch_files};
use crate::{Cluster, Error, Namespace};
use access::Access;
use doctor::Doctor;
use watch::{OnDemand, Watch};

/// Serve a web page, Prometheus metrics and a JSON API about a cluster
///
/// The page shows servers, sockets, rooms, rates over ten minutes, live traffic, the attachment table and the findings
/// of pgio doctor. /metrics serves metrics for Prometheus, /api/* serves JSON, and /healthz answers while the process
/// runs. The monitor works beside any cluster, also one of Node servers only. It is not a member of the cluster: no server
/// counts it. Without --token-file it listens on loopback addresses only. It reads the file again
/// when it changes, and on SIGHUP.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio monitor                           open http://127.0.0.1:9464/
  pgio monitor -n / -n chat              two namespaces
  pgio monitor --listen 0.0.0.0:9464 --token-file tokens.txt
  curl -s http://127.0.0.1:9464/metrics  the metrics for Prometheus")]
pub(super) struct Monitor {
    /// Listen on this address; port 0 selects a free port
    #[arg(long, default_value = "127.0.0.1:9464", value_parser = super::serve::parse_listen, value_name = "HOST:PORT")]
    listen: String,
    #[command(flatten)]
    namespaces: ObservedNamespaces,
    /// Require a token listed in FILE (one per line; # starts a comment) for all paths but /healthz [default: no token]
    ///
    /// A browser shows a login form. Programs send the token in a header: authorization: Bearer TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Do not count sockets: each count makes every server send a list of its sockets
    #[arg(long)]
    no_sockets: bool,
}

/// The state of the HTTP handlers.
pub(super) struct State {
    watch: Watch,
    doctor: Doctor,
    access: Access,
    /// Whether the observer requests the sockets of the servers.
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
        if tokens.is_none() && !is_loopback(&self.listen).await.map_err(|failure| failure.at("--listen"))? {
            let reason = format!("--listen {}: others can reach this address", self.listen);
            let hint = "--token-file requires a token; or listen on 127.0.0.1";
            return Err(Failure::Usage(reason).with_hint(hint));
        }
        let started = tokio::select! {
            started = self.start(global, tokens.clone()) => started?,
            () = signals.next() => return Ok(()),
        };
        let Started { mut observer, closing, mut serving } = started;
        let _watch = tokens.as_ref().map(watch_tokens);
        let outcome = tokio::select! {
            failure = observer.failed() => Err(failure),
            () = signals.next() => Ok(()),
            () = hangup.each(|| reload(tokens.as_ref())) => Ok(()),
        };
        closing.cancel();
        if let Err(error) = (&mut serving).await {
            tracing::error!(%error, "the accept loop failed");
        }
        outcome
    }

    async fn start(&self, global: &Global, tokens: Option<Tokens>) -> Result<Started, Failure> {
        let (settings, options) = (global.settings()?, global.adapter_options());
        let (listener, address) = listen(&self.listen).await.map_err(name_flag)?;
        let cluster = global.connect(&mut RetryBudget::none()).await?;
        let observed = self.namespaces.find(global, &cluster).await?;
        let namespaces = observed.list.clone();
        let newcomers = observed.watch();
        let watched = Watched {
            namespaces: namespaces.clone(),
            newcomers,
            sockets: !self.no_sockets,
            fails_without_loopback: false,
        };
        let observer = Observer::start(&cluster, settings.clone(), watched).await?;
        let closing = CancellationToken::new();
        let state = Arc::new(State {
            watch: Watch::Always(observer.shared.clone()),
            doctor: Doctor::new(settings, options, namespaces),
            access: Access::new(tokens),
            has_sockets: !self.no_sockets,
            closing: closing.clone(),
        });
        let serving = tokio::spawn(serve_pages(listener, router(state), closing.clone()));
        announce(address, &observer.shared.server, global);
        Ok(Started { observer, closing, serving: AbortOnDropHandle::new(serving) })
    }
}

/// Whether only this machine reaches an address. On any other address, traffic must not be visible without a token.
async fn is_loopback(listen: &str) -> Result<bool, Failure> {
    let addresses = lookup_host(listen).await;
    let addresses = addresses.map_err(|error| Failure::Other(format!("cannot resolve {listen}: {error}")))?;
    Ok(addresses.into_iter().all(|address| address.ip().is_loopback()))
}

struct Started {
    observer: Observer,
    closing: CancellationToken,
    serving: AbortOnDropHandle<()>,
}

/// Adds the flag to an error of the library, which names only the address.
fn name_flag(error: Error) -> Failure {
    Failure::from(error).at("--listen")
}

/// All routes of a monitor.
fn router(state: Arc<State>) -> Router {
    let api = api::routes().merge(live::routes()).merge(metrics::routes());
    pages::with_pages(api, state).route("/healthz", get(async || "ok\n"))
}

/// The page and the API on the admin address of a server, beside the server's own `/healthz`, `/readyz` and `/metrics`.
pub(super) struct AdminPages {
    pub(super) router: Router,
    tokens: Option<Tokens>,
    closing: CancellationToken,
    _resting: AbortOnDropHandle<()>,
    _watch: Option<AbortOnDropHandle<()>>,
}

impl AdminPages {
    /// Creates the pages for the admin address of a server. Returns `None` if others reach that address and no token is
    /// required. The pages observe the server's own cluster, and only while they are in use.
    pub(super) async fn new(
        cluster: &Cluster,
        settings: &Settings,
        namespaces: Vec<Namespace>,
        listen: &str,
        token_file: Option<&Path>,
    ) -> Result<Option<Self>, Failure> {
        let tokens = token_file.map(Tokens::read).transpose()?;
        if tokens.is_none() && !is_loopback(listen).await.map_err(|failure| failure.at("--admin-listen"))? {
            return Ok(None);
        }
        let closing = CancellationToken::new();
        let on_demand = Arc::new(OnDemand::new(cluster.clone(), settings.clone(), namespaces.clone()));
        let state = Arc::new(State {
            watch: Watch::OnDemand(on_demand.clone()),
            doctor: Doctor::new(settings.clone(), cluster.options().clone(), namespaces),
            access: Access::new(tokens.clone()),
            has_sockets: true,
            closing: closing.clone(),
        });
        let router = pages::with_pages(api::routes().merge(live::routes()), state);
        let resting = tokio::spawn(async move { on_demand.rest().await });
        let _watch = tokens.as_ref().map(watch_tokens);
        Ok(Some(Self { router, tokens, closing, _resting: AbortOnDropHandle::new(resting), _watch }))
    }

    /// Reads the tokens again.
    pub(super) fn reload(&self) {
        reload(self.tokens.as_ref());
    }

    /// Ends the streams of live traffic.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }
}

/// Reads the tokens again. An error is logged, and the old tokens stay.
fn reload(tokens: Option<&Tokens>) {
    match tokens.map(Tokens::reload) {
        Some(Ok(())) => tracing::info!("tokens of the monitor read again"),
        Some(Err(error)) => tracing::error!(%error, "cannot read tokens again, so the old ones stay"),
        None => {}
    }
}

/// Reads the tokens again when their file changes, until the handle is dropped.
fn watch_tokens(tokens: &Tokens) -> AbortOnDropHandle<()> {
    let watched = tokens.clone();
    watch_files(vec![tokens.path().to_owned()], move || reload(Some(&watched)))
}

/// Prints the address to stdout, for people and for scripts.
fn announce(address: SocketAddr, database: &str, global: &Global) {
    let url = format!("http://{address}/");
    let text = match global.output {
        Format::Json => json!({ "url": url, "address": address, "database": database }).to_string(),
        Format::Text => format!("listening on {url} (database {})", crate::safe_text::line(database)),
    };
    // A closed stdout does not stop the monitor.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
