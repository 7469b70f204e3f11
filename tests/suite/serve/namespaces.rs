//! Namespaces of a pattern: created by the first client, one object for each path, deleted after the last client.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use pgio::cluster::{Event, Subscription};
use pgio::protocol::{Header, MessageKind};
use pgio::{Emitter, Namespace};
use tokio::time::timeout;

use crate::support::frozen::freeze_sessions;
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::{own_server, postgres};
use crate::support::raw_websocket::RawWebsocket;

const PATIENCE: Duration = Duration::from_secs(60);

/// Connects to a namespace. Like Node's client it reconnects if the server closes the connection.
async fn connect(serve: &PgioServe, nsp: &str) -> RawWebsocket {
    loop {
        let mut socket = RawWebsocket::open(serve.address()).await;
        socket.send(&format!("40{nsp},")).await;
        if socket.hears(&format!("40{nsp},{{\"sid\"")).await {
            return socket;
        }
    }
}

fn is_life_cycle(header: Option<&Header>) -> bool {
    header.is_some_and(|h| matches!(h.kind, MessageKind::InitialHeartbeat | MessageKind::AdapterClose))
}

/// The next announcement or goodbye of a node: the channel of its namespace, its uid, and the kind.
async fn next_header(heard: &mut Subscription) -> (String, String, MessageKind) {
    loop {
        let event = timeout(PATIENCE, heard.next()).await.expect("a node says something").unwrap();
        if let Event::Message(received) = event {
            let header = received.content.header().unwrap();
            return (received.channel.to_string(), header.uid.to_string(), header.kind);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_clients_that_connect_together_share_one_namespace() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["-n", "/org/{id}"]).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let nsps: Vec<_> = (0..8).map(|round| format!("/org/{round}")).collect();
    let watched: Vec<_> = nsps.iter().map(|nsp| Namespace::new(nsp)).collect();
    let mut heard = emitter.cluster().subscribe(&watched, is_life_cycle).await.unwrap();
    for nsp in &nsps {
        // One of the clients leaves in the middle.
        let leaver = async {
            let mut socket = RawWebsocket::open(serve.address()).await;
            socket.send(&format!("40{nsp},")).await;
        };
        let (mut clients, ()) = tokio::join!(join_all((0..4).map(|_| connect(&serve, nsp))), leaver);
        emitter.of(nsp.as_str()).emit("e", 1).await.unwrap();
        for client in &mut clients {
            assert!(client.hears("[\"e\",1]").await, "{nsp}");
        }
    }
    let (mut announced, mut closed) = (Vec::new(), HashSet::new());
    while closed.len() < nsps.len() {
        let (channel, uid, kind) = next_header(&mut heard).await;
        match kind {
            MessageKind::AdapterClose => assert!(closed.insert(uid), "one farewell for each node"),
            _ => announced.push((channel, uid)),
        }
    }
    let channels: HashSet<_> = announced.iter().map(|(channel, _)| channel).collect();
    assert_eq!((announced.len(), channels.len()), (nsps.len(), nsps.len()), "{announced:?}");
    assert!(announced.iter().all(|(_, uid)| closed.contains(uid)));
    assert_eq!(serve.metric("pgio_namespaces").await, 0.0);
    // The channels of the loopback probe and of discovery.
    serve.wait_for_metric("pgio_channels_listening", 2.0).await;
}

/// A load balancer removes a server that answers 503 once.
#[tokio::test]
async fn new_namespaces_do_not_make_a_server_unready() {
    let postgres = postgres().await;
    let serve = PgioServe::start(postgres.url(), &["-n", "/org/{id}"]).await;
    serve.wait_for_ready(200).await;
    let connecting = async {
        for round in 0..40 {
            connect(&serve, &format!("/org/{round}")).await;
        }
    };
    let asking = async {
        loop {
            assert_eq!(serve.get("/readyz").await, (200, "ready\n".into()));
        }
    };
    tokio::select! {
        () = connecting => {}
        () = asking => {}
    }
}

/// The server cannot know yet that Postgres has stopped answering when the first client connects.
#[tokio::test]
async fn a_namespace_first_asked_for_in_a_silent_outage_is_served_and_joins_the_cluster_later() {
    let postgres = own_server().await;
    let serve = PgioServe::start(&postgres.url(), &["-n", "/", "-n", "/org/{id}"]).await;
    serve.wait_for_ready(200).await;
    // Its sessions are not frozen.
    let emitter = Emitter::connect(&format!("{}?application_name=watcher", postgres.url())).await.unwrap();
    let nsp = Namespace::new("/org/1");
    let mut heard = emitter.cluster().subscribe(&[nsp], is_life_cycle).await.unwrap();

    let frozen = freeze_sessions(&postgres.url()).await;
    let connected = timeout(Duration::from_secs(8), connect(&serve, "/org/1")).await;
    drop(frozen);
    let mut client = connected.expect("the client is connected although Postgres does not answer");
    next_header(&mut heard).await;
    emitter.of("/org/1").emit("e", 1).await.unwrap();
    assert!(client.hears("[\"e\",1]").await);
}

#[tokio::test]
async fn a_thousand_namespaces_emptied_at_once_all_say_that_they_close() {
    const COUNT: usize = 1000;
    let postgres = postgres().await;
    let flags = ["-n", "/org/{id}", "--max-namespaces-per-client", "1000"];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let nsps: Vec<_> = (0..COUNT).map(|n| format!("/org/{n}")).collect();
    let watched: Vec<_> = nsps.iter().map(|nsp| Namespace::new(nsp)).collect();
    let is_close = |header: Option<&Header>| header.is_some_and(|h| h.kind == MessageKind::AdapterClose);
    let mut heard = emitter.cluster().subscribe(&watched, is_close).await.unwrap();
    let mut client = RawWebsocket::open(serve.address()).await;
    for nsp in &nsps {
        client.send(&format!("40{nsp},")).await;
    }
    serve.wait_for_metric("pgio_namespaces", COUNT as f64).await;
    drop(client);
    let mut closed = HashSet::new();
    while closed.len() < COUNT {
        let next = timeout(PATIENCE, next_header(&mut heard)).await;
        let (channel, ..) = next.unwrap_or_else(|_| panic!("only {} of {COUNT} closed", closed.len()));
        closed.insert(channel);
    }
    assert_eq!(serve.metric("pgio_namespaces").await, 0.0);
    // The channels of the loopback probe and of discovery.
    serve.wait_for_metric("pgio_channels_listening", 2.0).await;
}
