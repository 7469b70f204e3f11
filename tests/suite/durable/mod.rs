//! Durable events: a pgio node, a tail or a subscription gets missed events afterwards.

mod listeners;
mod replay;
mod stream;

use std::time::Duration;

use pgio::cluster::{Cluster, Content, Event, Received, Subscription};
use pgio::protocol::{Body, Encoded, EventArgs, Header, Message, MessageKind, Uid};
use pgio::{AdapterOptions, Namespace, Settings, Value};
use tokio::time::timeout;

/// The deadline of every wait.
const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(url: &str) -> Cluster {
    connect_with(url, AdapterOptions::default()).await
}

async fn connect_with(url: &str, options: AdapterOptions) -> Cluster {
    Cluster::connect(Settings::parse(url).unwrap(), options).await.unwrap()
}

fn is_broadcast(header: Option<&Header>) -> bool {
    header.is_none_or(|header| header.kind == MessageKind::Broadcast)
}

/// A reader of the broadcasts of a namespace.
struct Heard(Subscription);

impl Heard {
    async fn of(cluster: &Cluster, nsp: &str) -> Heard {
        Heard(cluster.subscribe([nsp], is_broadcast).await.unwrap())
    }

    /// The next message.
    async fn message(&mut self) -> std::sync::Arc<Received> {
        let next = async {
            loop {
                match self.0.next().await.expect("the cluster is there") {
                    Event::Message(received) => return received,
                    other => println!("{other:?}"),
                }
            }
        };
        timeout(PATIENCE, next).await.expect("a message comes in time")
    }

    /// Waits until the connection is lost.
    async fn lost(&mut self) {
        let lost = async { while !matches!(self.0.next().await, Some(Event::Lost(_))) {} };
        timeout(PATIENCE, lost).await.expect("the loss is noticed in time");
    }

    /// The names of the next events, up to the last of them.
    async fn until(&mut self, last: &str) -> Vec<String> {
        let mut names = Vec::new();
        while names.last().is_none_or(|name| name != last) {
            names.push(name_of(&*self.message().await));
        }
        names
    }
}

fn name_of(received: &Received) -> String {
    match &received.content {
        Content::Message(Message { body: Body::Broadcast { event, .. }, .. }) => {
            event.event().unwrap().into_owned()
        }
        other => panic!("{other:?}"),
    }
}

/// The document of a durable event, as in its row.
fn document(event: &str, nsp: &str, prefix: &str, payload: &str) -> Vec<u8> {
    let event = EventArgs::new(event, [Value::from(payload)]);
    let body = Body::Broadcast { opts: Default::default(), event, request_id: None };
    let channel = Namespace::new(nsp).channel(prefix).unwrap();
    match Message::new(Uid::emitter(), nsp, body).encode_durable(&channel).unwrap() {
        Encoded::Attachment { document, .. } => document,
        Encoded::Inline(text) => panic!("{text}"),
    }
}

/// Inserts a row and names it in a notification, as every sender does.
const SEND: &str = "WITH row AS (INSERT INTO socket_io_attachments (payload) VALUES ($1) RETURNING id) \
    SELECT pg_notify($2, '{\"uid\":\"emitter\",\"type\":3,\"attachmentId\":\"' || id || '\"}') FROM row";
