//! Floods: many messages that wait for one session.

use std::time::Duration;

use pgio::cluster::{Content, Event as Heard, Subscription};
use pgio::protocol::{Body, Encoded, EventArgs, Message, Uid};
use pgio::{Emitter, Error, Receipt, Value};

use crate::support::attachments::execute;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::own_server;
use crate::support::sql::query_text;
use crate::support::stopped::Stopped;

/// The application name of the session that gets the flood.
const NAME: &str = "flooding";

/// Enough for two whole transactions, and no more than the queue takes.
const COUNT: i64 = 8500;

async fn emitter(url: &str) -> Emitter {
    let emitter = Emitter::connect(url).await.unwrap();
    // Now there is a session.
    emitter.emit("before", ()).await.unwrap();
    emitter
}

/// A subscription, and the cluster that it belongs to.
async fn subscription(url: &str) -> (Emitter, Subscription) {
    let listener = Emitter::connect(url).await.unwrap();
    let heard = listener.cluster().subscribe(["/"], |h| h.is_some()).await.unwrap();
    (listener, heard)
}

/// Queues an event for each argument while the session does not answer, so that all wait when it goes on.
async fn flood(emitter: &Emitter, server: &str, args: impl Iterator<Item = Value>) -> Vec<Receipt> {
    let _stopped = Stopped::all_sessions(server, NAME).await;
    let mut receipts = Vec::new();
    for args in args {
        receipts.push(emitter.enqueue("n", args).await.unwrap());
    }
    receipts
}

/// The number in the next event.
async fn next_number(heard: &mut Subscription) -> Option<i64> {
    let next = tokio::time::timeout(Duration::from_secs(30), heard.next()).await;
    let Some(Heard::Message(received)) = next.expect("an event") else { panic!("a gap") };
    let Content::Message(message) = &received.content else { panic!("{received:?}") };
    let Body::Broadcast { event, .. } = &message.body else { panic!("{message:?}") };
    event.clone().into_parts().unwrap().1[0].as_i64()
}

/// All numbers arrive in their order, and nothing else does.
async fn numbers_arrive(heard: &mut Subscription, numbers: impl Iterator<Item = i64>) {
    for n in numbers {
        assert_eq!(next_number(heard).await, Some(n));
    }
}

