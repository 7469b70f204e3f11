//! The schemas of the output of commands. Every test that reads JSON of a command checks it against its schema. Here
//! are the cases without another test.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio::{Running, pgio, run};
use crate::support::schema;
use crate::support::whole::whole;

/// Visits all schemas inside of a schema, with the path of each.
fn each(schema: &Value, place: &str, see: &mut impl FnMut(&str, &Value)) {
    match schema {
        Value::Object(keys) => {
            see(place, schema);
            keys.iter().for_each(|(key, inner)| each(inner, &format!("{place}/{key}"), see));
        }
        Value::Array(items) => items.iter().for_each(|inner| each(inner, place, see)),
        _ => {}
    }
}

#[test]
fn each_schema_is_valid_strict_and_explained() {
    for (name, schema) in schema::all() {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert!(jsonschema::meta::is_valid(&schema), "{name}");
        assert!(schema["title"].is_string() && schema["description"].is_string(), "{name}");
        each(&schema, &name, &mut |place, part| {
            if part["type"] == "object" && !place.ends_with("/if") && part.get("oneOf").is_none() {
                assert_eq!(part["additionalProperties"], false, "{place}");
                assert!(part["required"].is_array(), "{place}");
            }
            // The description of a number names its unit.
            let takes = part["type"].as_str().or_else(|| part["type"][0].as_str());
            if matches!(takes, Some("integer" | "number")) {
                let said = part["description"].as_str().unwrap_or_default().to_lowercase();
                let units = [
                    "number of",
                    "milliseconds",
                    "bytes",
                    "a second",
                    "the id of",
                    "the version",
                    "process id",
                    "from 0 to 1",
                ];
                let percentiles = ["median", "percentile", "maximum"];
                let is_said = units.iter().chain(&percentiles).any(|unit| said.contains(unit));
                assert!(is_said, "{place}: {said}");
            }
        });
    }
}

#[test]
fn each_schema_is_listed_and_is_that_of_a_command() {
    let readme = include_str!("../../../schemas/README.md");
    let mut known = BTreeSet::new();
    for line in readme.lines() {
        // | `pgio emit --ack …` | [emit-ack](emit-ack.json) |
        let Some((commands, file)) = line.split_once(" | [") else { continue };
        let name = file.split(']').next().unwrap();
        assert!(file.starts_with(&format!("{name}]({name}.json)")), "{line}");
        for command in commands.split('`').skip(1).step_by(2) {
            let arguments: Vec<_> = command.split(' ').skip(1).map(str::to_owned).collect();
            assert_eq!(schema::of_command(&arguments), Some(name), "{command}");
        }
        known.insert(name.to_owned());
    }
    assert_eq!(known, schema::all().into_keys().collect());
}

#[test]
fn events_that_were_never_sent_are_a_violation() {
    schema::check("emit", &json!({"sent": 1}));
    for wrong in [json!({"sent": 1, "more": 2}), json!({}), json!({"sent": "1"}), json!({"sent": 1.5})] {
        assert!(std::panic::catch_unwind(|| schema::check("emit", &wrong)).is_err(), "{wrong}");
    }
    let beat = json!({"time": "2026-01-31T12:00:00.123Z", "namespace": "/", "uid": "u", "type": "heartbeat",
        "attachment": null});
    schema::check("event-line", &beat);
    for (key, value) in [
        ("event", json!("e")),
        ("time", json!("noon")),
        ("type", json!("broadcast")),
        ("namespace", json!("a")),
    ] {
        let mut wrong = beat.clone();
        wrong[key] = value;
        assert!(std::panic::catch_unwind(|| schema::check("event-line", &wrong)).is_err(), "{wrong}");
    }
}

/// The messages of programs and of servers of every version match the schema.
#[tokio::test]
async fn messages_of_every_type() {
    const ALL: [&str; 13] = [
        "adapter_close",
        "broadcast",
        "broadcast_ack",
        "broadcast_client_count",
        "disconnect_sockets",
        "fetch_sockets",
        "fetch_sockets_response",
        "heartbeat",
        "initial_heartbeat",
        "server_side_emit",
        "server_side_emit_response",
        "sockets_join",
        "sockets_leave",
    ];
    let cluster = whole().await;
    for client in &cluster.mixed.clients {
        client.answer("who", json!({"deep": [1, null]})).await;
        client.set_data(json!({"name": "Zoë"})).await;
    }
    for server in &cluster.mixed.servers {
        server.answer("/", "version", json!("1")).await;
    }
    let mut tail = Running::start(&mut pgio(cluster.url(), &["tail", "-o", "json", "--heartbeats"]));
    tail.wait_for_note("listening").await;
    for (arguments, status) in [
        (&["emit", "--room", "r1", "-x", "r2", "--volatile", "--compress", "false", "e"][..], 0),
        // The client of the pgio node does not answer.
        (&["emit", "--ack", "--timeout", "1s", "-o", "json", "who"], 4),
        (&["server-emit", "--ack", "version", "--timeout", "1s", "-o", "json"], 4),
        (&["sockets", "-o", "json"], 0),
        (&["join", "r1", "-y", "-o", "json"], 0),
        (&["leave", "r1", "-y", "-o", "json"], 0),
        (&["disconnect", "--room", "nobody", "-o", "json"], 0),
    ] {
        let outcome = run(&mut pgio(cluster.url(), arguments)).await;
        assert_eq!(outcome.status, status, "{arguments:?}: {outcome:?}");
        outcome.json();
    }
    let peer = NodePeer::start().await;
    for version in AdapterVersion::ALL {
        peer.server(ServerOptions::new(version, cluster.url())).await.stop().await;
    }
    let mut seen = BTreeSet::new();
    while seen.len() < ALL.len() {
        seen.insert(tail.json().await["type"].as_str().unwrap().to_owned());
    }
    assert!(seen.iter().eq(ALL.iter()), "{seen:?}");
}
