//! Finds the namespaces of a cluster, as far as an observer can find them.
//!
//! Postgres does not show to which channels another session listens. So there are three sources: the last statement of
//! each session, which in a Node server is the `LISTEN` of its latest namespace; the answers of pgio nodes on the
//! discovery channel; and the documents in the attachment table. A source that is not available is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::timeout;

use crate::cluster::Discovered;
use crate::postgres::Settings;
use crate::postgres::health::Examiner;
use crate::{Cluster, Error, Namespace, Result};

/// The timeout of each source.
const PATIENCE: Duration = Duration::from_secs(5);

/// The source of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Source {
    /// The last statement of a session.
    Sessions,
    /// The answer of a pgio node.
    Nodes,
    /// A row of the attachment table.
    Attachments,
}

impl Source {
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Nodes => "nodes",
            Self::Attachments => "attachments",
        }
    }
}

/// The found namespaces, with their sources.
#[derive(Debug, Default)]
pub(in crate::cli) struct Found {
    namespaces: BTreeMap<Namespace, BTreeSet<Source>>,
    is_truncated: bool,
}

impl Found {
    pub(in crate::cli) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.keys()
    }

    /// The sources of a namespace. `/` may have none, since it is added by default.
    pub(in crate::cli) fn sources(&self, nsp: &Namespace) -> impl Iterator<Item = Source> {
        self.namespaces.get(nsp).into_iter().flatten().copied()
    }

    /// Whether a node has more namespaces than its answer lists.
    pub(in crate::cli) fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    fn add(&mut self, nsp: Namespace, source: Source) {
        self.namespaces.entry(nsp).or_default().insert(source);
    }
}

/// Searches all sources for namespaces.
pub(in crate::cli) struct Finder {
    cluster: Cluster,
    examiner: Examiner,
}

impl Finder {
    pub(in crate::cli) async fn connect(settings: Settings, cluster: &Cluster) -> Result<Self> {
        let examiner = Examiner::connect(settings, cluster.options().table_name.clone()).await?;
        Ok(Self { cluster: cluster.clone(), examiner })
    }

    /// Searches once.
    ///
    /// # Errors
    /// Returns an error if the connection fails.
    pub(in crate::cli) async fn find(&self) -> Result<Found> {
        let mut found = Found::default();
        let prefix = &self.cluster.options().channel_prefix;
        let examine = async {
            // Both queries use one session, so they run one after the other.
            let listening = timeout(PATIENCE, self.examiner.listening()).await;
            let documents = timeout(PATIENCE, self.examiner.documents()).await;
            if listening.is_err() || documents.is_err() {
                self.examiner.abandon_session().await;
            }
            (listening, documents)
        };
        let ((listening, documents), discovered) =
            tokio::join!(examine, timeout(PATIENCE, self.cluster.discover()));
        let of_channel = |channel: &str| {
            let name = channel.strip_prefix(prefix.as_str())?.strip_prefix('#')?;
            name.starts_with('/').then(|| Namespace::new(name))
        };
        let listening = available(listening)?.unwrap_or_default();
        for nsp in listening.iter().filter_map(|listening| of_channel(&listening.channel)) {
            found.add(nsp, Source::Sessions);
        }
        let Discovered { namespaces, is_truncated } = available(discovered)?.unwrap_or_default();
        found.is_truncated = is_truncated;
        namespaces.into_iter().for_each(|nsp| found.add(nsp, Source::Nodes));
        for name in available(documents)?.unwrap_or_default().namespaces {
            found.add(Namespace::new(&name), Source::Attachments);
        }
        if !found.namespaces.is_empty() {
            found.namespaces.entry(Namespace::default()).or_default();
        }
        // Drops namespaces whose channel name Postgres does not accept.
        found.namespaces.retain(|nsp, _| nsp.channel(prefix).is_ok());
        Ok(found)
    }
}

/// The answer of a source, or `None` if the source is not available, such as a missing table. A lost connection is an
/// error.
fn available<T>(answer: std::result::Result<Result<T>, tokio::time::error::Elapsed>) -> Result<Option<T>> {
    match answer {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(error)) if error.is_disconnected() && !matches!(error, Error::NotificationsNotDelivered) => {
            Err(error)
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a source of namespaces is not available");
            Ok(None)
        }
        Err(_) => {
            tracing::debug!("a source of namespaces does not answer in time");
            Ok(None)
        }
    }
}
