//! `pgio serve`: runs a Socket.IO server that is a member of the cluster.

#[cfg(unix)]
mod database;
#[cfg(not(unix))]
#[path = "database_configured.rs"]
mod database;
mod flags;
mod options;
mod secrets;

use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use futures_util::future::try_join;
use serde_json::json;
use tokio::sync::oneshot;

use super::arguments::{Format, Global, Log, Namespaces, without_setting};
use super::exit::Failure;
use super::monitor::AdminPages;
use super::signals::{Hangup, Signals};
use super::{duration, size};
use crate::cluster::{Cluster, Heartbeats};
use crate::server::{
    AddressRange, Exposure, Hosted, Metrics, OriginPattern, RoomPattern, Server, ServerOptions,
};
use crate::{Error, Namespace};
use database::Database;
use flags::name_flag;

const ACCESS: &str = "Access control";
const PERMISSIONS: &str = "Permissions of clients";
const LIMITS: &str = "Limits";

/// Host a Socket.IO server that is a member of the cluster
///
/// If no database is configured, this command starts a private Postgres, prints its URL, and stops it on exit. Other
/// pgio commands find the private Postgres without configuration. GET /healthz answers while the process runs, /readyz
/// while it is connected to the cluster, and /metrics serves metrics for Prometheus.
///
/// A slow client is disconnected once its buffer is full (backpressure, --client-buffer). It reconnects automatically, with
/// a new id and without its rooms.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio serve                                      with a private Postgres
  pgio serve --listen :8080 -n / -n '/org/{id}'   create namespaces on demand
  pgio serve --jwt-key-file key.pem               require { auth: { token } }
  pgio serve --allow-join 'chat:*' --relay        relay events between clients")]
