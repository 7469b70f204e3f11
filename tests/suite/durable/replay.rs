//! The events that are replayed, their order, and the events that are not replayed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pgio::Emitter;
use pgio::cluster::Event;

use super::{Heard, SEND, connect, document, name_of};
use crate::support::attachments::{create_attachment_table, execute, lock_attachment_table};
use crate::support::pgio_serve::until;
use crate::support::postgres::postgres;
use crate::support::proxy::{Mode, Proxy};
use crate::support::sql::{Session, query_text};

#[tokio::test]
async fn durable_events_of_a_gap_are_replayed_once_in_order_and_before_live_events() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let proxy = Proxy::start(postgres.url()).await;
    let emitter = Emitter::new(connect(postgres.url()).await);
    // A subscription does not get the events from before it.
    emitter.durable().emit("before", ()).await.unwrap();
    let cluster = connect(proxy.url()).await;
    let mut heard = Heard::of(&cluster, "/").await;
    for n in 0..20 {
        emitter.durable().emit(&format!("a{n}"), n).await.unwrap();
    }
    heard.until("a19").await;
    for round in 0..3 {
        proxy.set(Mode::Reset);
        heard.lost().await;
        for n in 0..40 {
            emitter.durable().emit(&format!("b{n}"), n).await.unwrap();
            emitter.emit("inline", n).await.unwrap();
        }
        proxy.set(Mode::Forward);
        // The first of these may still be lost and replayed. The later ones arrive live.
        for n in 0..200 {
            emitter.durable().emit(&format!("c{n}"), "x".repeat(n * 10)).await.unwrap();
        }
        until("it listens again", async || cluster.is_listening()).await;
        emitter.emit("last", ()).await.unwrap();
        let names = heard.until("last").await;
        let expected = (0..40).map(|n| format!("b{n}")).chain((0..200).map(|n| format!("c{n}")));
        let expected: Vec<_> = expected.chain(["last".to_owned()]).collect();
        assert_eq!(names, expected, "round {round}");
    }
    while let Some(event) = heard.0.try_next() {
        assert!(!matches!(event, Event::Message(_)), "{event:?}");
    }
}

/// The listing of the rows takes longer than the time between the event and the subscription, so an age that is measured at
/// the listing cannot tell which of them came first.
#[tokio::test]
async fn an_event_from_just_before_a_subscription_is_not_replayed() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let proxy = Proxy::start(postgres.url()).await;
    let emitter = Emitter::new(connect(postgres.url()).await);
    let (cluster, locker) = (connect(proxy.url()).await, Session::open(postgres.url()).await);
    // A snapshot of a later LISTEN does not apply to an earlier subscription.
    let mut other = Heard::of(&cluster, "/other").await;
    let start = Instant::now();
    emitter.durable().emit("before", ()).await.unwrap();
    let mut heard = Heard::of(&cluster, "/").await;
    let between = start.elapsed();
    emitter.durable().emit("live", ()).await.unwrap();
    assert_eq!(heard.until("live").await, ["live"]);

    proxy.set(Mode::Reset);
    heard.lost().await;
    emitter.durable().emit("missed", ()).await.unwrap();
    emitter.of("/other").durable().emit("missed", ()).await.unwrap();
    locker.execute("BEGIN; LOCK TABLE socket_io_attachments").await;
    proxy.set(Mode::Forward);
    let waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'socket_io_attachments'::regclass";
    until("the listing waits", async || query_text(postgres.url(), waiting).await == "t").await;
    tokio::time::sleep(2 * between).await;
    locker.execute("COMMIT").await;
    assert_eq!(heard.until("missed").await, ["missed"]);
    assert_eq!(other.until("missed").await, ["missed"]);
}

#[tokio::test]
async fn an_event_that_was_not_committed_yet_at_the_subscription_is_replayed() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let proxy = Proxy::start(postgres.url()).await;
    let emitter = Emitter::new(connect(postgres.url()).await);
    let (cluster, late) = (connect(proxy.url()).await, Session::open(postgres.url()).await);
    late.execute("BEGIN").await;
    late.execute_typed(SEND, &[&document("late", "/", "socket.io", "x"), &"socket.io#/"]).await;
    emitter.durable().emit("before", ()).await.unwrap();
    let mut heard = Heard::of(&cluster, "/").await;
    proxy.set(Mode::Reset);
    heard.lost().await;
    late.execute("COMMIT").await;
    proxy.set(Mode::Forward);
    until("it listens again", async || cluster.is_listening()).await;
    emitter.durable().emit("last", ()).await.unwrap();
    assert_eq!(heard.until("last").await, ["late", "last"]);
}

