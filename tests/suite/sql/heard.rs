//! The messages that a subscriber of the library receives, for tests without live servers.

use pgio::cluster::{Content, Event, Subscription};
use pgio::protocol::{Body, MessageKind};
use pgio::{AdapterOptions, Cluster, Settings, Value};
use serde_json::json;

/// A subscription to the main namespace.
pub struct Heard {
    _cluster: Cluster,
    events: Subscription,
}

/// A broadcast: the event with its arguments, and the rooms.
#[derive(Debug, Clone, PartialEq)]
pub struct Broadcast {
    pub event: String,
    pub args: serde_json::Value,
    pub rooms: Vec<String>,
    /// Whether it came through the attachment table.
    pub is_attached: bool,
}

impl Heard {
    pub async fn start(url: &str) -> Heard {
        Self::start_with(url, AdapterOptions::default()).await
    }

    pub async fn start_with(url: &str, options: AdapterOptions) -> Heard {
        let cluster = Cluster::connect(Settings::parse(url).unwrap(), options).await.unwrap();
        let is_broadcast =
            |header: Option<&pgio::protocol::Header>| header.is_none_or(|h| h.kind == MessageKind::Broadcast);
        let events = cluster.subscribe(["/"], is_broadcast).await.unwrap();
        Heard { _cluster: cluster, events }
    }

    pub async fn next(&mut self) -> Broadcast {
        let event = tokio::time::timeout(crate::support::node::PATIENCE, self.events.next()).await;
        let Some(Event::Message(received)) = event.expect("a message in time") else { panic!("a gap") };
        let Content::Message(message) = &received.content else { panic!("{received:?}") };
        let Body::Broadcast { opts, event, .. } = &message.body else { panic!("{message:?}") };
        let (event, args) = event.clone().into_parts().unwrap();
        Broadcast {
            event,
            args: json!(Value::Array(args)),
            rooms: opts.rooms.clone(),
            is_attached: received.attachment.is_some(),
        }
    }

    /// All broadcasts before the event `end`.
    pub async fn until_end(&mut self) -> Vec<Broadcast> {
        let mut heard = Vec::new();
        loop {
            match self.next().await {
                end if end.event == "end" => return heard,
                broadcast => heard.push(broadcast),
            }
        }
    }
}
