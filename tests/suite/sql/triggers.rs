//! `broadcast_change`: the events of a trigger for each kind of change, and the refused templates.

use serde_json::{Value, json};

use super::heard::{Broadcast, Heard};
use super::install;
use crate::support::postgres::{Postgres, postgres};
use crate::support::sql::Session;
use crate::support::whole::whole;

/// A database with the functions, a session, and a subscription to all emitted events.
async fn database() -> (Postgres, Session, Heard) {
    let postgres = postgres().await;
    install(postgres.url(), &[]).await;
    let session = Session::open(postgres.url()).await;
    let heard = Heard::start(postgres.url()).await;
    (postgres, session, heard)
}

/// Executes statements, and returns the broadcasts that they cause.
async fn changes(session: &Session, heard: &mut Heard, statements: &str) -> Vec<Broadcast> {
    session.execute(&format!("{statements}; SELECT socket_io.emit('end')")).await;
    heard.until_end().await
}

fn change(event: &str, room: &str, args: Value) -> Broadcast {
    Broadcast { event: event.into(), args: json!([args]), rooms: vec![room.into()], is_attached: false }
}

const ORDERS: &str = "CREATE TABLE orders (id int, state text, total numeric);
    CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION socket_io.broadcast_change('order:{id}', 'order_{operation}')";

#[tokio::test]
async fn clients_of_all_servers_hear_of_a_change_when_it_is_committed() {
    let cluster = whole().await;
    install(cluster.url(), &[]).await;
    let session = Session::open(cluster.url()).await;
    session.execute(ORDERS).await;
    for client in [0, 3] {
        cluster.join(client, &["order:7"]).await;
    }
    session.execute("BEGIN; INSERT INTO orders VALUES (7, 'gone', 0); ROLLBACK").await;
    session.execute("INSERT INTO orders VALUES (7, 'new', 42.50), (8, 'new', 1)").await;
    session.execute("SELECT socket_io.emit('end')").await;
    for (place, client) in cluster.clients().into_iter().enumerate() {
        client.wait_for_event("end").await;
        let received = client.drain().await;
        if ![0, 3].contains(&place) {
            assert_eq!(received.len(), 1, "client {place}: {received:?}");
            continue;
        }
        let expected = json!({"operation": "INSERT", "schema": "public", "table": "orders", "old_record": null,
            "record": {"id": 7, "state": "new", "total": 42.5}});
        assert_eq!((received[0].event.as_str(), &received[0].args), ("order_INSERT", &vec![expected]));
        assert_eq!(received.len(), 2);
    }
}

#[tokio::test]
async fn each_operation_prints_its_changes() {
    let (_postgres, session, mut heard) = database().await;
    session.execute(ORDERS).await;
    let row = |id: i32, state: &str| json!({"id": id, "state": state, "total": null});
    let args = |operation: &str, record: Value, old_record: Value| {
        json!({"operation": operation, "schema": "public", "table": "orders", "record": record,
            "old_record": old_record})
    };
    let statements =
        "INSERT INTO orders VALUES (1, 'new'), (2, 'new'); UPDATE orders SET id = 3, state = 'paid'
        WHERE id = 2; DELETE FROM orders WHERE id = 1";
    let expected = [
        change("order_INSERT", "order:1", args("INSERT", row(1, "new"), Value::Null)),
        change("order_INSERT", "order:2", args("INSERT", row(2, "new"), Value::Null)),
        change("order_UPDATE", "order:3", args("UPDATE", row(3, "paid"), row(2, "new"))),
        change("order_DELETE", "order:1", args("DELETE", Value::Null, row(1, "new"))),
    ];
    assert_eq!(changes(&session, &mut heard, statements).await, expected);
    // A thousand equal changes cause a thousand events.
    let equal = "INSERT INTO orders SELECT 9, 'new' FROM generate_series(1, 1000)";
    assert_eq!(changes(&session, &mut heard, equal).await.len(), 1000);
}