/// The listing waits for the lock of the table for longer than the role's `statement_timeout`.
#[tokio::test]
async fn a_timeout_of_the_role_does_not_end_a_replay() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let emitter = Emitter::new(connect(postgres.url()).await);
    execute(postgres.url(), "GRANT SELECT, INSERT, DELETE ON socket_io_attachments TO PUBLIC").await;
    let proxy = Proxy::start(&postgres.url_of_role_with("SET statement_timeout = '300ms'").await).await;
    let cluster = connect(proxy.url()).await;
    let mut heard = Heard::of(&cluster, "/").await;
    emitter.durable().emit("before", ()).await.unwrap();
    heard.until("before").await;
    proxy.set(Mode::Reset);
    heard.lost().await;
    emitter.durable().emit("missed", ()).await.unwrap();
    let locked = lock_attachment_table(postgres.url()).await;
    proxy.set(Mode::Forward);
    until("it listens again", async || cluster.is_listening()).await;
    locked.wait_for_others().await;
    let start = Instant::now();
    until("the listing waits", async || start.elapsed() > Duration::from_secs(1)).await;
    locked.release().await;
    assert_eq!(heard.until("missed").await, ["missed"]);
}

#[tokio::test]
async fn a_row_that_commits_late_is_found_whatever_its_id() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let proxy = Proxy::start(postgres.url()).await;
    let emitter = Emitter::new(connect(postgres.url()).await);
    let cluster = connect(proxy.url()).await;
    let mut heard = Heard::of(&cluster, "/").await;
    let late = Session::open(postgres.url()).await;
    let later = Session::open(postgres.url()).await;
    for (session, name) in [(&late, "late"), (&later, "later")] {
        session.execute("BEGIN").await;
        let document = document(name, "/", "socket.io", "x");
        session.execute_typed(SEND, &[&document, &"socket.io#/"]).await;
    }
    emitter.durable().emit("first", ()).await.unwrap();
    assert_eq!(heard.until("first").await, ["first"]);
    proxy.set(Mode::Reset);
    heard.lost().await;
    emitter.durable().emit("second", ()).await.unwrap();
    // Its id is lower than that of a delivered event.
    late.execute("COMMIT").await;
    proxy.set(Mode::Forward);
    until("it listens again", async || cluster.is_listening()).await;
    emitter.durable().emit("third", ()).await.unwrap();
    assert_eq!(heard.until("third").await, ["late", "second", "third"]);
    later.execute("COMMIT").await;
    assert_eq!(heard.until("later").await, ["later"]);
}

#[tokio::test]
async fn rows_of_other_prefixes_and_other_messages_are_not_replayed() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let proxy = Proxy::start(postgres.url()).await;
    let emitter = Emitter::new(connect(postgres.url()).await);
    let cluster = connect(proxy.url()).await;
    let (mut main, mut admin) = (Heard::of(&cluster, "/").await, Heard::of(&cluster, "/admin").await);
    proxy.set(Mode::Reset);
    main.lost().await;
    admin.lost().await;
    let session = Session::open(postgres.url()).await;
    for (name, nsp, prefix) in
        [("other", "/", "other"), ("longer", "/admin/x", "socket.io"), ("none", "/", "s")]
    {
        let document = document(name, nsp, prefix, "x");
        session.execute_typed(SEND, &[&document, &"elsewhere"]).await;
    }
    // A row of another message, a truncated one, an empty one and one that is NULL.
    for row in ["'\\x80'", "'\\x85a76368616e6e656cd9'", "''", "NULL"] {
        session.execute(&format!("INSERT INTO socket_io_attachments (payload) VALUES ({row})")).await;
    }
    emitter.emit("large", "x".repeat(10_000)).await.unwrap();
    emitter.of("/admin").durable().emit("there", "x".repeat(1_000_000)).await.unwrap();
    emitter.durable().emit("here", "x".repeat(100_000)).await.unwrap();
    emitter.durable().emit("deleted", ()).await.unwrap();
    execute(
        postgres.url(),
        "DELETE FROM socket_io_attachments WHERE id = (SELECT max(id) FROM socket_io_attachments)",
    )
    .await;
    proxy.set(Mode::Forward);
    until("it listens again", async || cluster.is_listening()).await;
    emitter.emit("last", ()).await.unwrap();
    emitter.of("/admin").emit("last", ()).await.unwrap();
    let here = main.message().await;
    assert!(
        here.is_replayed && here.attachment.is_some() && here.text.contains("\"attachmentId\":\""),
        "{here:?}"
    );
    assert_eq!(main.until("last").await, ["last"]);
    assert_eq!(admin.until("last").await, ["there", "last"]);
}

