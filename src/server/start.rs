//! The start of a server: builds its parts from the options and connects them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder, TransportType};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tower_service::Service;

use super::accept::{self, Acceptor};
use super::addresses::TrustedProxies;
use super::admin_ui::{self, Departures};
use super::admission::{self, AdmissionControl};
use super::auth::Authentication;
use super::auth::refusal_delay::RefusalDelay;
use super::client_buffers::{self, ClientBuffers};
use super::client_events::ClientEvents;
use super::client_stream::{self, ClientStreams};
use super::connection_slots::ConnectionSlots;
use super::descriptors::Descriptors;
use super::disconnect::{self, SessionCloser, UpgradedConnections};
use super::expiry::Expiries;
use super::first_bytes::INSPECTION_PATHS;
use super::front::Front;
use super::hooks::{count_queued, disconnect_dropped_connects, limit_pending_namespaces};
use super::inspection::{self, Inspection};
use super::loopback::{self, LoopbackHealth};
use super::metrics::Metrics;
use super::namespace_gc;
use super::options::{Hosted, MIN_CLIENT_BUFFER, Parser, ServerOptions, Transports};
use super::origins::OriginRule;
use super::pages::serve_pages;
use super::patterns::{self, HostedPatterns};
use super::quotas::{Limits, Quotas};
use super::rate::{Rate, RateLimits};
use super::readers::Readers;
use super::relay::RelayQueue;
use super::reload::{Reloader, Revocation};
use super::sessions::Sessions;
use super::shared_io::IoOwner;
use super::throttle::Throttle;
use super::tls::TlsAcceptor;
use super::traffic::Traffic;
use super::{ClusterAdapter, ClusterIo, Server};
use crate::adapter::PostgresAdapterCtr;
use crate::cluster::Cluster;
use crate::error::without_os_code;
use crate::{Error, Result};

/// The read buffer of a websocket. It is small because clients send short packets and most clients are idle.
const READ_BUFFER: usize = 1 << 8;

/// The interval at which the metrics recorder gets the traffic, and drops samples that were not scraped.
const UPKEEP: Duration = Duration::from_secs(5);

impl Server {
    /// Starts a server on a cluster. When this returns, the server is a member of the cluster and accepts clients.
    ///
    /// # Errors
    /// [`Error::TableShape`] if the attachment table holds something else, [`Error::Listen`] if the address cannot be
    /// bound, [`Error::File`] for an unreadable or invalid TLS file, [`Error::Setting`] for an invalid path or
    /// namespace pattern, and the errors of [`Cluster::subscribe`] and [`Cluster::publish`].
    pub async fn start(cluster: Cluster, options: ServerOptions, metrics: Metrics) -> Result<Self> {
        Self::start_with_pages(cluster, options, metrics, None).await
    }

