//! A prepared broadcast: many events to the same sockets.

use super::BroadcastOperator;
use crate::Result;
use crate::protocol::{BroadcastTemplate, Channel, Encoded, EventArgs, EventText, check_client_event};

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
    pub(crate) fn encode_text(&self, event: EventText<'_>, spare: String) -> Result<(Channel, Encoded)> {
        let threshold = self.operator.cluster.options().payload_threshold;
        let template = self.template.as_ref();
        match template.and_then(|template| template.inline(event, threshold, spare)) {
            Some(encoded) => {
                check_client_event(event.name)?;
                Ok((self.channel.clone(), encoded))
            }
            None => self.encode(event.to_args()?),
        }
    }

    /// The same for an event that is not text.
    ///
    /// # Errors
    /// Those of [`BroadcastOperator::enqueue`].
    pub(crate) fn encode(&self, event: EventArgs) -> Result<(Channel, Encoded)> {
        self.operator.encode(event)
    }
}
