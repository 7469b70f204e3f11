//! `pgio serve`: a Socket.IO server that is a member of the cluster.

#[cfg(unix)]
mod database;
#[cfg(not(unix))]
#[path = "database_configured.rs"]
mod database;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use globset::GlobMatcher;
use serde_json::json;

use super::arguments::{Format, Global, Log, Namespaces};
use super::exit::Failure;
use super::signals::Signals;
use super::{duration, glob, size, values};
use crate::cluster::Cluster;
use crate::server::{
    Answers, Authentication, ClientRules, CorsOrigins, Hosted, JwtKey, Metrics, Parser, Relay, Server,
    ServerOptions, TlsFiles, Tokens, Transports,
};
use database::Database;

/// Host a Socket.IO server that is a member of the cluster
///
/// With no database configured it starts a private Postgres, prints its URL, and stops it on exit; other pgio commands
/// find it by themselves. GET /healthz tells whether the process lives, /readyz whether Postgres is there, /metrics is
/// for Prometheus.
///
/// A client that cannot keep up is disconnected once its buffer is full, since it would miss events. It then connects
/// again by itself, as after any loss of connection, with a new id and without its rooms.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio serve                                      with a Postgres of its own
  pgio serve --listen :8080 -n / -n '/org/{id}'   namespaces on demand
  pgio serve --jwt-key-file key.pem               who shows { auth: { token } }
  pgio serve --allow-join 'chat:*' --relay        clients talk to each other")]
pub(super) struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "0.0.0.0:3000", value_parser = parse_listen, value_name = "HOST:PORT", env = "PGIO_LISTEN")]
    listen: String,
    #[command(flatten)]
    namespaces: Namespaces,
    /// The path that clients ask for
    #[arg(long, default_value = "/socket.io", value_name = "PATH")]
    path: String,
    /// How packets are encoded between server and clients; msgpack for clients with socket.io-msgpack-parser
    #[arg(long, value_enum, default_value_t = ParserName::Default, value_name = "PARSER")]
    parser: ParserName,
    /// How clients may come
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [TransportName::Websocket, TransportName::Polling], value_name = "LIST")]
    transports: Vec<TransportName>,
    /// Let pages of this origin connect by polling; * for all. May be repeated
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    cors_origins: Vec<String>,
    /// How often to ask clients whether they live
    #[arg(long, default_value = "25s", value_parser = duration::parse_positive, value_name = "TIME")]
    ping_interval: Duration,
    /// How long they may take to answer
    #[arg(long, default_value = "20s", value_parser = duration::parse_positive, value_name = "TIME")]
    ping_timeout: Duration,
    /// The largest message of a client
    #[arg(long, default_value = "1MB", value_parser = size::parse, value_name = "SIZE")]
    max_payload: u64,
    /// How many packets may wait for a client before it is disconnected
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=1 << 30), value_name = "N")]
    client_buffer: u32,
    /// The server's certificate, followed by those between it and the root, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let in who shows a token of this file, which has one a line
    #[arg(long, value_name = "FILE", conflicts_with = "jwt_key_file")]
    auth_token_file: Option<PathBuf>,
    /// Let in who shows a JSON Web Token signed with this key: a secret (HS256 ...) or a public key in PEM (RS256, ES256 ...)
    ///
    /// Its claims become the socket's data, and a rooms claim joins those rooms.
    #[arg(long, value_name = "FILE")]
    jwt_key_file: Option<PathBuf>,
    /// Let clients emit join and leave with rooms that match: * and ? and [a-z] and {a,b}. May be repeated
    ///
    /// Both take a room or an array of rooms, and acknowledge with the rooms then held, or with {error}.
    #[arg(long, value_name = "GLOB", num_args = 1.., value_parser = glob::parse)]
    allow_join: Vec<GlobMatcher>,
    /// Pass on what clients emit, to their rooms or to everyone else in the namespace
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "rooms", value_name = "TO")]
    relay: Option<RelayTo>,
    /// What servers get that ask for an answer (serverSideEmit) [default: {"node": uid, "pgio": version}]
    #[arg(long, value_name = "JSON", conflicts_with = "no_answer")]
    answer: Option<String>,
    /// Let servers wait in vain that ask for an answer
    #[arg(long)]
    no_answer: bool,
    /// Do not create the attachment table where it is missing
    #[arg(long)]
    no_init: bool,
    /// How long a shutdown may take
    #[arg(long, default_value = "5s", value_parser = duration::parse, value_name = "TIME")]
    grace: Duration,
    /// How to log, on stderr
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", env = "PGIO_LOG_FORMAT")]
    log_format: Format,
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
    /// To who shares a room with the sender
    Rooms,
    /// To everyone else in the namespace
    Namespace,
}

