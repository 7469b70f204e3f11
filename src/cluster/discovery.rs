//! Discovery: which namespaces the pgio nodes of a cluster serve.
//!
//! An observer asks on the discovery channel, which every process with pgio nodes listens to, and each of them answers
//! there with its namespaces. No Node server listens to it, and nothing is sent unless an observer asks.
//!
//! Question and answer have the form of a server-side event and its response, from the emitter, which no node counts.

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

/// The event of a question.
const QUESTION: &str = "namespaces";

/// The keys of an answer: some namespaces of a process, and whether it has more than it says.
const NAMESPACES: &str = "namespaces";
const IS_CUT: &str = "isCut";

/// How many bytes the names of one answer may take, so that it fits into a notification when each is escaped.
const ANSWER_BYTES: usize = 1200;

/// How many answers a process gives to a question.
const MAX_ANSWERS: usize = 500;

/// How many namespaces are taken in of all answers.
#[cfg(feature = "cli")]
const MAX_NAMESPACES: usize = 100_000;

/// How long the answers may take, and how long none may come after the question was heard or an answer.
#[cfg(feature = "cli")]
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
#[cfg(feature = "cli")]
const QUIET: Duration = Duration::from_millis(300);

/// What the pgio nodes answered.
#[cfg(feature = "cli")]
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    /// Their namespaces.
    pub(crate) namespaces: BTreeSet<Namespace>,
    /// Whether there are more than they said.
    pub(crate) is_cut: bool,
}

impl Cluster {
    /// Listens on the discovery channel to the questions or to the answers.
    async fn listen_for(&self, kinds: &'static [MessageKind]) -> Result<Subscription> {
        let channel = Channel::discovery(&self.options().channel_prefix)?;
        let wants = |header: Option<&Header>| {
            header.is_some_and(|header| header.uid.is_emitter() && kinds.contains(&header.kind))
        };
        self.subscribe_to(vec![channel], wants).await
    }

    async fn publish_discovery(&self, body: Body) -> Result<()> {
        let channel = Channel::discovery(&self.options().channel_prefix)?;
        let message = Message { uid: Uid::emitter(), nsp: Namespace::default(), body };
        // Whatever the threshold is: answers are cut so that they need no attachment table.
        let encoded = message.encode(usize::MAX)?;
        self.0.publisher.enqueue(channel, encoded, false).await?.await
    }

    /// Listens to the questions of observers.
    pub(crate) async fn listen_for_questions(&self) -> Result<Questions> {
        Ok(Questions(self.listen_for(&[MessageKind::ServerSideEmit]).await?))
    }

    /// Answers with the namespaces of this process.
    pub(crate) async fn answer_question(&self, request: RequestId, namespaces: &[Namespace]) -> Result<()> {
        for answer in answers(namespaces) {
            let request_id = request.clone();
            self.publish_discovery(Body::ServerSideEmitResponse { request_id, answer }).await?;
        }
        Ok(())
    }

    /// Asks the pgio nodes for their namespaces. Returns what they answer within two seconds.
    ///
    /// # Errors
    /// Those of [`subscribe`](Self::subscribe) and [`publish`](Self::publish).
    #[cfg(feature = "cli")]
    pub(crate) async fn discover(&self) -> Result<Discovered> {
        let kinds = &[MessageKind::ServerSideEmit, MessageKind::ServerSideEmitResponse];
        let mut heard = self.listen_for(kinds).await?;
        let asked = RequestId::random();
        let event = EventArgs::new(QUESTION, []);
        self.publish_discovery(Body::ServerSideEmit { event, request_id: Some(asked.clone()) }).await?;
        let mut discovered = Discovered::default();
        let end = Instant::now() + ANSWERS_WITHIN;
        // Until the question has come back, nobody else may have it.
        let mut until = end;
        while let Ok(Some(event)) = timeout_at(until.min(end), heard.next()).await {
            let Event::Message(received) = event else { continue };
            match body(&received) {
                Some(Body::ServerSideEmit { request_id: Some(id), .. }) if *id == asked => {}
                Some(Body::ServerSideEmitResponse { request_id, answer }) if *request_id == asked => {
                    discovered.take(answer);
                }
                _ => continue,
            }
            until = Instant::now() + QUIET;
        }
        Ok(discovered)
    }
}

/// The questions of observers.
pub(crate) struct Questions(Subscription);

impl Questions {
    /// The next question; `None` once the cluster's handle is gone.
    pub(crate) async fn next(&mut self) -> Option<RequestId> {
        loop {
            let Event::Message(received) = self.0.next().await? else { continue };
            if let Some(Body::ServerSideEmit { event, request_id: Some(id) }) = body(&received)
                && event.event().is_ok_and(|name| name == QUESTION)
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

/// The answers of a process. One without a namespace is silent.
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
    let is_cut = parts.len() > MAX_ANSWERS;
    let answer = |(_, names): (usize, Vec<Value>)| {
        let entries = [(NAMESPACES, Value::Array(names)), (IS_CUT, Value::from(is_cut))];
        Value::Object(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    };
    parts.into_iter().take(MAX_ANSWERS).map(answer).collect()
}

#[cfg(feature = "cli")]
impl Discovered {
    fn take(&mut self, answer: &Value) {
        self.is_cut |= answer.get(IS_CUT) == Some(&Value::from(true));
        let Some(Value::Array(names)) = answer.get(NAMESPACES) else { return };
        for name in names.iter().filter_map(Value::as_str).filter(|name| name.starts_with('/')) {
            match self.namespaces.len() < MAX_NAMESPACES {
                true => self.namespaces.insert(Namespace::new(name)),
                false => {
                    self.is_cut = true;
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
        for (count, is_cut) in [(0, false), (1, false), (1000, false), (20_000, true)] {
            let namespaces: Vec<_> = (0..count).map(name).collect();
            let mut discovered = Discovered::default();
            for answer in answers(&namespaces) {
                discovered.take(&answer);
                let body = Body::ServerSideEmitResponse { request_id: RequestId::random(), answer };
                let message = Message::new(Uid::emitter(), "/", body);
                assert!(matches!(message.encode(usize::MAX), Ok(crate::protocol::Encoded::Inline(_))));
            }
            assert_eq!(discovered.is_cut, is_cut, "{count}");
            assert!(is_cut || discovered.namespaces.len() == count, "{count}");
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
