//! Which servers speak as adapter 0.3 does, whose words newer ones drop.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};

use super::ask::DISCOVERY;
use super::{Cluster, Content, Event, Received};
use crate::Result;
use crate::protocol::{Body, Header, Message, MessageKind, Namespace, Uid};

/// What a server's messages look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// They do not say which namespace they are for, as those of 0.3.
    WithoutNamespace,
    /// They do, as from 0.4 on.
    WithNamespace,
}

impl Cluster {
    /// Makes the live servers of a namespace say something, as an emitter, whom nobody counts; in the order of their uids.
    ///
    /// # Errors
    /// Those of [`Cluster::subscribe`] and [`Cluster::publish`].
    pub(crate) async fn dialects(&self, nsp: &Namespace) -> Result<BTreeMap<Uid, Dialect>> {
        let wants = |header: Option<&Header>| header.is_some_and(|h| h.kind == MessageKind::Heartbeat);
        let mut heard = self.subscribe(std::slice::from_ref(nsp), wants).await?;
        self.publish_as_emitter(nsp, Body::InitialHeartbeat).await?;
        let deadline = Instant::now() + DISCOVERY;
        let mut dialects = BTreeMap::new();
        while let Ok(Some(event)) = timeout_at(deadline, heard.next()).await {
            if let Event::Message(received) = event
                && let Some((uid, dialect)) = dialect_of(&received)
            {
                dialects.insert(uid, dialect);
            }
        }
        Ok(dialects)
    }
}

/// Who says it, and how; nothing for an emitter, which is no server.
fn dialect_of(received: &Received) -> Option<(Uid, Dialect)> {
    #[derive(Deserialize)]
    struct Envelope {
        nsp: Option<IgnoredAny>,
    }
    let Content::Message(Message { uid, .. }) = &received.content else { return None };
    if uid.is_emitter() {
        return None;
    }
    let dialect = match serde_json::from_str(&received.text) {
        Ok(Envelope { nsp: Some(_) }) => Dialect::WithNamespace,
        _ => Dialect::WithoutNamespace,
    };
    Some((uid.clone(), dialect))
}
