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

/// How long to wait for the publication of the request before the stream is returned, so that other servers get the request
/// even if the stream is never read. After that the stream itself waits for it.
const PUBLISH_WAIT: Duration = Duration::from_millis(100);

/// How long a request may take beyond its deadline.
const GRACE: Duration = Duration::from_secs(1);

/// The maximum number of missing acknowledgements that are reported: a server may promise any number.
const MAX_MISSING: u64 = 100_000;

/// A client did not acknowledge in time, in the form in which `socketioxide::AckError` is serialized.
const TIMEOUT: &str = r#""Timeout""#;

/// The request could not be sent to other servers.
const NOT_REQUESTED: &str = r#"{"Socket":"Closed"}"#;

/// An acknowledgement and the socket it is from, or the error that takes its place.
type AckItem<A> = AckStreamItem<A>;

/// The acknowledgements of all clients. The protocol of the cluster has no socket id for an acknowledgement of a client of
/// another server, so it comes with [`Sid::ZERO`].
///
/// The stream ends when every live server has sent all its clients' answers, or after the timeout. Then it yields one error
/// for each client that did not acknowledge, and one for each server that did not send its number of clients.
pub struct Acks<A> {
    items: BoxStream<'static, AckItem<A>>,
    ended: bool,
}

/// A broadcast for the clients of other servers.
pub(super) struct RemoteBroadcast {
    pub(super) node: Arc<Node>,
    pub(super) event: EventArgs,
    pub(super) opts: BroadcastOptions,
    pub(super) wait: Duration,
    pub(super) format: Format,
}

/// The context of a request for acknowledgements.
struct AckRequest {
    node: Arc<Node>,
    format: Format,
    deadline: Instant,
}

enum State {
    Publishing(BoxFuture<'static, Result<PendingRequest<Value>>>),
    Published(Result<Box<PendingRequest<Value>>>),
    Missing(u64, &'static str),
}

impl<A: DeserializeOwned + Send + 'static> Acks<A> {
    /// Only the acknowledgements of clients of this server.
    pub(super) fn of_local_clients(local: impl FusedStream<Item = AckItem<A>> + Send + 'static) -> Self {
        Self { ended: local.is_terminated(), items: local.boxed() }
    }

    /// The acknowledgements of clients of this server, which have already got the event, and of other servers, which get it
    /// now. An error of the latter is an item of the stream.
    pub(super) async fn of_all_clients(
        local: impl FusedStream<Item = AckItem<A>> + Send + 'static,
        broadcast: RemoteBroadcast,
    ) -> Self {
        let RemoteBroadcast { node, event, mut opts, wait, format } = broadcast;
        opts.flags.timeout = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let deadline = Instant::now() + wait;
        let request = AckRequest { node: node.clone(), format, deadline };
        let mut pending = async move {
            let body = |id| Body::Broadcast { opts, event, request_id: Some(id) };
            let outcome = timeout_at(deadline, node.request(wait, body, client_ack)).await;
            outcome.unwrap_or_else(|_| {
                Err(Error::ConnectionLost("cannot send the acknowledgement request in time".into()))
            })
        }
        .boxed();
        let state = match timeout(PUBLISH_WAIT, &mut pending).await {
            Ok(outcome) => State::Published(outcome.map(Box::new)),
            Err(_) => State::Publishing(pending),
        };
        let remote = stream::unfold((request, state), |(request, state)| request.next(state));
        Self { items: stream::select(local, remote).boxed(), ended: false }
    }
}

impl AckRequest {
    async fn next<A: DeserializeOwned>(self, mut state: State) -> Option<(AckItem<A>, (Self, State))> {
        loop {
            state = match state {
                State::Publishing(pending) => State::Published(pending.await.map(Box::new)),
                State::Published(Err(error)) => {
                    self.node.report(&error, "cannot request acknowledgements from clients of other servers");
                    State::Missing(1, NOT_REQUESTED)
                }
                State::Published(Ok(mut pending)) => match self.answer(&mut pending).await {
                    Ok(Some(Ok(value))) => {
                        return Some(((Sid::ZERO, Ok(value)), (self, State::Published(Ok(pending)))));
                    }
                    Ok(Some(Err(error))) => {
                        self.node.report(&error, "cannot convert an acknowledgement");
                        State::Published(Ok(pending))
                    }
                    Ok(None) => State::Missing(pending.missing().min(MAX_MISSING), TIMEOUT),
                    Err(error) => State::Published(Err(error)),
                },
                State::Missing(0, _) => return None,
                State::Missing(left, error) => match serde_json::from_str(error) {
                    Ok(error_of_emitter) => {
                        let item = (Sid::ZERO, Err(error_of_emitter));
                        return Some((item, (self, State::Missing(left - 1, error))));
                    }
                    // The emitter is not socketioxide's, and has other errors.
                    Err(_) => return None,
                },
            };
        }
    }

    /// The next answer; `None` after the last one.
    async fn answer(
        &self,
        pending: &mut PendingRequest<Value>,
    ) -> Result<Option<Result<socketioxide_core::Value>>> {
        // The request ends at its own deadline, and then reports the number of missing answers.
        let answer = timeout_at(self.deadline + GRACE, pending.next()).await;
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
