//! The messages between the servers of a cluster, live. A subscriber is no member of the cluster, and disturbs none.
//!
//! `DATABASE_URL=postgres://… cargo run --example subscribe`

use pgio::cluster::{Content, Event};
use pgio::protocol::{Body, MessageKind};
use pgio::{AdapterOptions, Cluster, Namespace, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::parse(&std::env::var("DATABASE_URL")?)?;
    let cluster = Cluster::connect(settings, AdapterOptions::default()).await?;

    // The closure sees the header of each message before anything else of it is read; what it does not want costs
    // little, and its attachment is not looked up.
    let namespaces = [Namespace::default(), Namespace::new("admin")];
    let mut events = cluster
        .subscribe(&namespaces, |header| header.is_some_and(|header| header.kind == MessageKind::Broadcast))
        .await?;

    while let Some(event) = events.next().await {
        match event {
            Event::Message(received) => match &received.content {
                Content::Message(message) => {
                    if let Body::Broadcast { event, opts, .. } = &message.body {
                        let (name, args) = event.clone().into_parts()?;
                        println!("{} {name} {args:?} to {:?}", message.nsp, opts.rooms);
                    }
                }
                Content::Missing(header) => println!("{}: its attachment is missing", header.nsp),
                Content::Unreadable(_, error) => println!("{error}"),
                _ => {}
            },
            // The subscription reconnects by itself. Messages of the gap are missing, except durable events.
            Event::Lost(error) => println!("{error}"),
            Event::Restored(after) => println!("reconnected after {after:.1?}"),
            // Messages are late, and none is missing.
            Event::Stalled => println!("Postgres does not answer"),
            Event::Resumed(after) => println!("Postgres answers again after {after:.1?}"),
            Event::Missed(count) => println!("too slow: {count} messages missed"),
            _ => {}
        }
    }
    Ok(())
}
