//! The acknowledgements of a broadcast, as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, FusedStream, Stream};
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use serde::de::DeserializeOwned;
use socketioxide_core::adapter::AckStreamItem;
use tokio::time::{Instant, timeout, timeout_at};

use super::Sid;
use super::convert::Format;
use super::node::Node;
use crate::cluster::{PendingRequest, client_ack};
use crate::protocol::{Body, BroadcastOptions, EventArgs, Value};
use crate::{Error, Result};

/// How long to wait for the question to be published before the stream is handed out, so that other servers are asked
/// even if the stream is never read. Beyond that the stream goes on with it.
const HEAD_START: Duration = Duration::from_millis(100);

/// How long a request may take beyond its deadline.
const SLACK: Duration = Duration::from_secs(1);

/// How many missing acknowledgements are told at most: a server may promise any number.
const MAX_MISSING: u64 = 100_000;

/// A client did not acknowledge in time, in the form in which `socketioxide::AckError` is serialized.
const TIMEOUT: &str = r#""Timeout""#;

/// Other servers could not be asked.
const NOT_ASKED: &str = r#"{"Socket":"Closed"}"#;

/// An acknowledgement and the socket it is from, or the error that takes its place.
type AckItem<A> = AckStreamItem<A>;

/// The acknowledgements of all clients. Those of clients of other servers carry no socket id in the protocol of the
/// cluster, so each comes with [`Sid::ZERO`].
///
/// The stream ends when every live server has sent all its clients' answers, or the time is over. Then one error
/// comes for each client that did not acknowledge, and one for each server that did not even say how many clients it
/// has.
pub struct Acks<A> {
    items: BoxStream<'static, AckItem<A>>,
    ended: bool,
}

/// A broadcast that other servers are to pass on to their clients.
pub(super) struct RemoteBroadcast {
    pub(super) node: Arc<Node>,
    pub(super) event: EventArgs,
    pub(super) opts: BroadcastOptions,
    pub(super) wait: Duration,
    pub(super) format: Format,
}

/// A question, and what it takes to read the answers.
struct AckRequest {
    node: Arc<Node>,
    format: Format,
    deadline: Instant,
}

enum State {
    Unasked(BoxFuture<'static, Result<PendingRequest<Value>>>),
    Asked(Result<Box<PendingRequest<Value>>>),
    Missing(u64, &'static str),
}

impl<A: DeserializeOwned + Send + 'static> Acks<A> {
    /// Those of clients of this server alone.
    pub(super) fn of_here(local: impl FusedStream<Item = AckItem<A>> + Send + 'static) -> Self {
        Self { ended: local.is_terminated(), items: local.boxed() }
    }

    /// Those of clients of this server, who have been asked, and of the others, who are asked now. Whatever goes
    /// wrong with the latter is an item of the stream.
    pub(super) async fn of_all(
        local: impl FusedStream<Item = AckItem<A>> + Send + 'static,
        broadcast: RemoteBroadcast,
    ) -> Self {
        let RemoteBroadcast { node, event, mut opts, wait, format } = broadcast;
        opts.flags.timeout = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let deadline = Instant::now() + wait;
        let question = AckRequest { node: node.clone(), format, deadline };
        let mut asking = async move {
            let body = |id| Body::Broadcast { opts, event, request_id: Some(id) };
            let asked = timeout_at(deadline, node.request(wait, body, client_ack)).await;
            asked.unwrap_or_else(|_| {
                Err(Error::ConnectionLost("cannot send the acknowledgement request in time".into()))
            })
        }
        .boxed();
        let state = match timeout(HEAD_START, &mut asking).await {
            Ok(asked) => State::Asked(asked.map(Box::new)),
            Err(_) => State::Unasked(asking),
        };
        let remote = stream::unfold((question, state), |(question, state)| question.next(state));
        Self { items: stream::select(local, remote).boxed(), ended: false }
    }
}

impl AckRequest {
    async fn next<A: DeserializeOwned>(self, mut state: State) -> Option<(AckItem<A>, (Self, State))> {
        loop {
            state = match state {
                State::Unasked(asking) => State::Asked(asking.await.map(Box::new)),
                State::Asked(Err(error)) => {
                    self.node.report(&error, "cannot request acknowledgements from clients of other servers");
                    State::Missing(1, NOT_ASKED)
                }
                State::Asked(Ok(mut asking)) => match self.answer(&mut asking).await {
                    Ok(Some(Ok(value))) => {
                        return Some(((Sid::ZERO, Ok(value)), (self, State::Asked(Ok(asking)))));
                    }
                    Ok(Some(Err(error))) => {
                        self.node.report(&error, "cannot convert an acknowledgement");
                        State::Asked(Ok(asking))
                    }
                    Ok(None) => State::Missing(asking.missing().min(MAX_MISSING), TIMEOUT),
                    Err(error) => State::Asked(Err(error)),
                },
                State::Missing(0, _) => return None,
                State::Missing(left, error) => match serde_json::from_str(error) {
                    Ok(error_of_emitter) => {
                        let item = (Sid::ZERO, Err(error_of_emitter));
                        return Some((item, (self, State::Missing(left - 1, error))));
                    }
                    // An emitter of another crate than socketioxide, with errors of its own.
                    Err(_) => return None,
                },
            };
        }
    }

    /// The next answer; `None` once there are no more.
    async fn answer(
        &self,
        asking: &mut PendingRequest<Value>,
    ) -> Result<Option<Result<socketioxide_core::Value>>> {
        // A request ends by its own deadline, and tells then how many answers are missing.
        let answer = timeout_at(self.deadline + SLACK, asking.next()).await;
        let answer = answer
            .unwrap_or_else(|_| Err(Error::ConnectionLost("the request missed its deadline".into())))?;
        Ok(answer.map(|answer| self.format.value_of_one(&answer.value)))
    }
}

impl<A> Stream for Acks<A> {
    type Item = AckItem<A>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = self.items.poll_next_unpin(context);
        self.ended = matches!(next, Poll::Ready(None));
        next
    }
}

impl<A> FusedStream for Acks<A> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}
