//! Values of every kind and size, to clients of live servers of all versions and of a pgio node.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::install;
use crate::support::node::{Event, binary, event};
use crate::support::sql::Session;
use crate::support::whole::{Whole, whole};

/// A cluster with the functions, and a session of an application.
async fn cluster() -> (Whole, Session) {
    let cluster = whole().await;
    install(cluster.url(), &[]).await;
    let session = Session::open(cluster.url()).await;
    (cluster, session)
}

/// Sorts the events, since a Node server lets messages overtake one whose attachment it still fetches.
fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| (event.event.clone(), json!(event.args).to_string()));
    events
}

/// Emits each of these arguments, small and through the attachment table, and compares what all clients receive.
async fn arrive_unchanged(cluster: &Whole, session: &Session, values: &[(&str, Value)]) {
    let mut expected = Vec::new();
    for (json, value) in values {
        for padding in [0, 8_000] {
            let padding = "p".repeat(padding);
            let args = format!("[{json},\"{padding}\"]");
            session.execute_typed("SELECT socket_io.emit('value', $1::text::jsonb)", &[&args]).await;
            expected.push(event("value", json!([value, padding])));
        }
    }
    for (place, client) in cluster.clients().into_iter().enumerate() {
        client.wait_for(expected.len()).await;
        let received = client.drain().await;
        assert_eq!(received.len(), expected.len(), "client {place}");
        for event in &expected {
            assert!(received.contains(event), "client {place} did not receive {:.300}", format!("{event:?}"));
        }
    }
}

#[tokio::test]
async fn every_kind_of_json_arrives_unchanged_and_once_everywhere() {
    let (cluster, session) = cluster().await;
    let mut deep = json!(1);
    for level in 0..100 {
        deep = if level % 2 == 0 { json!([deep]) } else { json!({ "a": deep }) };
    }
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(""),
        json!("h\u{e9}llo \u{2713} \u{1d11e} \u{1} \u{7f} \u{2028} \\ \" \u{fffd} </script>"),
        json!([]),
        json!({}),
        json!([[], {}, [null], {"": ""}]),
        json!({"z": [1, [2, [3, {"a": null}]]], "a": {"b": {"c": true}}, "é": "ü"}),
        json!({"type": "Buffer", "data": [1, 2]}),
        json!({"_placeholder": true, "num": 0}),
        deep,
    ];
    let values: Vec<_> = values.iter().map(|value| (value.to_string(), value.clone())).collect();
    let values: Vec<_> = values.iter().map(|(text, value)| (text.as_str(), value.clone())).collect();
    arrive_unchanged(&cluster, &session, &values).await;
}

#[tokio::test]
async fn numbers_are_those_of_javascript() {
    let (cluster, session) = cluster().await;
    let mut values = Vec::new();
    for boundary in [0_i64, 32, 128, 256, 32_768, 65_536, 1 << 31, 1 << 32, 1 << 53] {
        for near in [boundary - 1, boundary, -boundary, 1 - boundary] {
            values.push((near.to_string(), json!(near)));
        }
    }
    for (text, value) in [
        ("1.0", json!(1)),
        ("1.50", json!(1.5)),
        ("-0.0001", json!(-0.0001)),
        ("1e21", json!(1e21)),
        ("0.1", json!(0.1)),
        ("1e3", json!(1000)),
        ("1.7976931348623157e308", json!(f64::MAX)),
        // JavaScript has no integers beyond 2^53, and `null` for a number that is too large.
        ("18446744073709551615", json!(18_446_744_073_709_552_000_u128 as f64)),
        ("100000000000000000000000000000", json!(1e29)),
    ] {
        values.push((text.to_owned(), value));
    }
    values.sort_by_key(|(text, _)| text.clone());
    values.dedup();
    let values: Vec<_> = values.iter().map(|(text, value)| (text.as_str(), value.clone())).collect();
    arrive_as_numbers(&cluster, &session, &values).await;
}

/// The same for numbers, whose texts may differ.
async fn arrive_as_numbers(cluster: &Whole, session: &Session, values: &[(&str, Value)]) {
    let list = values.iter().map(|(text, _)| *text).collect::<Vec<_>>().join(",");
    for padding in [0, 8_000] {
        let args = format!("[[{list}],\"{}\"]", "p".repeat(padding));
        session.execute_typed("SELECT socket_io.emit('numbers', $1::text::jsonb)", &[&args]).await;
    }
    for client in cluster.clients() {
        let received = client.wait_for(2).await;
        assert_eq!(received.len(), 2);
        for received in received {
            let numbers: Vec<_> =
                received.args[0].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect();
            let expected: Vec<_> = values.iter().map(|(_, value)| value.as_f64().unwrap()).collect();
            assert_eq!(numbers, expected);
        }
    }
}

