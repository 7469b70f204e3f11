//! The library's cluster handle under faults: outages, locks, panics, and the end of its parts.

use std::time::{Duration, Instant};

use pgio::cluster::{Content, Event, Received, Subscription};
use pgio::protocol::{Header, MessageKind};
use pgio::{AdapterOptions, Cluster, Emitter, Error, Settings};
use serde_bytes::ByteBuf;
use tokio::time::timeout;

use crate::support::attachments::{create_attachment_table, execute, lock_attachment_table};
use crate::support::pgio_serve::until;
use crate::support::postgres::{own_server, postgres};
use crate::support::proxy::{Mode, Proxy};
use crate::support::sql::query_text;

async fn connect(url: &str) -> Cluster {
    Cluster::connect(Settings::parse(url).unwrap(), AdapterOptions::default()).await.unwrap()
}

fn is_broadcast(header: Option<&Header>) -> bool {
    header.is_some_and(|header| header.kind == MessageKind::Broadcast)
}

/// The next message, if it comes within this time.
async fn message(heard: &mut Subscription, within: Duration) -> Option<std::sync::Arc<Received>> {
    let next = async {
        loop {
            match heard.next().await.expect("the cluster is there") {
                Event::Message(received) => return received,
                other => println!("{other:?}"),
            }
        }
    };
    timeout(within, next).await.ok()
}

/// The first argument of an event.
fn first(received: &Received) -> String {
    match &received.content {
        Content::Message(message) => format!("{:?}", message.body),
        other => format!("{other:?}"),
    }
}

/// One URL for the database behind several proxies.
fn several_hosts(proxies: &[&Proxy]) -> String {
    let address = |proxy: &&Proxy| {
        let (_, place) = proxy.url().split_once('@').unwrap();
        place.split_once('/').unwrap().0.to_owned()
    };
    let (account, place) = proxies[0].url().split_once('@').unwrap();
    let (_, database) = place.split_once('/').unwrap();
    let hosts = proxies.iter().map(address).collect::<Vec<_>>().join(",");
    format!("{account}@{hosts}/{database}")
}

const SOON: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_locked_table_holds_back_the_channel_of_an_attachment_and_no_other() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let cluster = connect(postgres.url()).await;
    let emitter = Emitter::new(cluster.clone());
    let mut admin = cluster.subscribe(["/admin"], is_broadcast).await.unwrap();
    let mut main = cluster.subscribe(["/"], is_broadcast).await.unwrap();
    let locked = lock_attachment_table(postgres.url()).await;
    let large = emitter.enqueue("large", ByteBuf::from(vec![1, 2, 3])).await.unwrap();
    let behind = emitter.enqueue("behind", 1).await.unwrap();
    // The lock is detected after a second. After that, no other message waits for it.
    emitter.of("/admin").emit("first", 1).await.unwrap();
    let start = Instant::now();
    emitter.of("/admin").emit("second", 2).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(first(&message(&mut admin, SOON).await.unwrap()).contains("first"));
    assert!(first(&message(&mut admin, SOON).await.unwrap()).contains("second"));
    locked.release().await;
    large.await.unwrap();
    behind.await.unwrap();
    assert!(first(&message(&mut main, SOON).await.unwrap()).contains("large"));
    assert!(first(&message(&mut main, SOON).await.unwrap()).contains("behind"));
}

#[tokio::test]
async fn a_look_up_that_waits_for_a_lock_delays_its_own_channel_until_the_lock_goes() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let cluster = connect(postgres.url()).await;
    let mut admin = cluster.subscribe(["/admin"], is_broadcast).await.unwrap();
    let mut main = cluster.subscribe(["/"], is_broadcast).await.unwrap();
    let id = query_text(
        postgres.url(),
        "INSERT INTO socket_io_attachments (payload) VALUES ('\\x80') RETURNING id::text",
    )
    .await;
    let locked = lock_attachment_table(postgres.url()).await;
    let notify = |channel: &str, text: &str| {
        format!("SELECT pg_notify('socket.io#{channel}', '{}')", text.replace('\'', "''"))
    };
    let header = format!(r#"{{"uid":"node","nsp":"/","type":3,"attachmentId":"{id}"}}"#);
    let inline = r#"{"uid":"node","nsp":"/","type":3,"data":{"opts":{},"packet":{"data":["inline"]}}}"#;
    execute(postgres.url(), &notify("/", &header)).await;
    execute(postgres.url(), &notify("/", inline)).await;
    execute(postgres.url(), &notify("/admin", &inline.replace("\"/\"", "\"/admin\""))).await;
    assert!(first(&message(&mut admin, SOON).await.unwrap()).contains("inline"));
    locked.wait_for_others().await;
    locked.release().await;
    // The document is malformed, but the row was read.
    let looked_up = message(&mut main, Duration::from_secs(8)).await.unwrap();
    assert!(looked_up.attachment.is_some_and(|attachment| attachment.bytes.is_some()), "{looked_up:?}");
    assert!(first(&message(&mut main, SOON).await.unwrap()).contains("inline"));
}