    /// The same, with more pages on the admin address.
    pub(crate) async fn start_with_pages(
        cluster: Cluster,
        options: ServerOptions,
        metrics: Metrics,
        pages: Option<Router>,
    ) -> Result<Self> {
        let path = checked_path(&options.path)?;
        let client_buffer = checked_client_buffer(options.client_buffer)?;
        let tls = options.tls.clone().map(TlsAcceptor::new).transpose()?.map(Arc::new);
        let descriptors = Descriptors::raise_limit();
        cluster.check_attachment_table().await?;
        let (listener, address) = listen(&options.listen).await?;
        let admin = match &options.admin_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let needs_token = !matches!(options.authentication, Authentication::Anyone);
        let origins = OriginRule::new(options.origins.clone(), &options.cors, needs_token);
        tracing::info!(origins = %origins, "origin check");

        let adapter = PostgresAdapterCtr::new(cluster.clone());
        let (service, io) = builder(&options, path.clone(), client_buffer, adapter.clone()).build_svc();
        match options.admin_ui {
            Some(_) => adapter.attach_for_admin_ui(&io),
            None => adapter.attach(&io),
        }
        options.answers.install(&adapter);
        let io_owner = IoOwner::new(io.clone());
        let shared_io = io_owner.share();

        let (closing, abort_all, open) =
            (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let traffic = Arc::new(Traffic::default());
        let wires = ClientStreams {
            upgraded: Arc::new(UpgradedConnections::default()),
            readers: Arc::new(Readers::default()),
            traffic: traffic.clone(),
            write_timeout: client_stream::WRITE_TIMEOUT,
        };
        let buffers = ClientBuffers::new(client_buffer, options.parser);
        let (disconnector, polling_disconnector) = disconnect::disconnector(wires.upgraded.clone());
        count_queued(&adapter, &shared_io, &buffers, &disconnector);
        disconnect_dropped_connects(&adapter, wires.readers.clone(), disconnector.clone());
        adapter.start_namespaces_on_admission(options.max_namespaces);
        let max_per_client = options.max_namespaces_per_client;
        limit_pending_namespaces(&adapter, max_per_client, wires.readers.clone(), disconnector.clone());
        let (relay_queue, relaying) = RelayQueue::start(client_buffer, closing.clone());
        let expiries = Expiries::default();
        let expiring = options
            .disconnect_expired
            .then(|| expiries.clone().start(shared_io.clone(), disconnector.clone()));
        let authentication = options.authentication;
        let reloader = Arc::new(Reloader {
            authentication: authentication.clone(),
            tls: tls.clone(),
            revocation: options
                .disconnect_expired
                .then(|| Revocation { io: shared_io.clone(), disconnector: disconnector.clone() }),
        });
        let watching = reloader.start();
        let events = ClientEvents {
            rules: options.rules,
            max_rooms: options.max_rooms_per_client,
            rates: RateLimits {
                events: Rate::new(options.client_rate.into(), 1),
                bytes: Rate::new(options.client_bytes, options.max_payload),
            },
            relay_queue,
            disconnector: disconnector.clone(),
            // The io owns the handlers that hold this, so a strong reference to the io would be a cycle.
            adapter: adapter.detached(),
        };
        let departures = Arc::new(Departures::default());
        let admission_control = Arc::new(AdmissionControl {
            authentication,
            refusal_delay: RefusalDelay::default(),
            expiries: options.disconnect_expired.then_some(expiries),
            max_namespaces_per_client: max_per_client,
            events: Arc::new(events),
            disconnector: disconnector.clone(),
            buffers: buffers.clone(),
            adapter: adapter.detached(),
            departures: departures.clone(),
        });
        host(&io, &options.namespaces, &admission_control).await?;

        let loopback = LoopbackHealth::default();
        let inspection = Inspection {
            io: shared_io.clone(),
            adapter: adapter.detached(),
            loopback: loopback.clone(),
            metrics: metrics.clone(),
            traffic: traffic.clone(),
            closing: closing.clone(),
        };
        let inspection = inspection::count_refusals(inspection::routes(inspection));
        let public = match admin {
            Some(_) => Router::new(),
            None => inspection.clone(),
        };
        let app = inspection::forbid_caching(public.fallback_service(service.clone()), path.clone());
        let app = inspection::count_refusals(inspection::allow_origins(app, options.cors));
        let quotas = Arc::new(Quotas::new(Limits {
            clients: options.max_clients,
            clients_of_address: options.max_clients_per_address,
        }));
        let admin_ui = match options.admin_ui {
            Some(shown) => {
                let (quotas, traffic) = (quotas.clone(), traffic.clone());
                let hosted = namespace_gc::hosted_by_name(&options.namespaces);
                let io = shared_io.clone();
                let sources = admin_ui::Sources { io, hosted, quotas, traffic, departures };
                Some(admin_ui::start(cluster.clone(), shown, sources, closing.clone()).await?)
            }
            None => None,
        };
        let sessions = SessionCloser::new(app.clone(), path.clone());
        let front = Front {
            app,
            path: path.clone(),
            origins,
            proxies: TrustedProxies::new(options.trusted_proxies),
            websockets: Arc::new(move |stream, head| {
                // Fails for a head that was refused before.
                if let Err(error) = Service::call(&mut service.clone(), (stream, head)).into_inner() {
                    tracing::debug!(%error, "cannot open a websocket");
                }
            }),
            open: open.clone(),
            quotas,
            sessions: Arc::new(Sessions::new(traffic.clone())),
            upgraded: wires.upgraded.clone(),
            buffers,
            disconnector,
            throttle: Throttle::default(),
            max_payload: usize::try_from(options.max_payload).unwrap_or(usize::MAX),
            client_buffer,
        };
        let acceptor = Acceptor {
            tls,
            front,
            inspection: admin.is_none().then(|| inspection.clone()),
            slots: ConnectionSlots::default(),
            wires,
            descriptors,
            closing: closing.clone(),
            abort_all: abort_all.clone(),
            open: open.clone(),
        };
        let is_secure = acceptor.tls.is_some();
        let accepting = tokio::spawn(accept::serve(listener, Arc::new(acceptor)));
        let admin_address = admin.as_ref().map(|(_, address)| *address);
        let admin = admin.map(|(listener, _)| {
            let closing = closing.clone();
            AbortOnDropHandle::new(tokio::spawn(async move {
                match pages {
                    Some(pages) => serve_pages(listener, inspection.merge(pages), closing).await,
                    None => accept::serve_admin(listener, inspection, closing).await,
                }
            }))
        });
        let rest = [
            polling_disconnector.start(sessions.clone()),
            measure_loopback(cluster, loopback),
            start_upkeep(metrics, traffic),
            namespace_gc::start(shared_io.clone(), &options.namespaces),
        ];
        Ok(Self {
            address,
            admin_address,
            is_secure,
            path,
            grace: options.grace,
            io: io_owner,
            sessions,
            runtime: Handle::current(),
            adapter,
            closing,
            _abort_all: abort_all.drop_guard(),
            open,
            accepting: AbortOnDropHandle::new(accepting),
            admin,
            admin_ui,
            relaying: AbortOnDropHandle::new(relaying),
            reloader,
            _rest: rest,
            _expiring: expiring,
            _watching: watching,
        })
    }
}

fn checked_client_buffer(bytes: u64) -> Result<usize> {
    if bytes < MIN_CLIENT_BUFFER {
        let reason = format!("{bytes} bytes are too few: the minimum is {MIN_CLIENT_BUFFER}");
        return Err(Error::Setting { setting: "client_buffer".into(), reason });
    }
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX).min(u32::MAX as usize))
}

