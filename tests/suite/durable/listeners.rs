//! The receivers of durable events: servers of every version, clients of a node after an outage, a tail. Some messages
//! cannot be durable.

use pgio::{BroadcastOperator, Emitter, Error};
use serde_json::json;

use super::{Heard, connect};
use crate::support::attachments::{create_attachment_table, execute};
use crate::support::node::{NodePeer, event};
use crate::support::pgio::{Running, pgio, run};
use crate::support::pgio_serve::{PgioServe, fails, until};
use crate::support::postgres::postgres;
use crate::support::proxy::{Mode, Proxy};
use crate::support::sql::Session;
use crate::support::whole::whole;

/// Adapters 0.3.1, 0.4.0 and 0.5.0 ignore the entries that make an event durable, from any sender.
#[tokio::test]
async fn servers_of_every_version_take_a_durable_event_for_any_other() {
    let cluster = whole().await;
    let emitter = Emitter::new(connect(cluster.url()).await);
    emitter.durable().emit("library", (1, "ä")).await.unwrap();
    run(&mut pgio(cluster.url(), &["emit", "--durable", "program", "{\"a\":[null]}"])).await.succeeded();
    run(&mut pgio(cluster.url(), &["sql", "install"])).await.succeeded();
    execute(cluster.url(), "SELECT socket_io.emit('sql', '[2]', durable => true)").await;
    execute(cluster.url(), "SELECT socket_io.emit('bytes', bytea '\\xcafe', durable => true)").await;
    let serve = PgioServe::start(cluster.url(), &["--durable", "--relay=namespace"]).await;
    let sender = serve.client(&NodePeer::start().await).await;
    sender.emit("relayed", json!([3])).await;
    for client in cluster.clients() {
        let received = client.wait_for(5).await;
        let names: Vec<_> = received.iter().map(|received| received.event.as_str()).collect();
        assert_eq!(names, ["library", "program", "sql", "bytes", "relayed"]);
        assert_eq!(received[0], event("library", json!([1, "ä"])));
        assert_eq!(received[1], event("program", json!([{"a": [null]}])));
        assert_eq!(received[2], event("sql", json!([2])));
        assert_eq!(received[4], event("relayed", json!([3])));
    }
}