/// Executes a statement when an event with the text `marked` is published.
async fn at_marked_events(url: &str, statement: &str) {
    let sql = format!(
        "CREATE SCHEMA IF NOT EXISTS flood;
         CREATE FUNCTION flood.pg_notify(channel text, payload text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             IF payload LIKE '%marked%' THEN {statement}; END IF;
             PERFORM pg_catalog.pg_notify(channel, payload); END $$;
         ALTER ROLE ALL SET search_path = flood, pg_catalog"
    );
    execute(url, &sql).await;
}

/// Executes a statement when a transaction with such an event is committed.
async fn at_commits_of_marked_events(url: &str, statement: &str) {
    at_marked_events(url, "INSERT INTO flood.marks VALUES (1)").await;
    let sql = format!(
        "CREATE TABLE flood.marks (n int);
         CREATE FUNCTION flood.commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             {statement}; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON flood.marks DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION flood.commit()"
    );
    execute(url, &sql).await;
}

#[tokio::test]
async fn bad_messages_of_a_flood_fail_alone_and_the_others_keep_their_order() {
    let server = own_server().await;
    execute(
        &server.url(),
        "CREATE DATABASE latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    .await;
    let url = format!("{}?dbname=latin1", server.url());
    let emitter = emitter(&format!("{url}&application_name={NAME}")).await;
    let (_listener, mut heard) = subscription(&url).await;
    // LATIN1 has no euro sign, so the server refuses the statement with this message.
    let is_bad = |n| n % 1500 == 700;
    let args = (0..COUNT).map(|n| if is_bad(n) { Value::from("€") } else { Value::from(n) });
    let receipts = flood(&emitter, &server.url(), args).await;
    for (n, receipt) in (0..).zip(receipts) {
        let outcome = receipt.await;
        let refused =
            matches!(&outcome, Err(Error::Database { sqlstate: Some(code), .. }) if code == "22P05");
        assert_eq!(refused, is_bad(n), "{n}: {outcome:?}");
        assert!(refused || outcome.is_ok(), "{n}: {outcome:?}");
    }
    numbers_arrive(&mut heard, (0..COUNT).filter(|n| !is_bad(*n))).await;
}

#[tokio::test]
async fn a_flood_keeps_its_order_when_a_commit_fails() {
    /// One event of the first transaction, and one of the transaction that is sent ahead.
    const MARKED: [i64; 2] = [2500, 4500];
    let server = own_server().await;
    // Every other commit of a marked event fails.
    execute(&server.url(), "CREATE SEQUENCE public.commits").await;
    let statement =
        "PERFORM pg_sleep(0.3); IF nextval('public.commits') % 2 = 1 THEN RAISE 'not now'; END IF";
    at_commits_of_marked_events(&server.url(), statement).await;
    let emitter = emitter(&format!("{}?application_name={NAME}", server.url())).await;
    let (_listener, mut heard) = subscription(&server.url()).await;
    let args = (0..COUNT).map(|n| if MARKED.contains(&n) { "marked".into() } else { n.into() });
    let receipts = flood(&emitter, &server.url(), args).await;
    for (n, receipt) in (0..).zip(receipts) {
        let outcome = receipt.await;
        assert!(outcome.is_ok(), "{n}: {outcome:?}");
    }
    for n in 0..COUNT {
        let expected = if MARKED.contains(&n) { None } else { Some(n) };
        assert_eq!(next_number(&mut heard).await, expected, "{n}");
    }
    let commits = query_text(&server.url(), "SELECT last_value::text FROM public.commits").await;
    assert_eq!(commits, "4", "each marked event failed once");
}

#[tokio::test]
async fn a_flood_whose_connection_is_lost_loses_one_range_of_messages() {
    let statement = "PERFORM pg_sleep(0.3), pg_terminate_backend(pg_backend_pid())";
    one_range_is_lost(COUNT, statement).await;
}

#[tokio::test]
async fn a_session_that_reports_a_lost_connection_is_given_up() {
    // The transaction that is sent ahead has two batches, and its commit is not sent yet.
    let statement = "PERFORM pg_sleep(0.3); RAISE 'a server behind this one' USING ERRCODE = '08006'";
    one_range_is_lost(6500, statement).await;
}

/// Sends a flood in which one event executes this statement, which fails like a lost connection.
async fn one_range_is_lost(count: i64, statement: &str) {
    const MARKED: i64 = 2500;
    let server = own_server().await;
    at_marked_events(&server.url(), statement).await;
    let emitter = emitter(&format!("{}?application_name={NAME}", server.url())).await;
    let (_listener, mut heard) = subscription(&server.url()).await;
    let args = (0..count).map(|n| if n == MARKED { "marked".into() } else { n.into() });
    let receipts = flood(&emitter, &server.url(), args).await;
    let mut sent = Vec::new();
    for (n, receipt) in (0..).zip(receipts) {
        match receipt.await {
            Ok(()) => sent.push(n),
            Err(error) => assert!(matches!(error, Error::ConnectionLost(_)), "{n}: {error}"),
        }
    }
    // The transaction with the marked event is lost, and the one that was sent ahead in the meantime.
    let lost: Vec<_> = (0..count).filter(|n| !sent.contains(n)).collect();
    let (first, last) = (lost[0], lost[lost.len() - 1]);
    assert!(first <= MARKED && last >= MARKED && (first..=last).eq(lost), "{first} to {last}");
    numbers_arrive(&mut heard, sent.into_iter()).await;
}

#[tokio::test]
async fn a_flood_goes_on_when_the_first_subscription_begins() {
    let server = own_server().await;
    at_marked_events(&server.url(), "PERFORM pg_sleep(1)").await;
    let emitter = emitter(&format!("{}?application_name={NAME}", server.url())).await;
    let args = (0..COUNT).map(|n| if n == 100 { "marked".into() } else { n.into() });
    let receipts = flood(&emitter, &server.url(), args).await;
    let _heard = emitter.cluster().subscribe(["/"], |h| h.is_some()).await.unwrap();
    for (n, receipt) in (0..).zip(receipts) {
        let outcome = receipt.await;
        assert!(outcome.is_ok(), "{n}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_flood_whose_order_cannot_be_checked_is_sent_again() {
    const MARKED: i64 = 2500;
    let server = own_server().await;
    // The commit succeeds, and the next transaction does not find its number, as in another session of a pooler.
    let statement = "PERFORM pg_sleep(0.3), set_config('pgio.committed', '', false)";
    at_commits_of_marked_events(&server.url(), statement).await;
    let emitter = emitter(&format!("{}?application_name={NAME}", server.url())).await;
    let (_listener, mut heard) = subscription(&server.url()).await;
    let args = (0..COUNT).map(|n| if n == MARKED { "marked".into() } else { n.into() });
    for receipt in flood(&emitter, &server.url(), args).await {
        receipt.await.unwrap();
    }
    for n in 0..COUNT {
        assert_eq!(next_number(&mut heard).await, (n != MARKED).then_some(n), "{n}");
    }
}

#[tokio::test]
async fn a_flood_through_a_pooler_that_resets_sessions_keeps_its_order() {
    let server = own_server().await;
    let pooler = PgBouncer::resetting(&server.url(), NAME).await;
    let emitter = emitter(&format!("{}?application_name={NAME}", pooler.url())).await;
    let (_listener, mut heard) = subscription(&server.url()).await;
    for _ in 0..2 {
        let receipts = flood(&emitter, &server.url(), (0..COUNT).map(Value::from)).await;
        for receipt in receipts {
            receipt.await.unwrap();
        }
        numbers_arrive(&mut heard, 0..COUNT).await;
    }
}

#[tokio::test]
async fn equal_messages_without_room_for_white_space_are_sent_in_a_flood() {
    let server = own_server().await;
    let emitter = emitter(&format!("{}?application_name={NAME}", server.url())).await;
    let text = |size| {
        let event = EventArgs::new("n", [Value::from("x".repeat(size))]);
        let body = Body::Broadcast { opts: Default::default(), event, request_id: None };
        match Message::new(Uid::emitter(), "/", body).encode(8000).unwrap() {
            Encoded::Inline(text) => text.len(),
            Encoded::Attachment { .. } => panic!("too large"),
        }
    };
    let largest = 7999 - text(0);
    assert_eq!(text(largest), 7999);
    let equal = Value::from("x".repeat(largest));
    let args = (0..4000).map(|n| if n % 1200 == 600 { equal.clone() } else { Value::from(n) });
    for receipt in flood(&emitter, &server.url(), args).await {
        tokio::time::timeout(Duration::from_secs(20), receipt).await.expect("in time").unwrap();
    }
}
