//! A prepared broadcast: many events to the same sockets.

use super::BroadcastOperator;
use crate::protocol::{BroadcastTemplate, Channel, EventArgs, check_client_event};
use crate::{Receipt, Result};

/// A broadcast to fixed sockets, for many events. The common part of the messages is encoded once.
pub(crate) struct PreparedBroadcast {
    pub(super) operator: BroadcastOperator,
    pub(super) channel: Channel,
    /// `None` for durable events, which go through the attachment table.
    pub(super) template: Option<BroadcastTemplate>,
}

impl PreparedBroadcast {
    /// Queues an event, as [`BroadcastOperator::enqueue`] does.
    ///
    /// # Errors
    /// Those of [`BroadcastOperator::enqueue`].
    pub(crate) async fn enqueue(&self, event: EventArgs) -> Result<Receipt> {
        let cluster = &self.operator.cluster;
        let text = self.template.as_ref().zip(event.as_json());
        match text.and_then(|(template, event)| template.inline(event, cluster.options().payload_threshold)) {
            Some(encoded) => {
                check_client_event(&event.event()?)?;
                cluster.enqueue_encoded(self.channel.clone(), encoded).await
            }
            None => self.operator.enqueue_event(event).await,
        }
    }
}