#[tokio::test]
async fn a_node_and_a_tail_replay_durable_events_after_a_reconnect() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    run(&mut pgio(postgres.url(), &["sql", "install"])).await.succeeded();
    let proxy = Proxy::start(postgres.url()).await;
    let away = PgioServe::start(proxy.url(), &["--durable", "--relay=namespace"]).await;
    let near = PgioServe::start(postgres.url(), &["--durable", "--relay=namespace"]).await;
    let peer = NodePeer::start().await;
    let (reader, writer) = (away.client(&peer).await, near.client(&peer).await);
    let mut tail = Running::start(&mut pgio(proxy.url(), &["tail", "--type", "broadcast", "-o", "json"]));
    tail.wait_for_note("listening on").await;
    let emitter = Emitter::new(connect(postgres.url()).await);
    emitter.durable().emit("before", ()).await.unwrap();
    // The clients of a node do not receive its own event again.
    reader.emit("own", json!([])).await;
    writer.wait_for_event("own").await;
    reader.wait_for_event("before").await;
    assert_eq!(reader.drain().await, [event("before", json!([]))]);

    proxy.set(Mode::Reset);
    away.wait_for_log("lost the listening connection; reconnecting").await;
    tail.wait_for_note("reconnecting").await;
    writer.emit("relayed", json!([1])).await;
    near.wait_for_metric(r#"pgio_messages_published_total{type="broadcast"}"#, 1.0).await;
    until("the relayed event is committed", async || {
        crate::support::sql::query_text(postgres.url(), "SELECT count(*) FROM socket_io_attachments").await
            == "3"
    })
    .await;
    emitter.emit("inline", ()).await.unwrap();
    emitter.durable().emit("emitted", "x".repeat(10)).await.unwrap();
    execute(postgres.url(), "SELECT socket_io.emit('sql', '[2]', durable => true)").await;
    execute(postgres.url(), "SELECT socket_io.emit('bytes', bytea '\\xca', durable => true)").await;
    execute(
        postgres.url(),
        "CREATE TABLE t (id int); CREATE TRIGGER tell AFTER INSERT ON t FOR EACH ROW
            EXECUTE FUNCTION socket_io.broadcast_change('', 'changed', '/', 'durable'); INSERT INTO t VALUES (1)",
    )
    .await;
    proxy.set(Mode::Forward);
    away.wait_for_log("reconnected and listening").await;
    tail.wait_for_note("reconnected after").await;
    emitter.emit("last", ()).await.unwrap();
    reader.wait_for_event("last").await;
    let names: Vec<_> = reader.drain().await.into_iter().map(|received| received.event).collect();
    assert_eq!(names, ["relayed", "emitted", "sql", "bytes", "changed", "last"]);
    let mut names = Vec::new();
    while names.last().is_none_or(|name| name != "last") {
        names.push(tail.json().await["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(names, ["before", "own", "relayed", "emitted", "sql", "bytes", "changed", "last"]);
}

#[tokio::test]
async fn messages_that_cannot_be_durable_are_an_error() {
    let postgres = postgres().await;
    let url = postgres.url();
    create_attachment_table(url).await;
    let emitter = Emitter::new(connect(url).await);
    let refused = |outcome: Result<(), Error>| outcome.unwrap_err().to_string();
    let durable = || -> BroadcastOperator { emitter.durable() };
    assert_eq!(refused(durable().volatile().emit("e", ()).await), "a volatile event cannot be durable");
    let asked = durable().emit_with_ack::<i32>("e", ()).await.map(drop);
    assert_eq!(refused(asked), "an event that asks for acknowledgements cannot be durable");
    assert_eq!(refused(durable().join("r").await), "a message that is not an event cannot be durable");
    assert_eq!(refused(durable().fetch_sockets().await.map(drop)), "a request cannot be durable");
    for flag in ["--ack", "--volatile"] {
        let outcome = run(&mut pgio(url, &["emit", "--durable", flag, "e"])).await;
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(outcome.stderr.contains("'--durable' cannot be used with"), "{outcome:?}");
    }
    let session = Session::open(url).await;
    run(&mut pgio(url, &["sql", "install"])).await.succeeded();
    for args in ["'{}'", "bytea '\\x00'"] {
        let emit = format!("SELECT socket_io.emit('e', {args}, volatile => true, durable => true)");
        let (code, message) = session.refuses(&emit).await;
        assert_eq!(
            (code.as_str(), message.starts_with("a volatile event cannot be durable")),
            ("22023", true)
        );
    }
    session
        .execute(
            "CREATE TABLE t (id int); CREATE TRIGGER tell AFTER INSERT ON t FOR EACH ROW
        EXECUTE FUNCTION socket_io.broadcast_change('', 'e', '/', 'lasting')",
        )
        .await;
    let (_, message) = session.refuses("INSERT INTO t VALUES (1)").await;
    assert!(message.contains("perhaps a namespace and the word durable"), "{message}");
    let (status, stderr) = fails(&["--durable=maybe", "--database-url", url]).await;
    assert_eq!(status, 2, "{stderr}");
}

/// The functions of the previous version have another signature. Their callers still work, and their events arrive.
#[tokio::test]
async fn callers_of_the_functions_before_durable_events_go_on() {
    let postgres = postgres().await;
    let session = Session::open(postgres.url()).await;
    session.execute(include_str!("../sql/version_1.sql")).await;
    session
        .execute(
            "CREATE TABLE t (id int);
            CREATE TRIGGER tell AFTER INSERT ON t FOR EACH ROW
                EXECUTE FUNCTION socket_io.broadcast_change('', 'trigger', '/');
            CREATE FUNCTION tell_all() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                PERFORM socket_io.emit('function', '[]', '{}', '{}', '/', false, true); END $$;
            PREPARE tell AS SELECT socket_io.emit('prepared')",
        )
        .await;
    session.execute("SELECT tell_all(); EXECUTE tell").await;
    let installed = run(&mut pgio(postgres.url(), &["sql", "install"])).await.succeeded();
    assert!(installed.stdout.contains("from version 1 to"), "{installed:?}");
    let cluster = connect(postgres.url()).await;
    let mut heard = Heard::of(&cluster, "/").await;
    session.execute("INSERT INTO t VALUES (1); SELECT tell_all(); EXECUTE tell").await;
    session.execute("SELECT socket_io.emit('last', durable => true)").await;
    assert_eq!(heard.until("last").await, ["trigger", "function", "prepared", "last"]);
}

/// A function with a body that Postgres has parsed depends on the functions that it calls. The installation changes
/// nothing, and names the caller.
#[tokio::test]
async fn a_caller_with_a_parsed_body_is_named_when_it_blocks_an_upgrade() {
    let postgres = postgres().await;
    let session = Session::open(postgres.url()).await;
    session.execute(include_str!("../sql/version_1.sql")).await;
    session
        .execute(
            "CREATE FUNCTION tell_all() RETURNS void LANGUAGE sql BEGIN ATOMIC
                SELECT socket_io.emit('function', '[]', '{}', '{}', '/', false, true); END",
        )
        .await;
    let install = async || run(&mut pgio(postgres.url(), &["sql", "install"])).await;
    let refused = install().await;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stderr.lines().count() == 1 && refused.stderr.contains("tell_all()"), "{refused:?}");
    session.execute("SELECT tell_all(); DROP FUNCTION tell_all()").await;
    install().await.succeeded();
}
