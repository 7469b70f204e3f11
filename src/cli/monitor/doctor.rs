//! The findings of `pgio doctor`: examined on request, and cached.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::cli::doctor::findings;
use crate::postgres::Settings;
use crate::{AdapterOptions, Namespace};

/// The time for which findings are cached: for usual requests, and for requests of fresh findings.
const KEPT: Duration = Duration::from_secs(300);
const FRESH: Duration = Duration::from_secs(10);

/// The deadline of an examination.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs one examination at a time. Requests in the meantime wait for its findings.
pub(super) struct Doctor {
    settings: Settings,
    options: AdapterOptions,
    namespaces: Vec<Namespace>,
    last: Mutex<Option<(Instant, Value)>>,
}

impl Doctor {
    pub(super) fn new(settings: Settings, options: AdapterOptions, namespaces: Vec<Namespace>) -> Self {
        Self { settings, options, namespaces, last: Mutex::default() }
    }

    /// The findings and their age.
    pub(super) async fn findings(&self, is_fresh_wanted: bool) -> Value {
        let mut last = self.last.lock().await;
        let kept = if is_fresh_wanted { FRESH } else { KEPT };
        let (at, found) = match last.take().filter(|(at, _)| at.elapsed() < kept) {
            Some(known) => known,
            None => (Instant::now(), self.examine().await),
        };
        let answer = json!({ "ageSeconds": at.elapsed().as_secs(), "result": found });
        *last = Some((at, found));
        answer
    }

    async fn examine(&self) -> Value {
        let examination = findings(&self.settings, self.options.clone(), self.namespaces.clone());
        match timeout(PATIENCE, examination).await {
            Ok(Ok(findings)) => json!({ "findings": findings }),
            Ok(Err(failure)) => json!({ "error": failure.to_string() }),
            Err(_) => json!({ "error": format!("no answer within {} s", PATIENCE.as_secs()) }),
        }
    }
}