/// A port alone means every address.
fn parse_listen(text: &str) -> Result<String, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    match (port.parse::<u16>(), text.rsplit_once(':')) {
        (Ok(port), _) => Ok(format!("0.0.0.0:{port}")),
        (Err(_), Some((host, port))) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("not an address: write 127.0.0.1:3000 or [::1]:3000".into()),
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
            // Whatever starts or stops: the second signal is meant.
            () = signals.insistent() => Err(Failure::Interrupted),
        }
    }

    async fn serve(self, global: &Global) -> Result<(), Failure> {
        let mut signals = Signals::listen()?;
        let options = self.options()?;
        let metrics = Metrics::install()?;
        let mut database = tokio::select! {
            database = Database::find(global) => database?,
            () = signals.next() => return Ok(()),
        };
        let outcome = tokio::select! {
            outcome = self.serve_on(&database, options, metrics, global) => outcome,
            () = signals.next() => Ok(None),
        };
        let server = match outcome {
            Ok(Some(server)) => server,
            other => {
                database.stop().await?;
                return other.map(drop);
            }
        };
        tokio::select! {
            () = database.keep() => {}
            () = signals.next() => {}
        }
        tracing::info!("shutting down");
        server.shut_down().await;
        database.stop().await?;
        tracing::info!("done");
        Ok(())
    }

    async fn serve_on(
        &self,
        database: &Database,
        options: ServerOptions,
        metrics: Metrics,
        global: &Global,
    ) -> Result<Option<Server>, Failure> {
        let cluster = Cluster::connect(database.settings().clone(), global.adapter_options()).await?;
        if !self.no_init && cluster.create_attachment_table().await? {
            tracing::info!(table = %cluster.options().table_name, "the attachment table is new");
        }
        let whereabouts = cluster.whereabouts().await?;
        let server = Server::start(cluster, options, metrics).await?;
        tracing::info!(url = server.url(), database = whereabouts, "listening");
        announce(&server, &whereabouts, database, global);
        Ok(Some(server))
    }

    fn options(&self) -> Result<ServerOptions, Failure> {
        let authentication = match (&self.auth_token_file, &self.jwt_key_file) {
            (Some(file), _) => Authentication::Tokens(Tokens::read(file)?),
            (None, Some(file)) => Authentication::Jwt(JwtKey::read(file)?),
            (None, None) => Authentication::Anyone,
        };
        let answers = match &self.answer {
            Some(json) => {
                let mut values =
                    values::parse_all(std::slice::from_ref(json), false).map_err(|e| e.at("--answer"))?;
                Answers::Value(values.pop().unwrap_or_default())
            }
            None if self.no_answer => Answers::None,
            None => Answers::Identity,
        };
        let mut namespaces = Vec::new();
        for hosted in self.namespaces.as_given().iter().map(|name| Hosted::new(name)) {
            if !namespaces.contains(&hosted) {
                namespaces.push(hosted);
            }
        }
        if namespaces.is_empty() {
            namespaces = ServerOptions::default().namespaces;
        }
        let has = |transport| self.transports.contains(&transport);
        Ok(ServerOptions {
            listen: self.listen.clone(),
            namespaces,
            path: self.path.clone(),
            parser: match self.parser {
                ParserName::Default => Parser::Default,
                ParserName::Msgpack => Parser::Msgpack,
            },
            transports: match (has(TransportName::Websocket), has(TransportName::Polling)) {
                (true, false) => Transports::Websocket,
                (false, true) => Transports::Polling,
                _ => Transports::Both,
            },
            cors: CorsOrigins::parse(&self.cors_origins)?,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            max_payload: self.max_payload,
            client_buffer: usize::try_from(self.client_buffer).unwrap_or(usize::MAX),
            tls: self
                .tls_cert
                .clone()
                .zip(self.tls_key.clone())
                .map(|(certificate, key)| TlsFiles { certificate, key }),
            authentication,
            rules: ClientRules {
                join: self.allow_join.clone(),
                relay: match self.relay {
                    None => Relay::Off,
                    Some(RelayTo::Rooms) => Relay::Rooms,
                    Some(RelayTo::Namespace) => Relay::Namespace,
                },
            },
            answers,
            grace: self.grace,
        })
    }
}

/// Says on stdout where it is, for people and for scripts.
fn announce(server: &Server, whereabouts: &str, database: &Database, global: &Global) {
    let (url, private) = (server.url(), database.private_url());
    let text = match global.output {
        Format::Json => json!({ "url": url, "address": server.address(), "database": whereabouts, "privateDatabase": private }).to_string(),
        Format::Text => {
            let private = private.map(|url| format!("private Postgres: {url}\n")).unwrap_or_default();
            format!("{private}listening on {url} (database {whereabouts})")
        }
    };
    // Nobody has to read it.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