/// One statement deletes a few of them, since look-ups wait behind it.
#[tokio::test]
async fn a_cleanup_deletes_all_old_rows() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let rows = "INSERT INTO socket_io_attachments (created_at, payload) \
        SELECT now() - interval '1 h' * (i % 2), 'x' FROM generate_series(1, 10000) AS i";
    execute(postgres.url(), rows).await;
    let cluster = connect(postgres.url()).await;
    assert_eq!(cluster.clean_up_attachments().await.unwrap(), 5000);
    assert_eq!(cluster.clean_up_attachments().await.unwrap(), 0);
    assert_eq!(query_text(postgres.url(), "SELECT count(*) FROM socket_io_attachments").await, "5000");
}

/// With a long notification queue, the first LISTEN of a session takes seconds.
#[tokio::test]
async fn a_session_may_take_long_to_start_to_listen() {
    let postgres = postgres().await;
    let proxy = Proxy::start(postgres.url()).await;
    proxy.set(Mode::SlowFirstListen(Duration::from_secs(4)));
    let cluster = connect(proxy.url()).await;
    let subscribed = timeout(Duration::from_secs(30), cluster.subscribe(["/"], is_broadcast)).await;
    let mut heard = subscribed.expect("it listens in the end").unwrap();
    let emitter = Emitter::new(connect(postgres.url()).await);
    emitter.emit("first", 1).await.unwrap();
    assert!(first(&message(&mut heard, SOON).await.unwrap()).contains("first"));

    proxy.set(Mode::Reset);
    until("the loss is noticed", async || !cluster.is_listening()).await;
    proxy.set(Mode::SlowFirstListen(Duration::from_secs(7)));
    let restored = async { while !matches!(heard.next().await, Some(Event::Restored(_))) {} };
    timeout(Duration::from_secs(40), restored).await.expect("it listens again in the end");
    emitter.emit("second", 2).await.unwrap();
    assert!(first(&message(&mut heard, SOON).await.unwrap()).contains("second"));
}

#[tokio::test]
async fn a_stall_that_heals_loses_nothing_and_delivers_nothing_twice() {
    let postgres = postgres().await;
    let proxy = Proxy::start(postgres.url()).await;
    let cluster = connect(proxy.url()).await;
    let mut heard = cluster.subscribe(["/"], is_broadcast).await.unwrap();
    let emitter = Emitter::new(connect(postgres.url()).await);
    emitter.emit("n", 0).await.unwrap();
    proxy.set(Mode::Silent);
    for n in 1..50 {
        emitter.emit("n", n).await.unwrap();
    }
    // The loss is detected, and the messages are kept.
    until("it is noticed", async || !cluster.is_listening()).await;
    proxy.set(Mode::Forward);
    for n in 50..60 {
        emitter.emit("n", n).await.unwrap();
    }
    let mut next = async || timeout(Duration::from_secs(10), heard.next()).await.unwrap().unwrap();
    let (mut n, mut stalls) = (0, Vec::new());
    while n < 60 || stalls.len() < 2 {
        match next().await {
            Event::Message(received) => {
                let text = format!("[\"n\",{n}]");
                assert!(received.text.contains(&text), "{n}: {}", received.text);
                n += 1;
            }
            event => stalls.push(event),
        }
    }
    assert!(matches!(stalls[..], [Event::Stalled, Event::Resumed(_)]), "{stalls:?}");
    until("it is whole", async || cluster.is_listening()).await;
    assert!(heard.try_next().is_none());
}

