//! Discovery: which namespaces the pgio nodes of a cluster serve.
//!
//! Every process with pgio nodes listens to the discovery channel. An observer publishes a request there, and each process
//! answers with its namespaces. No Node server listens to this channel, and without an observer nothing is sent.
//!
//! Request and answer have the form of a server-side event and its response. Their sender is the emitter, which no node
//! counts.

#[cfg(feature = "cli")]
use std::collections::BTreeSet;
#[cfg(feature = "cli")]
use std::time::Duration;

#[cfg(feature = "cli")]
use tokio::time::{Instant, timeout_at};

use super::{Cluster, Content, Event, Received, Subscription};
use crate::Result;
#[cfg(feature = "cli")]
use crate::protocol::EventArgs;
use crate::protocol::{Body, Channel, Header, Message, MessageKind, Namespace, RequestId, Uid, Value};

/// The event name of a request.
const REQUEST_EVENT: &str = "namespaces";

/// The keys of an answer: namespaces of a process, and whether it has more namespaces than it lists.
const NAMESPACES: &str = "namespaces";
const IS_TRUNCATED: &str = "isCut";

/// The maximum bytes of the names in one answer: it has to fit into a notification even if every byte is escaped.
const ANSWER_BYTES: usize = 1200;

/// The maximum number of answers of a process to one request.
const MAX_ANSWERS: usize = 500;

/// The maximum number of namespaces of all answers.
#[cfg(feature = "cli")]
const MAX_NAMESPACES: usize = 100_000;

/// The maximum time for all answers, and the maximum pause after the loopback of the request or after an answer.
#[cfg(feature = "cli")]
const MAX_WAIT: Duration = Duration::from_secs(2);
#[cfg(feature = "cli")]
const MAX_PAUSE: Duration = Duration::from_millis(300);

/// The answers of the pgio nodes.
#[cfg(feature = "cli")]
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    /// Their namespaces.
    pub(crate) namespaces: BTreeSet<Namespace>,
    /// Whether they have more namespaces than they listed.
    pub(crate) is_truncated: bool,
}

impl Cluster {
    /// Subscribes to the discovery channel.
    async fn listen_for(&self, kinds: &'static [MessageKind]) -> Result<Subscription> {
        let channel = Channel::discovery(&self.options().channel_prefix)?;
        let wants = |header: Option<&Header>| {
            header.is_some_and(|header| header.uid.is_emitter() && kinds.contains(&header.kind))
        };
        self.subscribe_to(vec![channel], wants, true).await
    }

    async fn publish_discovery(&self, body: Body) -> Result<()> {
        let channel = Channel::discovery(&self.options().channel_prefix)?;
        let message = Message { uid: Uid::emitter(), nsp: Namespace::default(), body };
        // Ignores the threshold: the answers are small enough to need no attachment table.
        let encoded = message.encode(usize::MAX)?;
        self.0.publisher.enqueue(channel, encoded, false).await?.await
    }

    /// Subscribes to the requests of observers.
    pub(crate) async fn discovery_requests(&self) -> Result<DiscoveryRequests> {
        Ok(DiscoveryRequests(self.listen_for(&[MessageKind::ServerSideEmit]).await?))
    }

    /// Answers with the namespaces of this process.
    pub(crate) async fn answer_discovery(&self, request: RequestId, namespaces: &[Namespace]) -> Result<()> {
        for answer in answers(namespaces) {
            let request_id = request.clone();
            self.publish_discovery(Body::ServerSideEmitResponse { request_id, answer }).await?;
        }
        Ok(())
    }

    /// Requests the namespaces of the pgio nodes. Returns their answers within two seconds.
    ///
    /// # Errors
    /// Those of [`subscribe`](Self::subscribe) and [`publish`](Self::publish).
    #[cfg(feature = "cli")]
    pub(crate) async fn discover(&self) -> Result<Discovered> {
        let kinds = &[MessageKind::ServerSideEmit, MessageKind::ServerSideEmitResponse];
        let mut subscription = self.listen_for(kinds).await?;
        let own_id = RequestId::random();
        let event = EventArgs::new(REQUEST_EVENT, []);
        self.publish_discovery(Body::ServerSideEmit { event, request_id: Some(own_id.clone()) }).await?;
        let mut discovered = Discovered::default();
        let end = Instant::now() + MAX_WAIT;
        // Before the loopback of the request, other processes may not have received it.
        let mut until = end;
        while let Ok(Some(event)) = timeout_at(until.min(end), subscription.next()).await {
            let Event::Message(received) = event else { continue };
            match body(&received) {
                Some(Body::ServerSideEmit { request_id: Some(id), .. }) if *id == own_id => {}
                Some(Body::ServerSideEmitResponse { request_id, answer }) if *request_id == own_id => {
                    discovered.take(answer);
                }
                _ => continue,
            }
            until = Instant::now() + MAX_PAUSE;
        }
        Ok(discovered)
    }
}

