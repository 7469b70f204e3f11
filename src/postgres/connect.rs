//! Connects according to the settings: tries the hosts in turn or staggered, with or without TLS.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use postgres_native_tls::TlsStream;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{self, SslNegotiation};
use tokio_postgres::{Client, Config, Connection, Socket};

use super::failure::{ConnectFailure, Verdict};
use super::session_setup;
use super::settings::{Address, Host, HostOrder, Parameters, Settings, SslMode, TargetSession};
use super::tls::{LazyTls, check_files};
use crate::{Error, Result};

pub(crate) type PgConnection = Connection<Socket, TlsStream<Socket>>;

/// How long after one host the next one is tried, where hosts are tried side by side. As in "Happy Eyeballs", RFC 8305,
/// section 5.
const STAGGER: Duration = Duration::from_millis(250);

/// When a host that failed is tried again, while another one has not answered.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// The least time that an address of a host has for a TCP connection, if `connect_timeout` allows it.
const MIN_ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);

type Connected = (Client, PgConnection);

impl Settings {
    /// Connects to the first suitable host. The session does not end while it is idle: it overrides an
    /// `idle_session_timeout` of the role or the database.
    ///
    /// # Errors
    /// [`Error::Connect`] if a retry may succeed, [`Error::Refused`] if not. Both name each host with its reason.
    /// [`Error::File`] names an unusable certificate or key.
    pub(crate) async fn connect(&self) -> Result<Connected> {
        let parameters = self.parameters();
        let mut hosts: Vec<_> = parameters.hosts.iter().collect();
        if parameters.shuffle_hosts {
            fastrand::shuffle(&mut hosts);
        }
        if parameters.tls.mode != SslMode::Disable {
            check_files(&parameters.tls)?;
        }
        let mut failures = Vec::new();
        for wanted in wanted_sessions(parameters.target_session) {
            let outcome = match parameters.host_order {
                HostOrder::Sequential => parameters.try_in_turn(&hosts, *wanted).boxed().await,
                HostOrder::Staggered => parameters.try_staggered(&hosts, *wanted).boxed().await,
            };
            failures = match outcome {
                Ok((client, connection)) => {
                    session_setup::set_up(&client, &connection);
                    return Ok((client, connection));
                }
                Err(failures) => failures,
            };
            if failures.iter().any(|(_, failure)| failure.is_refusal()) {
                break;
            }
        }
        Err(summary(failures))
    }

    /// Connects for a session that listens.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub(crate) async fn connect_to_listen(&self) -> Result<Connected> {
        let (client, connection) = self.connect().await?;
        session_setup::set_up_listening(&client);
        Ok((client, connection))
    }
}

/// The wanted sessions, in the order of preference.
fn wanted_sessions(target: TargetSession) -> &'static [TargetSession] {
    match target {
        TargetSession::Any => &[TargetSession::Any],
        TargetSession::ReadWrite => &[TargetSession::ReadWrite],
        TargetSession::ReadOnly => &[TargetSession::ReadOnly],
        TargetSession::Primary => &[TargetSession::Primary],
        TargetSession::Standby => &[TargetSession::Standby],
        TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
    }
}

/// The hosts without a suitable session, each with its reason.
type Failures<'a> = Vec<(&'a Host, ConnectFailure)>;

/// One error for all hosts: a refusal, else the first transient failure, else the first other failure.
fn summary(mut failures: Failures<'_>) -> Error {
    let target = failures.iter().map(|(host, _)| host.to_string()).collect::<Vec<_>>().join(", ");
    let reason = match failures.as_slice() {
        [(_, failure)] => failure.reason.clone(),
        several => several
            .iter()
            .map(|(host, failure)| format!("{host}: {}", failure.reason))
            .collect::<Vec<_>>()
            .join("; "),
    };
    let rank = |(_, failure): &(&Host, ConnectFailure)| match failure.verdict {
        Verdict::Refused { .. } => 0,
        Verdict::Transient => 1,
        Verdict::Unsuitable => 2,
    };
    failures.sort_by_key(rank);
    match failures.into_iter().next() {
        Some((_, ConnectFailure { verdict: Verdict::Transient, sqlstate, source, .. })) => {
            Error::Connect { target, reason, sqlstate, source }
        }
        Some((_, ConnectFailure { sqlstate, source, .. })) => {
            Error::Refused { target, reason, sqlstate, source }
        }
        None => Error::Refused { target, reason, sqlstate: None, source: None },
    }
}