#[tokio::test]
async fn arguments_are_none_one_or_several_as_json_or_as_text() {
    let (cluster, session) = cluster().await;
    for (arguments, expected) in [
        ("", json!([])),
        (", '[]'", json!([])),
        (", '[1, \"two\", [3], null]'", json!([1, "two", [3], null])),
        (", '[[1, 2]]'", json!([[1, 2]])),
        (", '{\"EUR\": 42.5}'", json!([{"EUR": 42.5}])),
        (", '\"text\"'", json!(["text"])),
        (", 'null'", json!([null])),
        (", NULL::jsonb", json!([null])),
        (", to_jsonb('text'::text)", json!(["text"])),
        (", jsonb_build_object('a', 1)", json!([{"a": 1}])),
        (", ('[1' || ', 2]')::text", json!([1, 2])),
        (", bytea '\\xcafe'", json!([binary("yv4=")])),
        (", ''::bytea", json!([binary("")])),
        (", NULL::bytea", json!([null])),
        (", convert_to('hé', 'UTF8')", json!([binary("aMOp")])),
    ] {
        session.execute(&format!("SELECT socket_io.emit('e'{arguments})")).await;
        for client in cluster.clients() {
            client.wait_for(1).await;
            assert_eq!(client.drain().await, [event("e", expected.clone())], "{arguments}");
        }
    }
}

#[tokio::test]
async fn sizes_up_to_five_megabytes() {
    let (cluster, session) = cluster().await;
    let sizes = [1, 255, 256, 7_000, 9_000, 65_536, 100_000, 1_000_000, 5_000_000];
    let bytes = |size: usize| (0..size).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>();
    for size in sizes {
        let length = i32::try_from(size).unwrap();
        let text = "SELECT socket_io.emit('text', to_jsonb(repeat('x', $1)))";
        session.execute_typed(text, &[&length]).await;
        session.execute_typed("SELECT socket_io.emit('bytes', $1::bytea)", &[&bytes(size)]).await;
        // Half of the size is in small objects.
        let list =
            "SELECT socket_io.emit('list', jsonb_build_array((SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', n, 'name', 'nö ' || n, 'price', n * 1.01, 'tags', '[true, null]'::jsonb)), '[]')
            FROM generate_series(1, $1 / 140) AS n)))";
        session.execute_typed(list, &[&length]).await;
    }
    for client in cluster.clients() {
        let received = client.wait_for(3 * sizes.len()).await;
        assert_eq!(received.len(), 3 * sizes.len());
        let has =
            |event: &str, arg: Value| received.iter().any(|e| e.event == event && e.args == [arg.clone()]);
        for size in sizes {
            assert!(has("text", json!("x".repeat(size))), "text of {size}");
            assert!(has("bytes", binary(&STANDARD.encode(bytes(size)))), "bytes of {size}");
            let lists = received.iter().filter(|e| e.event == "list").map(|e| e.args[0].as_array().unwrap());
            let list =
                lists.into_iter().find(|list| list.len() == size / 140).expect("a list of that length");
            for (item, n) in list.iter().zip(1_u32..) {
                assert_eq!(item["id"], n);
                assert_eq!(item["name"], format!("nö {n}"));
                assert_eq!(item["price"].as_f64(), Some(f64::from(n) * 101.0 / 100.0));
                assert_eq!(item["tags"], json!([true, null]));
            }
        }
    }
}

#[tokio::test]
async fn every_size_around_the_limit_of_a_notification() {
    let (cluster, session) = cluster().await;
    let sizes: Vec<i32> = (7_900..=8_100).collect();
    for size in &sizes {
        // One by one, and a second time in one transaction each.
        session.execute_typed("SELECT socket_io.emit('alone', to_jsonb(repeat('x', $1)))", &[size]).await;
    }
    session
        .execute("SELECT socket_io.emit('together', to_jsonb(repeat('x', size))) FROM generate_series(7700, 8100) AS size")
        .await;
    for client in cluster.clients() {
        let received = client.wait_for(201 + 401).await;
        for (name, expected) in [("alone", 7_900..=8_100), ("together", 7_700..=8_100)] {
            let events = received.iter().filter(|event| event.event == name);
            let mut lengths: Vec<_> = events.map(|event| event.args[0].as_str().unwrap().len()).collect();
            lengths.sort_unstable();
            assert!(lengths.iter().copied().eq(expected), "{name}: {lengths:?}");
        }
    }
    let inline = "SELECT (SELECT count(*) FROM socket_io_attachments) BETWEEN 200 AND 500";
    assert!(session.query_one(inline, &[]).await.unwrap().get::<_, bool>(0), "some inline, some attached");
}