/// The requests of observers.
pub(crate) struct DiscoveryRequests(Subscription);

impl DiscoveryRequests {
    /// The next request; `None` after the cluster's handle is dropped.
    pub(crate) async fn next(&mut self) -> Option<RequestId> {
        loop {
            let Event::Message(received) = self.0.next().await? else { continue };
            if let Some(Body::ServerSideEmit { event, request_id: Some(id) }) = body(&received)
                && event.event().is_ok_and(|name| name == REQUEST_EVENT)
            {
                return Some(id.clone());
            }
        }
    }
}

fn body(received: &Received) -> Option<&Body> {
    match &received.content {
        Content::Message(message) => Some(&message.body),
        _ => None,
    }
}

/// The answers of a process; none without a namespace.
fn answers(namespaces: &[Namespace]) -> Vec<Value> {
    let mut parts: Vec<(usize, Vec<Value>)> = Vec::new();
    for nsp in namespaces {
        let bytes = nsp.as_str().len() + 3;
        let name = Value::from(nsp.as_str());
        match parts.last_mut() {
            Some((size, names)) if *size + bytes <= ANSWER_BYTES => {
                *size += bytes;
                names.push(name);
            }
            _ => parts.push((bytes, vec![name])),
        }
    }
    let is_truncated = parts.len() > MAX_ANSWERS;
    let answer = |(_, names): (usize, Vec<Value>)| {
        let entries = [(NAMESPACES, Value::Array(names)), (IS_TRUNCATED, Value::from(is_truncated))];
        Value::Object(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    };
    parts.into_iter().take(MAX_ANSWERS).map(answer).collect()
}

#[cfg(feature = "cli")]
impl Discovered {
    fn take(&mut self, answer: &Value) {
        self.is_truncated |= answer.get(IS_TRUNCATED) == Some(&Value::from(true));
        let Some(Value::Array(names)) = answer.get(NAMESPACES) else { return };
        for name in names.iter().filter_map(Value::as_str).filter(|name| name.starts_with('/')) {
            match self.namespaces.len() < MAX_NAMESPACES {
                true => self.namespaces.insert(Namespace::new(name)),
                false => {
                    self.is_truncated = true;
                    return;
                }
            };
        }
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn every_answer_fits_into_a_notification_and_all_names_arrive() {
        let name = |number: usize| Namespace::new(&format!("/\u{1}{number:050}"));
        for (count, is_truncated) in [(0, false), (1, false), (1000, false), (20_000, true)] {
            let namespaces: Vec<_> = (0..count).map(name).collect();
            let mut discovered = Discovered::default();
            for answer in answers(&namespaces) {
                discovered.take(&answer);
                let body = Body::ServerSideEmitResponse { request_id: RequestId::random(), answer };
                let message = Message::new(Uid::emitter(), "/", body);
                assert!(matches!(message.encode(usize::MAX), Ok(crate::protocol::Encoded::Inline(_))));
            }
            assert_eq!(discovered.is_truncated, is_truncated, "{count}");
            assert!(is_truncated || discovered.namespaces.len() == count, "{count}");
        }
    }

    #[test]
    fn nonsense_is_no_namespace() {
        let mut discovered = Discovered::default();
        let names = [Value::from(1), Value::from("x"), Value::from("/x")].to_vec();
        let object = |value| Value::Object([(NAMESPACES.into(), value)].into_iter().collect());
        [Value::Null, Value::from("/y"), object(Value::from("/y")), object(Value::Array(names))]
            .iter()
            .for_each(|answer| discovered.take(answer));
        assert_eq!(discovered.namespaces, BTreeSet::from([Namespace::new("/x")]));
    }
}
