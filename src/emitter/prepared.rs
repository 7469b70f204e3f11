//! A prepared broadcast: many events to the same sockets.

use super::BroadcastOperator;
use crate::Result;
use crate::protocol::{BroadcastTemplate, Channel, Encoded, EventArgs, check_client_event};

/// A broadcast to fixed sockets, for many events. The common part of the messages is encoded once.
pub(crate) struct PreparedBroadcast {
    pub(super) operator: BroadcastOperator,
    pub(super) channel: Channel,
    /// `None` for durable events, which go through the attachment table.
    pub(super) template: Option<BroadcastTemplate>,
}

impl PreparedBroadcast {
    /// Encodes an event, for its channel. Its text may use the memory of `spare`.
    ///
    /// # Errors
    /// Those of [`BroadcastOperator::enqueue`].
    pub(crate) fn encode(&self, event: EventArgs, spare: String) -> Result<(Channel, Encoded)> {
        let threshold = self.operator.cluster.options().payload_threshold;
        let text = self.template.as_ref().zip(event.as_json());
        match text.and_then(|(template, event)| template.inline(event, threshold, spare)) {
            Some(encoded) => {
                check_client_event(&event.event()?)?;
                Ok((self.channel.clone(), encoded))
            }
            None => self.operator.encode(event),
        }
    }
}