pub(super) struct Serve {
    /// Listen on this address; port 0 selects a free port
    #[arg(long, default_value = "0.0.0.0:3000", value_parser = parse_listen, value_name = "HOST:PORT", env = "PGIO_LISTEN")]
    listen: String,
    #[command(flatten)]
    namespaces: Namespaces,
    /// The path of the Socket.IO endpoint
    #[arg(long, default_value = "/socket.io", value_name = "PATH")]
    path: String,
    /// The parser of the clients: default (JSON), or msgpack for socket.io-msgpack-parser
    #[arg(long, value_enum, default_value_t = ParserName::Default, value_name = "PARSER")]
    parser: ParserName,
    /// The transports that clients may use
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [TransportName::Websocket, TransportName::Polling], value_name = "LIST")]
    transports: Vec<TransportName>,
    /// Let pages of this origin connect by polling (CORS; * for every origin). May be repeated [default: the server's own
    /// origin]
    #[arg(long = "cors-origin", value_name = "ORIGIN", help_heading = ACCESS)]
    cors_origins: Vec<String>,
    /// The interval between two pings to a client
    #[arg(long, default_value = "25s", value_parser = duration::parse_positive, value_name = "TIME", help_heading = LIMITS)]
    ping_interval: Duration,
    /// The time a client has to answer a ping
    #[arg(long, default_value = "20s", value_parser = duration::parse_positive, value_name = "TIME", help_heading = LIMITS)]
    ping_timeout: Duration,
    /// The largest message that a client may send
    #[arg(long, default_value = "1MB", value_parser = size::parse, value_name = "SIZE", help_heading = LIMITS)]
    max_payload: u64,
    /// Disconnect a slow client (backpressure) when its queue exceeds this size, at least 64KiB
    ///
    /// The limit applies to the queue of events that the client has not read, and to the queue of its own events that
    /// wait to be relayed. An event counts 256 bytes more than its content.
    #[arg(long, default_value = "16MB", value_parser = size::parse, value_name = "SIZE", help_heading = LIMITS)]
    client_buffer: u64,
    /// Show this server in the Admin UI of instrumented Node servers, in namespace NSP [default: no; NSP: /admin]
    ///
    /// The UI lists the server with its sockets and rooms, and can move and disconnect them. While a UI is connected, the
    /// server publishes its statistics every 2 s, and each change of a socket. Otherwise it publishes nothing for it.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "/admin", value_name = "NSP")]
    admin_ui: Option<String>,
    /// Serve /healthz, /readyz, /metrics and a page about the cluster on this address, without TLS [default: the address
    /// of the clients, without the page]
    ///
    /// The page at / is that of pgio monitor. On an address that others can reach, it needs --admin-token-file.
    #[arg(long, value_parser = parse_listen, value_name = "HOST:PORT", env = "PGIO_ADMIN_LISTEN")]
    admin_listen: Option<String>,
    /// Require a token listed in FILE for the page and its API (one per line; # starts a comment)
    ///
    /// The file is read again when it changes, and on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "admin_listen", help_heading = ACCESS)]
    admin_token_file: Option<PathBuf>,
    /// Accept only pages of matching origins (origin check), by websocket and by polling: 'https://*.example.com'. May be
    /// repeated
    ///
    /// The default is the server's own host and every --cors-origin; with a token required, or with --cors-origin '*',
    /// every origin. A client that is not a browser sends no origin, and may connect.
    #[arg(long = "origin", value_name = "GLOB", num_args = 1.., value_parser = parse_origin_pattern, help_heading = ACCESS)]
    origins: Vec<OriginPattern>,
    /// Trust the X-Forwarded-For header of these proxies: 10.0.0.0/8. May be repeated
    ///
    /// The limits per address then apply to the address of the client, not to that of the proxy.
    #[arg(long = "trusted-proxy", value_name = "CIDR", num_args = 1.., value_parser = parse_address_range, help_heading = LIMITS)]
    trusted_proxies: Vec<AddressRange>,
    /// The maximum number of connected clients
    #[arg(long, default_value = "65536", value_name = "N", help_heading = LIMITS)]
    max_clients: usize,
    /// The maximum number of connected clients of one address
    ///
    /// For IPv6, an address is the first 64 bits. The handshakes of an address are rate limited: a burst of N, then 200
    /// a second.
    #[arg(long, default_value = "10000", value_name = "N", help_heading = LIMITS)]
    max_clients_per_address: usize,
    /// The deadline for a client to connect to a namespace after its handshake
    #[arg(long, default_value = "5s", value_parser = duration::parse_positive, value_name = "TIME", help_heading = LIMITS)]
    connect_timeout: Duration,
    /// The maximum number of rooms that a client may join by itself (--allow-join)
    #[arg(long, default_value = "1000", value_name = "N", help_heading = LIMITS)]
    max_rooms_per_client: usize,
    /// The rate limit for the events that a client emits, in events a second
    ///
    /// A burst of five seconds' worth is allowed. Events above the limit are refused; a client that continues is
    /// disconnected.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..), value_name = "N", help_heading = LIMITS)]
    client_rate: u32,
    /// The rate limit for the bytes of events that a client emits, in bytes a second
    ///
    /// A burst of five seconds' worth is allowed, and at least one message of --max-payload.
    #[arg(long, default_value = "4MB", value_parser = size::parse, value_name = "SIZE", help_heading = LIMITS)]
    client_bytes: u64,
    /// The maximum number of dynamic namespaces (of patterns such as /org/{id})
    ///
    /// A client that asks for another one is refused. Each namespace costs a LISTEN and heartbeats to all servers.
    #[arg(long, default_value_t = 10_000, value_name = "N", help_heading = LIMITS)]
    max_namespaces: usize,
    /// The maximum number of namespaces that a client may connect to over one connection
    #[arg(long, default_value_t = 100, value_name = "N", help_heading = LIMITS)]
    max_namespaces_per_client: usize,
    /// When to send heartbeats, which write WAL: auto (while a server of the namespace needs them, as Node servers do)
    /// or always
    ///
    /// With auto, pgio nodes use session advisory locks for liveness, and write no WAL while they are idle.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", env = "PGIO_HEARTBEATS")]
    heartbeats: HeartbeatsWhen,
    /// Serve TLS with this certificate, followed by the intermediate certificates, in PEM
    ///
    /// The files of certificate, key and client authorities are read again when they change, and on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = ACCESS)]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = ACCESS)]
    tls_key: Option<PathBuf>,
    /// Require a certificate of each client, signed by an authority in FILE, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = ACCESS)]
    tls_client_ca: Option<PathBuf>,
    /// Require a token listed in FILE (one per line; # starts a comment)
    ///
    /// The file is read again when it changes, and on SIGHUP.
    #[arg(long, value_name = "FILE", conflicts_with = "jwt", help_heading = ACCESS)]
    auth_token_file: Option<PathBuf>,
    /// Require a JSON Web Token signed with the key in FILE: a secret (HS256 ...) or a public key in PEM (RS256, ES256 ...)
    ///
    /// A secret is one line of at least 32 bytes. The claims become the socket's data. The client joins the rooms of
    /// the rooms claim. A namespaces claim limits the token to these namespaces (* stands for one segment). The file is
    /// read again when it changes, and on SIGHUP.
    #[arg(long, value_name = "FILE", group = "jwt", help_heading = ACCESS)]
    jwt_key_file: Option<PathBuf>,
    /// Require a JSON Web Token signed with a key of the JSON Web Key Set in FILE
    ///
    /// A token names its key with kid. The file is read again when it changes, and on SIGHUP.
    #[arg(long, value_name = "FILE", group = "jwt", help_heading = ACCESS)]
    jwks: Option<PathBuf>,
    /// Accept only JSON Web Tokens whose aud claim names this audience. May be repeated
    #[arg(long, value_name = "NAME", requires = "jwt", help_heading = ACCESS)]
    audience: Vec<String>,
    /// Accept only JSON Web Tokens whose iss claim is this issuer. May be repeated
    #[arg(long, value_name = "NAME", requires = "jwt", help_heading = ACCESS)]
    issuer: Vec<String>,
    /// Disconnect a client when its token expires, or when its token or key is no longer listed
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", value_name = "BOOL", help_heading = ACCESS)]
    disconnect_expired: bool,
    /// Let clients emit join and leave for rooms that match: *, ?, [a-z], {a,b}. May be repeated [default: no rooms]
    ///
    /// Both events take a room or an array of rooms. The acknowledgement is the list of the client's rooms, or {error}.
    /// {sub} is replaced by the claim sub of the client's token, and so on: user:{sub}.
    #[arg(long, value_name = "GLOB", num_args = 1.., value_parser = parse_room_pattern, help_heading = PERMISSIONS)]
    allow_join: Vec<RoomPattern>,
    /// Let clients join rooms whose names look like the id of a client (16 or 20 letters, digits, - and _)
    ///
    /// A client in the room of another client's id receives the private messages of that client. A pattern without
    /// wildcards allows its room even without this flag.
    #[arg(long, requires = "allow_join", help_heading = PERMISSIONS)]
    allow_id_rooms: bool,
    /// Relay the events of clients to other clients [default: no; TO: rooms]
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "rooms", value_name = "TO", help_heading = PERMISSIONS)]
    relay: Option<RelayTo>,
    /// Answer every serverSideEmitWithAck of other servers with this [default: {"node": uid, "pgio": version}]
    #[arg(long, value_name = "JSON", conflicts_with = "no_answer")]
    answer: Option<String>,
    /// Do not answer serverSideEmitWithAck of other servers
    #[arg(long)]
    no_answer: bool,
    /// Let other servers see the headers authorization, proxy-authorization and cookie of clients, in fetchSockets
    #[arg(long)]
    share_headers: bool,
    /// Store the events that clients emit to others, so that pgio nodes replay them after a reconnect [default: no]
    #[arg(long)]
    durable: bool,
    /// Do not create the attachment table if it is missing
    #[arg(long)]
    no_init: bool,
    /// The deadline of a graceful shutdown
    #[arg(long, default_value = "5s", value_parser = duration::parse, value_name = "TIME")]
    grace: Duration,
    /// The format of the log on stderr
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", env = "PGIO_LOG_FORMAT")]
    log_format: Format,
}