impl Parameters {
    /// Tries one host after the other.
    async fn try_in_turn<'a>(
        &self,
        hosts: &[&'a Host],
        wanted: TargetSession,
    ) -> Result<Connected, Failures<'a>> {
        let mut failures = Vec::new();
        for host in hosts {
            match self.try_host(host, wanted).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => {
                    let is_refusal = failure.is_refusal();
                    failures.push((*host, failure));
                    // As in libpq: after a refusal the next host does not get the same name and password.
                    if is_refusal {
                        break;
                    }
                }
            }
        }
        Err(failures)
    }

    /// Tries the hosts side by side, each [`STAGGER`] after the one before it or as soon as that one fails; the first
    /// suitable session wins. While a host keeps it waiting, the others are tried again: one of them may be promoted.
    /// Fails when every host has failed at least once.
    async fn try_staggered<'a>(
        &self,
        hosts: &[&'a Host],
        wanted: TargetSession,
    ) -> Result<Connected, Failures<'a>> {
        let mut failures: Vec<_> = hosts.iter().map(|_| None).collect();
        let mut attempts = FuturesUnordered::new();
        let attempt = |index: usize, pause: Duration| async move {
            sleep(pause).await;
            (index, self.try_host(hosts[index], wanted).await)
        };
        let mut begun = 0;
        while failures.iter().any(Option::is_none) {
            if begun < hosts.len() {
                attempts.push(attempt(begun, Duration::ZERO));
                begun += 1;
            }
            let next = attempts.next();
            let ended = match begun < hosts.len() {
                true => timeout(STAGGER, next).await.ok().flatten(),
                false => next.await,
            };
            match ended {
                Some((_, Ok(connected))) => return Ok(connected),
                Some((index, Err(failure))) => {
                    if !failure.is_refusal() {
                        attempts.push(attempt(index, TRY_AGAIN_AFTER));
                    }
                    failures[index] = Some(failure);
                }
                None => {}
            }
        }
        Err(hosts
            .iter()
            .copied()
            .zip(failures)
            .filter_map(|(host, failure)| Some((host, failure?)))
            .collect())
    }

    async fn try_host(&self, host: &Host, wanted: TargetSession) -> Result<Connected, ConnectFailure> {
        let outcome = self.try_tls_modes(host, wanted).await;
        if let Err(failure) = &outcome {
            tracing::debug!(%host, reason = failure.reason, "no connection");
        }
        outcome
    }

    async fn try_tls_modes(&self, host: &Host, wanted: TargetSession) -> Result<Connected, ConnectFailure> {
        let (first, second) = match (self.tls.mode, &host.address) {
            // There is no TLS over a Unix-domain socket.
            (SslMode::Disable, _) | (_, Address::Socket(_)) => (config::SslMode::Disable, None),
            (SslMode::Allow, _) => (config::SslMode::Disable, Some(config::SslMode::Require)),
            (SslMode::Prefer, _) => (config::SslMode::Prefer, Some(config::SslMode::Disable)),
            _ => (config::SslMode::Require, None),
        };
        let failure = match self.try_once(host, first, wanted).await {
            Ok(connected) => return Ok(connected),
            Err(failure) => failure,
        };
        let another_way_may_do = match failure.verdict {
            Verdict::Transient => false,
            Verdict::Unsuitable => first == config::SslMode::Prefer,
            Verdict::Refused { by_rule } => by_rule,
        };
        match second {
            Some(second) if another_way_may_do => {
                // The first reason is the one that the user can act on.
                self.try_once(host, second, wanted).await.map_err(|_| failure)
            }
            _ => Err(failure),
        }
    }

    async fn try_once(
        &self,
        host: &Host,
        mode: config::SslMode,
        wanted: TargetSession,
    ) -> Result<Connected, ConnectFailure> {
        let config = self.config(host, mode);
        let attempt = async {
            let connected = config.connect(LazyTls(self.tls.clone())).await;
            check_session(connected?, wanted).await
        };
        match self.connect_timeout {
            None => attempt.await,
            Some(limit) => timeout(limit, attempt)
                .await
                .unwrap_or_else(|_| Err(ConnectFailure::transient(format!("no answer within {limit:?}")))),
        }
    }

    fn config(&self, host: &Host, mode: config::SslMode) -> Config {
        let mut config = Config::new();
        match &host.address {
            Address::Socket(directory) => config.host(directory.to_string_lossy()),
            Address::Tcp { name, .. } => config.host(name),
        };
        if let Address::Tcp { address: Some(address), .. } = host.address {
            config.hostaddr(address);
        }
        config.port(host.port).user(&self.user).dbname(&self.dbname).ssl_mode(mode);
        config.channel_binding(self.channel_binding);
        if self.tls.direct {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        if let Some(password) = &host.password {
            config.password(password);
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        if let Some(limit) = self.connect_timeout {
            // A name may have several addresses, and the first one may not answer.
            config.connect_timeout((limit / 2).max(MIN_ADDRESS_TIMEOUT).min(limit));
        }
        if let Some(name) = self.application_name() {
            config.application_name(name);
        }
        if let Some(time) = self.tcp_user_timeout {
            config.tcp_user_timeout(time);
        }
        match &self.keepalives {
            None => config.keepalives(false),
            Some(keep) => config
                .keepalives_idle(keep.idle)
                .keepalives_interval(keep.interval)
                .keepalives_retries(keep.count),
        };
        config
    }
}

/// Checks whether the server fits `target_session_attrs`.
async fn check_session(
    (client, mut connection): Connected,
    wanted: TargetSession,
) -> Result<Connected, ConnectFailure> {
    if wanted == TargetSession::Any {
        return Ok((client, connection));
    }
    let row = {
        let query = std::pin::pin!(client.query_typed(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only') = 'on'",
            &[],
        ));
        let broken = poll_fn(|context| match connection.poll_message(context) {
            Poll::Ready(Some(Ok(_notice))) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(error)),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match select(query, std::pin::pin!(broken)).await {
            Either::Left((rows, _)) => rows?.pop(),
            Either::Right((Some(error), _)) => return Err(error.into()),
            Either::Right((None, _)) => None,
        }
    };
    let row = row.ok_or_else(|| ConnectFailure::transient("the server closed the connection"))?;
    let (is_standby, is_read_only): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let complaint = match wanted {
        TargetSession::ReadWrite if is_read_only => "the session is read-only",
        TargetSession::ReadOnly if !is_read_only => "the session is not read-only",
        TargetSession::Primary if is_standby => "the server is a standby",
        TargetSession::Standby | TargetSession::PreferStandby if !is_standby => "the server is no standby",
        _ => return Ok((client, connection)),
    };
    // It is transient: after a failover the server may fit.
    Err(ConnectFailure::transient(complaint))
}
