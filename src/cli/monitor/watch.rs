//! The observer behind the pages: it runs always, or on demand.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::{interval, timeout};

use crate::cli::exit::Failure;
use crate::cli::namespaces::Newcomers;
use crate::cli::observer::{Observer, Shared, Watched};
use crate::postgres::Settings;
use crate::{Cluster, Namespace};

/// The time for which the observer runs after the last request, so that the page can show ten minutes.
const RESTS_AFTER: Duration = Duration::from_secs(600);

/// The interval between two checks whether the observer is still needed.
const LOOK: Duration = Duration::from_secs(30);

/// The deadline for the start of an observer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The observer behind the pages.
pub(super) enum Watch {
    /// An observer that runs as long as the process.
    Always(Arc<Shared>),
    /// An observer that starts with the first request.
    OnDemand(Arc<OnDemand>),
}

impl Watch {
    /// The state of the observer. Starts the observer if it is not running.
    pub(super) async fn shared(&self) -> Result<Arc<Shared>, Failure> {
        match self {
            Self::Always(shared) => Ok(shared.clone()),
            Self::OnDemand(on_demand) => on_demand.shared().await,
        }
    }
}

/// An observer that runs only while requests arrive, since it requests the sockets of the servers, which costs traffic.
pub(super) struct OnDemand {
    cluster: Cluster,
    settings: Settings,
    namespaces: Vec<Namespace>,
    observer: Mutex<Option<Observer>>,
    last: std::sync::Mutex<Instant>,
}

impl OnDemand {
    pub(super) fn new(cluster: Cluster, settings: Settings, namespaces: Vec<Namespace>) -> Self {
        let last = std::sync::Mutex::new(Instant::now());
        Self { cluster, settings, namespaces, observer: Mutex::default(), last }
    }

    async fn shared(&self) -> Result<Arc<Shared>, Failure> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let mut observer = self.observer.lock().await;
        if observer.as_mut().is_some_and(Observer::has_failed) {
            *observer = None;
        }
        if let Some(running) = &*observer {
            return Ok(running.shared.clone());
        }
        let (namespaces, newcomers) = (self.namespaces.clone(), Newcomers::none());
        let watched = Watched { namespaces, newcomers, sockets: true, fails_without_loopback: false };
        let starting = Observer::start(&self.cluster, self.settings.clone(), watched);
        let started = timeout(PATIENCE, starting).await.map_err(|_| {
            Failure::Other(format!("no answer from Postgres within {} s", PATIENCE.as_secs()))
        })??;
        Ok(observer.insert(started).shared.clone())
    }

    /// Stops the observer after an idle time without requests. Never returns.
    pub(super) async fn rest(&self) {
        let mut ticks = interval(LOOK);
        loop {
            ticks.tick().await;
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() > RESTS_AFTER {
                *self.observer.lock().await = None;
            }
        }
    }
}