pub(super) fn checked_path(path: &str) -> Result<String> {
    let trimmed = path.trim_end_matches('/');
    let is_path = trimmed.starts_with('/')
        && trimmed
            .parse::<http::uri::PathAndQuery>()
            .is_ok_and(|p| p.as_str() == trimmed && p.query().is_none());
    let is_taken = INSPECTION_PATHS.contains(&trimmed);
    if is_path && !is_taken {
        return Ok(trimmed.to_owned());
    }
    let reason = match is_taken {
        true => format!("{path:?} is reserved for the server"),
        false => format!("{path:?} is not a path such as /socket.io"),
    };
    Err(Error::Setting { setting: "path".into(), reason })
}

/// Binds an address; returns it with the port that the system chose for port 0.
pub(crate) async fn listen(address: &str) -> Result<(TcpListener, SocketAddr)> {
    let failed =
        |error: std::io::Error| Error::Listen { address: address.into(), reason: without_os_code(&error) };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn builder(
    options: &ServerOptions,
    path: String,
    client_buffer: usize,
    adapter: PostgresAdapterCtr,
) -> SocketIoBuilder<ClusterAdapter> {
    let bytes = usize::try_from(options.max_payload).unwrap_or(usize::MAX);
    let builder = SocketIo::builder()
        .req_path(path)
        .ping_interval(options.ping_interval)
        .ping_timeout(options.ping_timeout)
        .max_payload(options.max_payload)
        .ws_read_buffer_size(READ_BUFFER)
        .ws_max_message_size(bytes)
        .ws_max_frame_size(bytes)
        .max_buffer_size(client_buffers::queue_places(client_buffer))
        .connect_timeout(options.connect_timeout)
        .with_adapter::<ClusterAdapter>(adapter);
    let builder = match options.transports {
        Transports::Both => builder,
        Transports::Websocket => builder.transports([TransportType::Websocket]),
        Transports::Polling => builder.transports([TransportType::Polling]),
    };
    match options.parser {
        Parser::Default => builder.with_parser(ParserConfig::common().max_incoming_binary_buf_size(bytes)),
        Parser::Msgpack => builder.with_parser(ParserConfig::msgpack()),
    }
}

/// Hosts the namespaces. Names that match no pattern have a handler as well, which refuses them: socketioxide would
/// answer any number of requests, with names of any length.
async fn host(io: &ClusterIo, hosted: &[Hosted], control: &Arc<AdmissionControl>) -> Result<()> {
    let patterns = Arc::new(HostedPatterns::new(hosted)?);
    for nsp in hosted.iter().filter_map(Hosted::name) {
        io.ns(nsp.to_string(), admission::handler(control.clone(), |_| true)).await?;
    }
    for route in patterns::ROUTES {
        let patterns = patterns.clone();
        let handler = admission::handler(control.clone(), move |nsp| patterns.contain(nsp));
        io.dyn_ns(route, handler).map_err(|error| Error::Setting {
            setting: "namespaces".into(),
            reason: format!("{route:?} cannot be routed: {error}"),
        })?;
    }
    Ok(())
}

fn measure_loopback(cluster: Cluster, loopback: LoopbackHealth) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Err(error) = loopback::measure(cluster.clone(), &loopback).await {
            tracing::debug!(%error, "the loopback probe failed");
            sleep(UPKEEP).await;
        }
    }))
}

fn start_upkeep(metrics: Metrics, traffic: Arc<Traffic>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = interval(UPKEEP);
        loop {
            ticks.tick().await;
            traffic.publish();
            metrics.run_upkeep();
        }
    }))
}