#[tokio::test]
async fn a_subscription_that_is_made_later_gets_nothing_from_before() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let proxy = Proxy::start(postgres.url()).await;
    let emitter = Emitter::new(connect(postgres.url()).await);
    let cluster = connect(proxy.url()).await;
    let mut early = Heard::of(&cluster, "/").await;
    proxy.set(Mode::Reset);
    early.lost().await;
    emitter.durable().emit("missed", ()).await.unwrap();
    let (late, ()) = tokio::join!(Heard::of(&cluster, "/"), async { proxy.set(Mode::Forward) });
    let mut late = late;
    emitter.durable().emit("last", ()).await.unwrap();
    assert_eq!(early.until("last").await, ["missed", "last"]);
    assert_eq!(late.until("last").await, ["last"]);
}

/// Writers hold their transactions open over the outages, so that the commit order differs from the order of ids.
#[tokio::test]
async fn events_of_concurrent_writers_come_once_and_in_the_order_of_each() {
    const WRITERS: usize = 8;
    const GAPS: usize = 4;
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let proxy = Proxy::start(postgres.url()).await;
    let cluster = connect(proxy.url()).await;
    let mut heard = Heard::of(&cluster, "/").await;
    let (end, ended) = tokio::sync::watch::channel(false);
    let write = async |writer: usize| {
        let session = Session::open(postgres.url()).await;
        let mut rng = fastrand::Rng::with_seed(writer as u64);
        let mut sent = 0;
        while !*ended.borrow() {
            let is_kept = rng.u8(0..4) > 0;
            session.execute("BEGIN").await;
            for _ in 0..rng.usize(1..4) {
                let name = if is_kept { format!("{writer} {}", sent + 1) } else { "rolled back".into() };
                let document = document(&name, "/", "socket.io", "x");
                session.execute_typed(SEND, &[&document, &"socket.io#/"]).await;
                tokio::time::sleep(Duration::from_millis(rng.u64(0..30))).await;
                sent += usize::from(is_kept);
            }
            session.execute(if is_kept { "COMMIT" } else { "ROLLBACK" }).await;
        }
        sent
    };
    let interrupt = async {
        for gap in 0..GAPS {
            proxy.set(if gap == 1 { Mode::Silent } else { Mode::Reset });
            until("the gap is noticed", async || !cluster.is_listening()).await;
            proxy.set(Mode::Reset);
            tokio::time::sleep(Duration::from_millis(gap as u64 * 50)).await;
            proxy.set(Mode::Forward);
            until("it listens again", async || cluster.is_listening()).await;
        }
        end.send(true).unwrap();
    };
    let read = async {
        let mut last = HashMap::new();
        loop {
            let name = name_of(&*heard.message().await);
            let Some((writer, number)) = name.split_once(' ') else {
                assert_eq!(name, "last");
                break last;
            };
            let before = last.insert(writer.to_owned(), number.parse::<usize>().unwrap()).unwrap_or(0);
            assert_eq!(number, (before + 1).to_string(), "of writer {writer}");
        }
    };
    let writers = async {
        let (sent, ()) = tokio::join!(join_all((0..WRITERS).map(write)), interrupt);
        Emitter::new(connect(postgres.url()).await).durable().emit("last", ()).await.unwrap();
        sent
    };
    let (sent, last) = tokio::join!(writers, read);
    for (writer, sent) in sent.iter().enumerate() {
        assert_eq!(last.get(&writer.to_string()), Some(sent).filter(|sent| **sent > 0), "of writer {writer}");
    }
    println!("{} events of {WRITERS} writers", sent.iter().sum::<usize>());
}