#[tokio::test]
async fn a_request_ends_by_its_deadline_while_postgres_is_silent() {
    let postgres = postgres().await;
    let proxy = Proxy::start(postgres.url()).await;
    let emitter = Emitter::new(connect(proxy.url()).await);
    proxy.set(Mode::Silent);
    for _ in 0..2 {
        let start = Instant::now();
        let outcome = emitter.timeout(Duration::from_secs(1)).fetch_sockets().await;
        assert!(matches!(outcome, Err(Error::ConnectionLost(_))), "{outcome:?}");
        assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_promoted_host_is_found_at_once_while_the_first_one_is_silent() {
    let postgres = postgres().await;
    let (first, second) = (Proxy::start(postgres.url()).await, Proxy::start(postgres.url()).await);
    let cluster = connect(&several_hosts(&[&first, &second])).await;
    let mut heard = cluster.subscribe(["/"], is_broadcast).await.unwrap();
    // New sessions are read-only, as on a standby.
    let database = Settings::parse(postgres.url()).unwrap().database().to_owned();
    execute(postgres.url(), &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"))
        .await;
    first.set(Mode::Silent);
    until("it is noticed", async || !cluster.is_listening()).await;
    let before = (first.accepted(), second.accepted());
    until("both are tried", async || first.accepted() > before.0 && second.accepted() > before.1).await;

    let admin = format!("{}?options=-c%20default_transaction_read_only%3Doff", postgres.url());
    execute(&admin, &format!("ALTER DATABASE {database} RESET default_transaction_read_only")).await;
    let promoted = Instant::now();
    until("it listens", async || cluster.is_listening()).await;
    assert!(promoted.elapsed() < Duration::from_secs(1), "{:?}", promoted.elapsed());
    Emitter::new(cluster.clone()).emit("after", ()).await.unwrap();
    let text = self::first(&message(&mut heard, SOON).await.unwrap());
    assert!(text.contains("after"), "{text}");
}

#[tokio::test]
async fn messages_of_a_stall_are_published_once_after_it() {
    let postgres = postgres().await;
    let proxy = Proxy::start(postgres.url()).await;
    let listener = connect(postgres.url()).await;
    let mut heard = listener.subscribe(["/"], is_broadcast).await.unwrap();
    let cluster = connect(proxy.url()).await;
    let emitter = Emitter::new(cluster.clone());
    emitter.emit("before", ()).await.unwrap();
    proxy.set(Mode::Silent);
    let receipt = emitter.enqueue("during", ()).await.unwrap();
    until("it is noticed", async || cluster.health().publishing.is_some()).await;
    proxy.set(Mode::Forward);
    receipt.await.unwrap();
    emitter.emit("after", ()).await.unwrap();
    assert!(cluster.health().publishing.is_none());
    for name in ["before", "during", "after"] {
        let text = first(&message(&mut heard, SOON).await.unwrap());
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[tokio::test]
async fn dropped_subscriptions_leave_no_channel_behind() {
    let postgres = postgres().await;
    let cluster = connect(postgres.url()).await;
    let mut subscriptions = Vec::new();
    for n in 0..600 {
        subscriptions.push(cluster.subscribe([format!("/{n}")], |_| true).await.unwrap());
    }
    assert_eq!(cluster.channels_listening(), 600);
    drop(subscriptions);
    until("no channel is left", async || cluster.channels_listening() == 0).await;
}

#[tokio::test]
async fn a_filter_that_panics_or_calls_back_ends_nothing_else() {
    let postgres = postgres().await;
    let cluster = connect(postgres.url()).await;
    let again = cluster.clone();
    let mut broken = cluster.subscribe(["/"], |_| panic!("as it is tested")).await.unwrap();
    let mut calls = cluster.subscribe(["/"], move |h| again.is_listening() && is_broadcast(h)).await.unwrap();
    Emitter::new(cluster.clone()).emit("e", ()).await.unwrap();
    assert!(message(&mut calls, SOON).await.is_some());
    assert!(broken.try_next().is_none());
    drop(calls);
}

#[tokio::test]
async fn after_a_loss_a_request_is_not_complete_before_the_servers_are_known() {
    let server = own_server().await;
    let cluster = connect(&server.url()).await;
    let emitter = Emitter::new(cluster.clone());
    let _heard = cluster.subscribe(["/"], |_| true).await.unwrap();
    let others = "SELECT string_agg(pg_terminate_backend(pid)::text, ',') FROM pg_stat_activity \
        WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()";
    query_text(&server.url(), others).await;
    let start = Instant::now();
    let collected = emitter.timeout(SOON).fetch_sockets().await;
    // The request failed with the connection, or it took the time to discover the servers.
    match collected {
        Ok(collected) => {
            let took = start.elapsed();
            assert!(!collected.is_complete() || took >= Duration::from_millis(500), "{took:?}");
        }
        Err(error) => assert!(matches!(error, Error::ConnectionLost(_)), "{error}"),
    }
}
