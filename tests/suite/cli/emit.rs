//! `pgio emit` of one event.

use serde_json::json;
use tempfile::TempDir;

use crate::support::mixed::{mixed, mixed_with};
use crate::support::node::{binary, event};
use crate::support::pgio::{Running, bare, pgio, run, run_with_input};
use crate::support::postgres::postgres;

#[tokio::test]
async fn an_event_reaches_exactly_the_room_and_no_server_counts_us() {
    let cluster = mixed().await;
    let before = cluster.server_counts().await;
    for client in &cluster.clients {
        client.join(&["r1"]).await;
    }
    cluster.clients[1].join(&["r2"]).await;
    run(&mut pgio(cluster.url(), &["emit", "--room", "r1", "ping", "<>"])).await.succeeded();
    run(&mut pgio(cluster.url(), &["emit", "-r", "r1", "-r", "r2", "--except", "r2", "not r2"]))
        .await
        .succeeded();
    run(&mut pgio(cluster.url(), &["emit", "-r", cluster.clients[2].id(), "by id", "--compress", "false"]))
        .await
        .succeeded();
    run(&mut pgio(cluster.url(), &["emit", "-r", "nobody", "nobody"])).await.succeeded();
    run(&mut pgio(cluster.url(), &["emit", "end"])).await.succeeded();
    let (ping, end) = (event("ping", json!(["<>"])), event("end", json!([])));
    let not_r2 = event("not r2", json!([]));
    assert_eq!(cluster.clients[0].wait_for(3).await, [ping.clone(), not_r2.clone(), end.clone()]);
    assert_eq!(cluster.clients[1].wait_for(2).await, [ping.clone(), end.clone()]);
    assert_eq!(cluster.clients[2].wait_for(4).await, [ping, not_r2, event("by id", json!([])), end]);
    assert_eq!(cluster.server_counts().await, before);
}