#[tokio::test]
async fn a_null_skips_the_row_and_an_empty_template_means_every_client() {
    let (_postgres, session, mut heard) = database().await;
    session
        .execute(
            "CREATE TABLE a (id int, room text, event text);
            CREATE TRIGGER tell AFTER INSERT ON a
            FOR EACH ROW EXECUTE FUNCTION socket_io.broadcast_change('r:{room}', 'e {event}', '/');
            CREATE TABLE b (id int, room text);
            CREATE TRIGGER tell AFTER INSERT ON b
            FOR EACH ROW EXECUTE FUNCTION socket_io.broadcast_change('', '{schema}.{table}');
            CREATE TABLE c (room text);
            CREATE TRIGGER tell AFTER INSERT ON c
            FOR EACH ROW EXECUTE FUNCTION socket_io.broadcast_change('{room}', 'c')",
        )
        .await;
    let rows = "INSERT INTO a VALUES (1, NULL, 'x'), (2, 'r', NULL), (3, 'r', 'x'), (4, '', '')";
    let heard_of_a = changes(&session, &mut heard, rows).await;
    let ids: Vec<_> =
        heard_of_a.iter().map(|heard| heard.args[0]["record"]["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [3, 4]);
    assert_eq!(
        (heard_of_a[1].rooms.as_slice(), heard_of_a[1].event.as_str()),
        (&["r:".to_owned()][..], "e ")
    );
    let heard_of_b = changes(&session, &mut heard, "INSERT INTO b VALUES (1, NULL)").await;
    assert_eq!((heard_of_b[0].rooms.len(), heard_of_b[0].event.as_str()), (0, "public.b"));
    // An empty value names the room of that name, not every client.
    let heard_of_c = changes(&session, &mut heard, "INSERT INTO c VALUES ('')").await;
    assert_eq!(heard_of_c[0].rooms, [""]);
}

#[tokio::test]
async fn names_that_need_quoting_and_values_of_every_type() {
    let (_postgres, session, mut heard) = database().await;
    session
        .execute(
            r#"CREATE SCHEMA "My ""Shop"""; CREATE TABLE "My ""Shop"""."Order's" ("Order ID" int, "é.""x""" text, "a'b" bool, operation text,
                at timestamptz, tags text[], doc jsonb, bytes bytea, nothing date);
            CREATE TRIGGER "Tell it" AFTER INSERT ON "My ""Shop"""."Order's" FOR EACH ROW
            EXECUTE FUNCTION socket_io.broadcast_change('{Order ID}/{é."x"}/{a''b}/{{braces}}', '{operation} {doc}')"#,
        )
        .await;
    let statement = r#"SET timezone = 'UTC'; INSERT INTO "My ""Shop"""."Order's"
        VALUES (5, '{not} a {template}', true, 'a column', '2026-01-31 12:00Z', '{a,b}', '{"k": [1]}', '\xcafe')"#;
    let all = changes(&session, &mut heard, statement).await;
    assert_eq!(all[0].rooms, ["5/{not} a {template}/true/{braces}"]);
    // The names of the trigger take precedence.
    assert_eq!(all[0].event, r#"INSERT {"k": [1]}"#);
    let expected = json!({"operation": "INSERT", "schema": "My \"Shop\"", "table": "Order's", "old_record": null,
        "record": {"Order ID": 5, "é.\"x\"": "{not} a {template}", "a'b": true, "operation": "a column",
            "at": "2026-01-31T12:00:00+00:00", "tags": ["a", "b"], "doc": {"k": [1]}, "bytes": "\\xcafe",
            "nothing": null}});
    assert_eq!(all[0].args, json!([expected]));
}

#[tokio::test]
async fn a_partitioned_table_goes_by_its_own_name() {
    let (_postgres, session, mut heard) = database().await;
    session
        .execute(
            "CREATE TABLE log (id int, at date) PARTITION BY RANGE (at);
            CREATE TABLE log_2025 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
            CREATE SCHEMA archive;
            CREATE TABLE archive.log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
              PARTITION BY LIST (id);
            CREATE TABLE archive.log_2026_1 PARTITION OF archive.log_2026 FOR VALUES IN (1);
            CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON log
            FOR EACH ROW EXECUTE FUNCTION socket_io.broadcast_change('{schema}.{table}', '{operation} {id}')",
        )
        .await;
    let statements = "INSERT INTO log VALUES (1, '2025-05-05'), (1, '2026-05-05');
        UPDATE log SET at = '2026-06-06' WHERE at = '2025-05-05'; DELETE FROM archive.log_2026_1";
    let all = changes(&session, &mut heard, statements).await;
    let events: Vec<_> = all.iter().map(|heard| heard.event.as_str()).collect();
    // A row that moves to another partition is deleted in one and inserted in the other.
    assert_eq!(events, ["INSERT 1", "INSERT 1", "DELETE 1", "INSERT 1", "DELETE 1", "DELETE 1"]);
    assert!(
        all.iter().all(|heard| heard.rooms == ["public.log"] && heard.args[0]["table"] == "log"),
        "{all:?}"
    );
}

#[tokio::test]
async fn large_rows_go_through_the_attachment_table() {
    let (_postgres, session, mut heard) = database().await;
    session.execute(ORDERS).await;
    let statements = "INSERT INTO orders SELECT n, repeat('x', n * 100) FROM generate_series(1, 200) AS n";
    let all = changes(&session, &mut heard, statements).await;
    assert_eq!(all.len(), 200);
    assert!(all.iter().any(|heard| heard.is_attached) && all.iter().any(|heard| !heard.is_attached));
    for (heard, n) in all.iter().zip(1..) {
        assert_eq!(heard.args[0]["record"], json!({"id": n, "state": "x".repeat(n * 100), "total": null}));
    }
}

/// More than 64 subtransactions with rows in one transaction slow down every snapshot of the server.
#[tokio::test]
async fn a_row_takes_no_subtransaction() {
    let (_postgres, session, mut heard) = database().await;
    session.execute(ORDERS).await;
    let statements = "INSERT INTO orders SELECT n, repeat('x', 9000) FROM generate_series(1, 100) AS n";
    assert_eq!(changes(&session, &mut heard, statements).await.len(), 100);
    let transactions = "SELECT count(DISTINCT xmin::text) FROM socket_io_attachments";
    assert_eq!(session.query_one(transactions, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn an_error_fails_the_statement_and_names_trigger_and_template() {
    let (_postgres, session, mut heard) = database().await;
    session.execute(r#"CREATE TABLE t (id int, name text); CREATE VIEW v AS SELECT * FROM t; CREATE TABLE "T 2" (id int)"#).await;
    let trigger = "trigger tell on public.t: ";
    for (when, arguments, message) in [
        (
            "AFTER INSERT ON t FOR EACH ROW",
            "'r:{nope}', 'e'",
            "template \"r:{nope}\" names \"nope\", which is no column",
        ),
        (
            "AFTER INSERT ON t FOR EACH ROW",
            "'r', 'e {ID}'",
            "template \"e {ID}\" names \"ID\", which is no column",
        ),
        ("AFTER INSERT ON t FOR EACH ROW", "'{name}', '{nope}'", "template \"{nope}\" names \"nope\""),
        ("AFTER INSERT ON t FOR EACH ROW", "'r:{id', 'e'", "template \"r:{id\" has a single \"{\""),
        ("AFTER INSERT ON t FOR EACH ROW", "'r', 'e}'", "template \"e}\" has a single \"}\""),
        ("AFTER INSERT ON t FOR EACH ROW", "'r', 'connect'", "event name \"connect\" is reserved"),
        ("AFTER INSERT ON t FOR EACH ROW", "'r'", "its arguments have to be"),
        ("AFTER INSERT ON t FOR EACH ROW", "", "its arguments have to be"),
        ("AFTER INSERT ON t FOR EACH STATEMENT", "'r', 'e'", "it has to be an AFTER trigger FOR EACH ROW"),
        ("BEFORE INSERT ON t FOR EACH ROW", "'r', 'e'", "it has to be an AFTER trigger FOR EACH ROW"),
        (
            "AFTER INSERT ON t FOR EACH ROW",
            "'r', 'e', '/0123456789012345678901234567890123456789012345678901234567890123456789'",
            "Postgres takes 63",
        ),
    ] {
        session
            .execute(&format!(
                "CREATE TRIGGER tell {when} EXECUTE FUNCTION socket_io.broadcast_change({arguments})"
            ))
            .await;
        let (_, text) = session.refuses("INSERT INTO t VALUES (1, NULL)").await;
        assert!(text.starts_with(trigger) && text.contains(message), "{arguments}: {text}");
        session.execute("DROP TRIGGER tell ON t").await;
    }
    session
        .execute(
            r#"CREATE TRIGGER "Tell it" AFTER INSERT ON "T 2" FOR EACH ROW
            EXECUTE FUNCTION socket_io.broadcast_change('{nope}', 'é')"#,
        )
        .await;
    let (code, text) = session.refuses(r#"INSERT INTO "T 2" VALUES (1)"#).await;
    assert_eq!(code, "42703");
    let expected = "trigger \"Tell it\" on public.\"T 2\": template \"{nope}\" names \"nope\", which is no column of the \
        table ()";
    assert_eq!(text, expected);
    // A statement without a trigger names none, also in a transaction in which a trigger has emitted.
    let (_, text) = session
        .refuses(&format!("{ORDERS}; INSERT INTO orders VALUES (1); SELECT socket_io.emit('connect')"))
        .await;
    assert!(text.starts_with("event name \"connect\" is reserved"), "{text}");
    assert_eq!(changes(&session, &mut heard, "SELECT 1").await, []);
}