/// When nodes send heartbeats.
#[derive(Clone, Copy, Default, ValueEnum)]
enum HeartbeatsWhen {
    #[default]
    Auto,
    Always,
}

impl From<HeartbeatsWhen> for Heartbeats {
    fn from(when: HeartbeatsWhen) -> Self {
        match when {
            HeartbeatsWhen::Auto => Self::Auto,
            HeartbeatsWhen::Always => Self::Always,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ParserName {
    Default,
    Msgpack,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TransportName {
    Websocket,
    Polling,
}

#[derive(Clone, Copy, ValueEnum)]
enum RelayTo {
    /// To the clients that share a room with the sender
    Rooms,
    /// To all other clients of the namespace
    Namespace,
}

/// Parses a pattern of room names.
fn parse_room_pattern(text: &str) -> Result<RoomPattern, String> {
    text.parse().map_err(without_setting)
}

/// Parses a pattern of origins.
fn parse_origin_pattern(text: &str) -> Result<OriginPattern, String> {
    text.parse().map_err(without_setting)
}

/// Parses a range of addresses.
fn parse_address_range(text: &str) -> Result<AddressRange, String> {
    text.parse().map_err(without_setting)
}

/// Parses an address. A port alone means all interfaces.
pub(super) fn parse_listen(text: &str) -> Result<String, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    match (port.parse::<u16>(), text.rsplit_once(':')) {
        (Ok(port), _) => Ok(format!("0.0.0.0:{port}")),
        (Err(_), Some((host, port))) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("not an address such as 127.0.0.1:3000 or [::1]:3000".into()),
    }
}

impl Serve {
    pub(super) fn log(&self) -> Log {
        Log { format: self.log_format, is_on: true }
    }

    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let mut signals = Signals::listen()?;
        tokio::select! {
            outcome = self.serve(global) => outcome,
            () = super::log::tell_of_repeats() => Ok(()),
            // The second Ctrl-C ends the process at once, also during start or shutdown.
            () = signals.second_interrupt() => Err(Failure::Interrupted),
        }
    }

    async fn serve(self, global: &Global) -> Result<(), Failure> {
        let mut signals = Signals::listen()?;
        secrets::warn_of_arguments();
        let files = [&self.tls_key, &self.auth_token_file, &self.jwt_key_file, &self.admin_token_file];
        files.into_iter().flatten().for_each(|path| secrets::warn_of_file(path));
        let mut hangup = Hangup::listen()?;
        let options = self.options()?;
        let metrics = install_metrics();
        let mut database = tokio::select! {
            database = Database::find(global) => database?,
            () = signals.next() => return Ok(()),
        };
        let outcome = tokio::select! {
            outcome = self.serve_on(&database, options, metrics, global) => outcome,
            () = signals.next() => Ok(None),
        };
        let (server, pages) = match outcome {
            Ok(Some(started)) => started,
            other => {
                database.stop().await?;
                return other.map(drop);
            }
        };
        tokio::select! {
            () = database.supervise() => {}
            () = signals.next() => {}
            () = hangup.each(|| {
                server.reload();
                pages.iter().for_each(AdminPages::reload);
            }) => {}
        }
        tracing::info!("shutting down");
        pages.iter().for_each(AdminPages::close);
        server.shut_down().await;
        drop(pages);
        database.stop().await?;
        tracing::info!("stopped");
        Ok(())
    }

    async fn serve_on(
        &self,
        database: &Database,
        options: ServerOptions,
        metrics: oneshot::Receiver<crate::Result<Metrics>>,
        global: &Global,
    ) -> Result<Option<(Server, Option<AdminPages>)>, Failure> {
        let options_of_adapter = global
            .adapter_options()
            .share_headers(self.share_headers)
            .durable(self.durable)
            .heartbeats(Heartbeats::from(self.heartbeats));
        let cluster = Cluster::connect_to_listen(database.settings().clone(), options_of_adapter).await?;
        let metrics = metrics.await.map_err(|_| Error::Closed)??;
        let (is_created, server_identity) =
            try_join(self.create_table(&cluster), cluster.server_identity()).await?;
        if is_created {
            tracing::info!(table = %cluster.options().table_name, "attachment table created");
        }
        let pages = self.admin_pages(&cluster, database, &options).await?;
        let router = pages.as_ref().map(|pages| pages.router.clone());
        let server =
            Server::start_with_pages(cluster, options.clone(), metrics, router).await.map_err(name_flag)?;
        for exposure in options.exposures(server.address()) {
            tracing::warn!(remedy = remedy(exposure), "{}", exposure.description());
        }
        tracing::info!(url = server.url(), database = server_identity, "listening");
        announce(&server, &server_identity, database, global);
        Ok(Some((server, pages)))
    }

    /// Creates the attachment table if it is missing, unless a flag forbids it. Returns whether it was created.
    async fn create_table(&self, cluster: &Cluster) -> crate::Result<bool> {
        if self.no_init { Ok(false) } else { cluster.create_attachment_table().await }
    }

    /// The page about the cluster, on the admin address. It observes the namespaces that are not patterns.
    async fn admin_pages(
        &self,
        cluster: &Cluster,
        database: &Database,
        options: &ServerOptions,
    ) -> Result<Option<AdminPages>, Failure> {
        let Some(listen) = &self.admin_listen else { return Ok(None) };
        let namespaces: Vec<_> = options.namespaces.iter().filter_map(Hosted::name).cloned().collect();
        let namespaces = if namespaces.is_empty() { vec![Namespace::default()] } else { namespaces };
        let token_file = self.admin_token_file.as_deref();
        let pages = AdminPages::new(cluster, database.settings(), namespaces, listen, token_file).await?;
        if pages.is_none() {
            tracing::info!(
                remedy = "--admin-token-file",
                "no page at /, since others can reach the admin address and no token is required"
            );
        }
        Ok(pages)
    }
}

/// Installs the recorder of the metrics on a thread of its own, since it calibrates its clock for some milliseconds. The
/// sessions connect meanwhile.
fn install_metrics() -> oneshot::Receiver<crate::Result<Metrics>> {
    let (installed, metrics) = oneshot::channel();
    thread::spawn(|| {
        // Fails if the server is not started after all.
        installed.send(Metrics::install()).ok();
    });
    metrics
}

/// The flags that protect an access.
fn remedy(exposure: Exposure) -> &'static str {
    match exposure {
        Exposure::NoToken => "--jwt-key-file or --auth-token-file",
        Exposure::AnyOrigin => "--origin with the origins of your pages",
        Exposure::PublicMetrics => "--admin-listen, or a proxy that forwards the Socket.IO path only",
    }
}

/// Prints the address to stdout, for people and for scripts.
fn announce(server: &Server, server_identity: &str, database: &Database, global: &Global) {
    let (url, private) = (server.url(), database.private_url());
    let text = match global.output {
        Format::Json => json!({ "url": url, "address": server.address(), "adminAddress": server.admin_address(), "database": server_identity, "privateDatabase": private }).to_string(),
        Format::Text => {
            let private = private.map(|url| format!("private Postgres: {url}\n")).unwrap_or_default();
            format!("{private}listening on {url} (database {server_identity})")
        }
    };
    // A closed stdout does not stop the server.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