#[tokio::test]
async fn arguments_are_json_or_text_or_files() {
    let cluster = mixed().await;
    let files = TempDir::new().unwrap();
    let file = files.path().join("bytes");
    std::fs::write(&file, [0, 1, 255]).unwrap();
    let at = format!("@{}", file.display());
    let values = ["emit", "v", "42", "-1.5", "true", "null", "[1,{\"a\":null}]", "\"42\"", "plain text", ""];
    run(&mut pgio(cluster.url(), &values)).await.succeeded();
    run(&mut pgio(cluster.url(), &["emit", "--string", "s", "42", "@x", "{}"])).await.succeeded();
    run(&mut pgio(cluster.url(), &["emit", "f", &at, r#"{"deep":[{"$binary":"AQI="}]}"#])).await.succeeded();
    let mut from_stdin = pgio(cluster.url(), &["emit", "--volatile", "i", "@-"]);
    run_with_input(&mut from_stdin, "from stdin").await.succeeded();
    for client in &cluster.clients {
        let mut events = client.wait_for(4).await;
        // Inline events may overtake events with attachments.
        events.sort_by_key(|event| event.event.clone());
        assert_eq!(
            events,
            [
                event("f", json!([binary("AAH/"), {"deep": [binary("AQI=")]}])),
                event("i", json!([binary("ZnJvbSBzdGRpbg==")])),
                event("s", json!(["42", "@x", "{}"])),
                event("v", json!([42, -1.5, true, null, [1, {"a": null}], "42", "plain text", ""])),
            ]
        );
    }
}

#[tokio::test]
async fn several_namespaces_and_json_output() {
    let cluster = mixed_with(|options| options.namespace("/").namespace("/admin")).await;
    let admin = cluster.servers[2].client("/admin").await;
    let sent = run(&mut pgio(cluster.url(), &["emit", "-n", "/", "-n", "admin", "-o", "json", "both"])).await;
    assert_eq!(sent.succeeded().json(), [json!({"sent": 2})]);
    assert_eq!(admin.wait_for(1).await, [event("both", json!([]))]);
    assert_eq!(cluster.clients[0].wait_for(1).await, [event("both", json!([]))]);
    // With output to a file or a pipe, the command prints nothing.
    let quiet = run(&mut pgio(cluster.url(), &["emit", "quiet"])).await.succeeded();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[tokio::test]
async fn acknowledgements_are_printed_and_missing_ones_are_status_4() {
    let cluster = mixed().await;
    for (client, answer) in cluster.clients.iter().zip([json!("one"), json!({"n": 2}), binary("AQI=")]) {
        client.answer("q", answer).await;
    }
    let before = cluster.server_counts().await;
    let text = run(&mut pgio(cluster.url(), &["emit", "--ack", "q", "?"])).await.succeeded();
    let mut lines: Vec<_> = text.stdout.lines().collect();
    lines.sort();
    assert_eq!(lines, ["one", r#"{"$binary":"AQI="}"#, r#"{"n":2}"#]);
    let answers = run(&mut pgio(cluster.url(), &["emit", "--ack", "-o", "json", "q", "?"])).await.succeeded();
    assert!(answers.json().contains(&json!({"answer": {"n": 2}})), "{answers:?}");
    assert_eq!(cluster.server_counts().await, before);

    cluster.clients[2].silent("q").await;
    let missing = run(&mut pgio(cluster.url(), &["emit", "--ack", "--timeout", "500ms", "q"])).await;
    assert_eq!(missing.status, 4, "{missing:?}");
    assert_eq!(missing.stdout.lines().count(), 2);
    let expected = "error: 2 of 3 clients acknowledged within 500ms";
    assert!(missing.stderr.starts_with(expected), "{missing:?}");
}

#[tokio::test]
async fn a_silent_client_of_one_namespace_does_not_keep_the_event_from_another() {
    let cluster = mixed_with(|options| options.namespace("/").namespace("/admin")).await;
    let admin = cluster.servers[2].client("/admin").await;
    admin.answer("q", json!("from admin")).await;
    cluster.clients[0].silent("q").await;
    for client in &cluster.clients[1..] {
        client.answer("q", json!("from /")).await;
    }
    let ask = ["emit", "--ack", "--timeout", "2s", "-n", "/", "-n", "/admin", "q"];
    let outcome = run(&mut pgio(cluster.url(), &ask)).await;
    assert_eq!(outcome.status, 4, "{outcome:?}");
    assert_eq!(outcome.stdout, "from /\nfrom /\nfrom admin\n");
    assert!(outcome.stderr.starts_with("error: 2 of 3 clients acknowledged within 2s"), "{outcome:?}");
}

#[tokio::test]
async fn the_time_of_a_check_is_not_that_of_the_clients() {
    let cluster = mixed().await;
    for client in &cluster.clients {
        client.answer("q", json!("yes")).await;
    }
    // The discovery of the servers alone takes half a second for the check, and again for the event.
    let ask = ["emit", "--ack", "--expect", "3", "--timeout", "900ms", "q"];
    let outcome = run(&mut pgio(cluster.url(), &ask)).await.succeeded();
    assert_eq!(outcome.stdout, "yes\nyes\nyes\n");
}

#[tokio::test]
async fn nothing_is_sent_if_one_of_the_namespaces_has_no_channel() {
    let postgres = postgres().await;
    let mut tail = Running::start(&mut pgio(postgres.url(), &["tail", "-o", "json", "--count", "1"]));
    tail.wait_for_note("listening").await;
    let long = "z".repeat(80);
    for command in
        [&["emit", "e"][..], &["emit", "--ack", "e"], &["server-emit", "e"], &["disconnect", "--yes"]]
    {
        let arguments = [command, &["-n", "/", "-n", &long]].concat();
        let outcome = run(&mut pgio(postgres.url(), &arguments)).await;
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(&long), "{outcome:?}");
    }
    run(&mut pgio(postgres.url(), &["emit", "end"])).await.succeeded();
    assert_eq!(tail.json().await["event"], "end");
}

#[tokio::test]
async fn without_a_server_there_are_no_acknowledgements() {
    let postgres = postgres().await;
    let outcome = run(&mut pgio(postgres.url(), &["emit", "--ack", "--timeout", "300ms", "q"])).await;
    assert_eq!((outcome.status, outcome.stderr.as_str()), (4, "error: no server is live in /\n"));
}

#[tokio::test]
async fn nodes_can_be_required() {
    let cluster = mixed().await;
    let before = cluster.server_counts().await;
    run(&mut pgio(cluster.url(), &["emit", "--require-nodes", "3", "enough"])).await.succeeded();
    let too_few = run(&mut pgio(cluster.url(), &["emit", "--require-nodes", "4", "too few"])).await;
    assert_eq!(too_few.status, 4);
    assert_eq!(too_few.stderr, "error: 3 servers are live in /, and 4 are required\n");
    run(&mut pgio(cluster.url(), &["emit", "end"])).await.succeeded();
    for client in &cluster.clients {
        assert_eq!(client.wait_for(2).await, [event("enough", json!([])), event("end", json!([]))]);
    }
    assert_eq!(cluster.server_counts().await, before);
}

#[tokio::test]
async fn libpq_variables_name_the_database_as_well() {
    let postgres = postgres().await;
    let config = postgres.url().parse::<tokio_postgres::Config>().unwrap();
    let mut tail = Running::start(&mut pgio(postgres.url(), &["tail", "-o", "json", "--count", "1"]));
    tail.wait_for_note("listening").await;
    let password = std::str::from_utf8(config.get_password().unwrap()).unwrap();
    let mut emit = bare(&["emit", "by variables"]);
    emit.env("PGHOST", "127.0.0.1")
        .env("PGPORT", config.get_ports()[0].to_string())
        .env("PGUSER", config.get_user().unwrap())
        .env("PGPASSWORD", password)
        .env("PGDATABASE", config.get_dbname().unwrap())
        .env("PGSSLMODE", "prefer");
    run(&mut emit).await.succeeded();
    assert_eq!(tail.json().await["event"], "by variables");
}