#[tokio::test]
async fn exactly_the_clients_that_are_meant_receive() {
    let (cluster, session) = cluster().await;
    let admins =
        futures_util::future::join_all(cluster.mixed.servers.iter().map(|server| server.client("/admin")))
            .await;
    for (client, rooms) in [(0, &["a"][..]), (1, &["b"]), (2, &["a", "b"]), (3, &["a", "it's \"ü\""])] {
        cluster.join(client, rooms).await;
    }
    let first = cluster.clients()[0].id().to_owned();
    for (arguments, expected) in [
        ("'[1]'", &[0, 1, 2, 3][..]),
        ("rooms => '{a}'", &[0, 2, 3]),
        ("rooms => '{a,b}'", &[0, 1, 2, 3]),
        ("rooms => '{a,b}', except_rooms => '{b}'", &[0, 3]),
        ("except_rooms => ARRAY['a', 'nobody']", &[1]),
        ("rooms => ARRAY['it''s \"ü\"'], volatile => true, compress => false", &[3]),
        ("bytea '\\x01', rooms => '{b}'", &[1, 2]),
        ("to_jsonb(repeat('x', 9000)), rooms => '{b}', except_rooms => '{a}'", &[1]),
        (&format!("rooms => ARRAY['{first}']"), &[0]),
        (&format!("except_rooms => ARRAY['{first}']"), &[1, 2, 3]),
        ("rooms => '{nobody}'", &[]),
        ("namespace => '/admin'", &[]),
    ] {
        session.execute(&format!("SELECT socket_io.emit('e', {arguments}), socket_io.emit('end')")).await;
        for (place, client) in cluster.clients().into_iter().enumerate() {
            client.wait_for_event("end").await;
            let is_meant = expected.contains(&place);
            if is_meant {
                // The attachment may arrive later.
                client.wait_for_event("e").await;
            }
            let count = client.drain().await.iter().filter(|event| event.event == "e").count();
            assert_eq!(count, usize::from(is_meant), "{arguments} at client {place}");
        }
    }
    session.execute("SELECT socket_io.emit('end', namespace => 'admin')").await;
    for admin in admins {
        let received = admin.wait_for(2).await;
        assert_eq!(received, [event("e", json!([])), event("end", json!([]))]);
    }
}

#[tokio::test]
async fn sockets_are_moved_and_disconnected_and_server_side_events_arrive() {
    let (cluster, session) = cluster().await;
    cluster.join(0, &["r1"]).await;
    cluster.join(3, &["r1"]).await;
    session.execute("SELECT socket_io.join('{vip,gold}', rooms => '{r1}')").await;
    session.execute("SELECT socket_io.leave(ARRAY['r1'], except_rooms => '{nobody}')").await;
    session
        .execute("SELECT socket_io.emit('e', rooms => '{r1}'), socket_io.emit('vip', rooms => '{vip}')")
        .await;
    session.execute("SELECT socket_io.emit('gold', rooms => '{gold}'), socket_io.emit('end')").await;
    for (place, client) in cluster.clients().into_iter().enumerate() {
        let expected: &[&str] = if [0, 3].contains(&place) { &["vip", "gold", "end"] } else { &["end"] };
        client.wait_for_event("end").await;
        let names: Vec<_> = client.drain().await.into_iter().map(|event| event.event).collect();
        assert_eq!(names, expected, "client {place}");
    }
    session.execute("SELECT socket_io.server_side_emit('hello', '[\"world\", 2]')").await;
    session.execute("SELECT socket_io.server_side_emit('photo', bytea '\\xcafe')").await;
    session.execute("SELECT socket_io.server_side_emit('big', to_jsonb(repeat('x', 9000)))").await;
    for server in &cluster.mixed.servers {
        let received = sorted(server.wait_for("/", 3).await);
        let expected = [
            event("big", json!(["x".repeat(9000)])),
            event("hello", json!(["world", 2])),
            event("photo", json!([binary("yv4=")])),
        ];
        assert_eq!(received, expected);
    }
    session.execute("SELECT socket_io.disconnect(rooms => '{vip}'), socket_io.disconnect(true, except_rooms => '{vip}')").await;
    for client in cluster.clients() {
        let reason = client.wait_for_disconnect().await;
        assert!(["io server disconnect", "transport close"].iter().any(|known| reason == *known), "{reason}");
    }
}

/// No server counts the database as a server.
#[tokio::test]
async fn no_server_counts_it() {
    let (cluster, session) = cluster().await;
    cluster
        .undisturbed(async {
            for _ in 0..20 {
                session.execute("SELECT socket_io.emit('e'), socket_io.emit('e', bytea '\\x01')").await;
                session.execute("SELECT socket_io.server_side_emit('e'), socket_io.join('{a}')").await;
            }
        })
        .await;
}
