//! The events of a transaction: all of them in order at its commit, and none after a rollback.

use serde_json::json;

use super::heard::Heard;
use super::install;
use crate::support::attachments::create_attachment_table;
use crate::support::node::event;
use crate::support::postgres::postgres;
use crate::support::sql::Session;
use crate::support::whole::whole;

#[tokio::test]
async fn a_rollback_sends_nothing_and_a_savepoint_nothing_of_its_own() {
    let cluster = whole().await;
    install(cluster.url(), &[]).await;
    let session = Session::open(cluster.url()).await;
    let big = "socket_io.emit('big', to_jsonb(repeat('x', 9000)))";
    session.execute(&format!("BEGIN; SELECT socket_io.emit('gone'), {big}; ROLLBACK")).await;
    session.refuses(&format!("BEGIN; SELECT socket_io.emit('gone'), {big}; SELECT 1/0; COMMIT")).await;
    session.execute("ROLLBACK").await;
    session
        .execute(&format!(
            "BEGIN; SELECT socket_io.emit('first');
            SAVEPOINT a; SELECT socket_io.emit('gone'), {big};
            SAVEPOINT b; SELECT socket_io.emit('gone too'); RELEASE b; ROLLBACK TO a;
            SELECT socket_io.emit('first'); SAVEPOINT c; SELECT socket_io.emit('first'); RELEASE c;
            SELECT socket_io.emit('end'); COMMIT"
        ))
        .await;
    let expected = ["first", "first", "first", "end"].map(|name| event(name, json!([])));
    for client in cluster.clients() {
        client.wait_for(4).await;
        assert_eq!(client.drain().await, expected);
    }
    let rows = session.query_one("SELECT count(*) FROM socket_io_attachments", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_commit_sends_all_in_order() {
    let cluster = whole().await;
    install(cluster.url(), &[]).await;
    let session = Session::open(cluster.url()).await;
    for client in cluster.clients() {
        client.count().await;
    }
    let numbered = "SELECT socket_io.emit('n', to_jsonb(n)) FROM generate_series(1, 2000) AS n ORDER BY n";
    session.execute(numbered).await;
    for client in cluster.clients() {
        let tally = client.wait_for_tally("n", 2000, crate::support::node::PATIENCE).await;
        assert_eq!((tally.count, tally.first_break), (2000, None));
    }
}

/// Node servers let inline messages overtake those with an attachment; pgio does not.
#[tokio::test]
async fn the_order_of_inline_and_attached_events_is_kept() {
    let postgres = postgres().await;
    install(postgres.url(), &[]).await;
    let session = Session::open(postgres.url()).await;
    let mut heard = Heard::start(postgres.url()).await;
    let mixed =
        "SELECT socket_io.emit('n', jsonb_build_array(n, CASE WHEN n % 7 < 3 THEN repeat('x', 9000) END))
        FROM generate_series(1, 500) AS n ORDER BY n; SELECT socket_io.emit('end')";
    session.execute(mixed).await;
    let numbers: Vec<_> =
        heard.until_end().await.iter().map(|heard| heard.args[0].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=500), "{numbers:?}");
}

#[tokio::test]
async fn a_thousand_equal_events_of_one_transaction_all_arrive() {
    let cluster = whole().await;
    install(cluster.url(), &[]).await;
    let session = Session::open(cluster.url()).await;
    session.execute("SELECT socket_io.emit('equal', '{\"a\": 1}') FROM generate_series(1, 1000)").await;
    session.execute("SELECT socket_io.emit('bytes', bytea '\\x01') FROM generate_series(1, 100)").await;
    session
        .execute("DO $$ BEGIN FOR n IN 1..100 LOOP PERFORM socket_io.emit('loop'); END LOOP; END $$")
        .await;
    for client in cluster.clients() {
        let received = client.wait_for(1200).await;
        for (name, count) in [("equal", 1000), ("bytes", 100), ("loop", 100)] {
            assert_eq!(received.iter().filter(|event| event.event == name).count(), count, "{name}");
        }
    }
}

/// The limit includes the white space that makes equal events distinct.
#[tokio::test]
async fn equal_events_just_below_the_limit_all_arrive() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    install(postgres.url(), &[]).await;
    let session = Session::open(postgres.url()).await;
    let mut heard = Heard::start(postgres.url()).await;
    let equal = "SELECT socket_io.emit('e', to_jsonb(repeat('x', size)))
        FROM generate_series(7816, 7846) AS size, generate_series(1, 40); SELECT socket_io.emit('end')";
    session.execute(equal).await;
    let heard = heard.until_end().await;
    assert_eq!(heard.len(), 31 * 40);
    assert!(heard.iter().any(|heard| heard.is_attached) && heard.iter().any(|heard| !heard.is_attached));
}

#[tokio::test]
async fn contradictory_arguments_are_refused_with_a_reason() {
    let postgres = postgres().await;
    install(postgres.url(), &[]).await;
    let session = Session::open(postgres.url()).await;
    let long = format!("namespace => '{}'", "n".repeat(60));
    for (call, code, message) in [
        ("emit(NULL)", "22004", "the event is NULL"),
        ("emit('connect')", "42939", "event name \"connect\" is reserved by Socket.IO"),
        ("emit('disconnecting', bytea '')", "42939", "event name \"disconnecting\" is reserved"),
        ("server_side_emit('new_namespace')", "42939", "event name \"new_namespace\" is reserved"),
        ("emit('e', rooms => NULL)", "22004", "rooms is NULL; an empty array means every client"),
        ("emit('e', rooms => ARRAY['user:' || NULL])", "22004", "rooms holds a NULL"),
        ("emit('e', except_rooms => '{a,NULL}')", "22004", "except_rooms holds a NULL"),
        ("emit('e', rooms => '{{a,b},{c,d}}')", "22023", "rooms has more than one dimension"),
        ("join(NULL)", "22004", "join_rooms is NULL"),
        ("leave('{NULL}')", "22004", "leave_rooms holds a NULL"),
        ("emit('e', namespace => NULL)", "22004", "the namespace is NULL"),
        ("emit('e', 'no json')", "22P02", "invalid input syntax for type json"),
        (&format!("emit('e', {long})"), "42622", "has 71 bytes, and Postgres takes 63"),
    ] {
        let (found, text) = session.refuses(&format!("SELECT socket_io.{call}")).await;
        assert!(found == code && text.contains(message), "{call}: {found} {text}");
    }
}
