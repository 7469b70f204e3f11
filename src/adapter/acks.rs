//! Acknowledgements of other servers' clients, as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, FusedStream, Stream};

use super::convert::Format;
use super::node::Node;
use super::{AckItem, Sid};
use crate::Result;
use crate::cluster::client_said;
use crate::protocol::{Body, BroadcastOptions, EventArgs};

/// The acknowledgements of clients of other servers. They carry no socket id in the protocol of the cluster, so each comes
/// with [`Sid::ZERO`]. The stream ends when every live server has sent all its clients' answers, or the time is over.
pub struct RemoteAcks<A> {
    items: BoxStream<'static, AckItem<A>>,
    ended: bool,
}

impl<A: Send + 'static> RemoteAcks<A> {
    pub(super) fn none() -> Self {
        Self { items: stream::empty().boxed(), ended: true }
    }

    pub(super) async fn ask(
        node: &Arc<Node>,
        event: EventArgs,
        mut opts: BroadcastOptions,
        wait: Duration,
        format: Format,
    ) -> Result<Self> {
        opts.flags.timeout = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let body = |id| Body::Broadcast { opts, event, request_id: Some(id) };
        let asking = node.ask(wait, body, client_said).await?;
        let items = stream::unfold((asking, node.clone()), move |(mut asking, node)| async move {
            loop {
                let answer = match asking.next().await {
                    Ok(answer) => answer?,
                    Err(error) => {
                        node.report(&error, "acknowledgements of other servers are missing");
                        return None;
                    }
                };
                match format.value_of_one(&answer.value) {
                    Ok(value) => return Some(((Sid::ZERO, Ok(value)), (asking, node))),
                    Err(error) => node.report(&error, "an acknowledgement that cannot be passed on"),
                }
            }
        });
        Ok(Self { items: items.boxed(), ended: false })
    }
}

impl<A> Stream for RemoteAcks<A> {
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

impl<A> FusedStream for RemoteAcks<A> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}
