//! `pgio tail`.

use nix::sys::signal::Signal;
use pgio::Emitter;
use pgio::postgres::private::Shutdown;
use serde_bytes::ByteBuf;
use serde_json::json;
use tempfile::TempDir;

use crate::support::attachments::{create_attachment_table, execute};
use crate::support::frozen::freeze_server;
use crate::support::mixed::mixed;
use crate::support::pgio::{Running, pgio, run};
use crate::support::postgres::{own_server, postgres};
use crate::support::schema;

async fn tail(url: &str, arguments: &[&str]) -> Running {
    let mut tail = Running::start(&mut pgio(url, &[&["tail"], arguments].concat()));
    tail.wait_for_note("listening on socket.io#/").await;
    tail
}

#[tokio::test]
async fn messages_of_servers_are_shown_and_the_tail_is_no_member() {
    let cluster = mixed().await;
    let before = cluster.server_counts().await;
    let mut tail = tail(cluster.url(), &["-o", "json"]).await;
    cluster.servers[2].io().to("r1").emit("ping", json!(["<>", {"a": 1}])).await;
    let line = tail.json().await;
    let expected = json!({
        "time": line["time"], "namespace": "/", "uid": line["uid"], "type": "broadcast", "event": "ping",
        "args": ["<>", {"a": 1}], "rooms": ["r1"], "except": [], "flags": {}, "requestId": null, "attachment": null
    });
    assert_eq!(line, expected);
    assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());

    cluster.servers[1].io().emit("photo", json!([crate::support::node::binary("AQI=")])).await;
    let line = tail.json().await;
    assert_eq!(line["args"], json!([{"$binary": "AQI="}]));
    assert!(line["attachment"]["bytes"].as_u64().unwrap() > 2, "{line}");
    assert!(line["attachment"]["id"].is_string());

    cluster.servers[0].io().sockets_join(&["x"]).await;
    let line = tail.json().await;
    assert_eq!((line["type"].as_str(), &line["join"]), (Some("sockets_join"), &json!(["x"])));
    assert_eq!(cluster.server_counts().await, before);
    tail.signal(Signal::SIGINT);
    assert_eq!(tail.end().await.status, 130);
}

#[tokio::test]
async fn the_first_characters_of_a_uid_are_enough() {
    let cluster = mixed().await;
    let live = run(&mut pgio(cluster.url(), &["nodes", "-o", "json"])).await.succeeded().json();
    let uid = live[0]["uid"].as_str().unwrap();
    let mut tail = Running::start(&mut pgio(cluster.url(), &["tail", "-o", "json", "--uid", &uid[..8]]));
    tail.wait_for_note("listening").await;
    for server in &cluster.servers {
        server.io().emit("x", json!([])).await;
    }
    let line = tail.json().await;
    assert_eq!((line["event"].as_str(), line["uid"].as_str()), (Some("x"), Some(uid)));
    let unknown = run(&mut pgio(cluster.url(), &["tail", "--uid", "nosuch"])).await;
    assert_eq!(
        (unknown.status, unknown.stderr.as_str()),
        (1, "error: no live server has a uid that begins with nosuch\n")
    );
}

#[tokio::test]
async fn each_filter_narrows() {
    let postgres = postgres().await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let mut tails = Vec::new();
    for (filter, expected) in [
        (&["--event", "chat.*"][..], "chat.one chat.three"),
        (&["--room", "r1"], "chat.one leave"),
        (&["--type", "sockets_leave", "--type", "server_side_emit"], "leave server"),
        (&["--uid", "emitter", "--event", "{other,chat.t*}"], "other chat.three"),
        (&["--uid", "6959033000000000"], ""),
        (&["-n", "admin"], "chat.admin"),
    ] {
        let mut arguments = vec!["tail", "-o", "json"];
        arguments.extend(filter);
        let mut tail = Running::start(&mut pgio(postgres.url(), &arguments));
        tail.wait_for_note("listening").await;
        tails.push((tail, expected));
    }
    emitter.to("r1").emit("chat.one", ()).await.unwrap();
    emitter.to("r2").emit("other", ()).await.unwrap();
    emitter.within("x").leave("r1").await.unwrap();
    emitter.server_side_emit("server", ()).await.unwrap();
    emitter.emit("chat.three", ()).await.unwrap();
    emitter.of("/admin").emit("chat.admin", ()).await.unwrap();
    // A wrong message would be shown before this one, which is malformed and so always shown.
    for nsp in ["/", "/admin"] {
        execute(postgres.url(), &format!("SELECT pg_notify('socket.io#{nsp}', 'end')")).await;
    }
    for (mut tail, expected) in tails {
        let mut shown = Vec::new();
        loop {
            let line = tail.json().await;
            if line.get("error").is_some() {
                break;
            }
            let name = line["event"].as_str().or(line.get("leave").map(|_| "leave"));
            shown.push(name.unwrap().to_owned());
        }
        assert_eq!(shown.join(" "), expected);
    }
}

#[tokio::test]
async fn heartbeats_are_shown_on_demand() {
    let cluster = mixed().await;
    let mut tail =
        tail(cluster.url(), &["-o", "json", "--heartbeats", "--type", "heartbeat", "--count", "1"]).await;
    let beat = tail.json().await;
    assert_eq!((beat["type"].as_str(), beat.get("event")), (Some("heartbeat"), None));
    assert_eq!(tail.end().await.status, 0);
}

#[tokio::test]
async fn it_ends_after_so_many_or_so_long() {
    let postgres = postgres().await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let two = tail(postgres.url(), &["--count", "2"]).await;
    emitter.emit_all([("a", ()), ("b", ()), ("c", ())]).await.unwrap();
    assert_eq!(two.end().await.succeeded().stdout.lines().count(), 2);
    let for_a_while = run(&mut pgio(postgres.url(), &["tail", "--for", "100ms"])).await.succeeded();
    assert_eq!(for_a_while.stdout, "");
    assert_eq!(for_a_while.stderr, "listening on socket.io#/\n");
    let silent = run(&mut pgio(postgres.url(), &["tail", "-q", "--for", "100ms"])).await.succeeded();
    assert_eq!(silent.stderr, "");
}

#[tokio::test]
async fn text_has_no_colours_in_a_pipe_and_no_escapes_ever() {
    let postgres = postgres().await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    let mut tail = tail(postgres.url(), &[]).await;
    emitter.to("r1\x1b[2J").emit("ping\n", "<\u{9b}31m>").await.unwrap();
    let line = tail.line().await;
    assert!(line.ends_with(r#" / ping\n "<\u{9b}31m>"  to r1\u{1b}[2J  from emitter"#), "{line:?}");
}

#[tokio::test]
async fn it_continues_after_a_restart_and_after_a_lost_connection() {
    let mut server = own_server().await;
    let url = server.url();
    let mut tail = tail(&url, &["-o", "json"]).await;
    let emit = async |event: &str| run(&mut pgio(&url, &["emit", event])).await.succeeded();
    emit("one").await;
    assert_eq!(tail.json().await["event"], "one");

    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'pgio'";
    execute(&url, cut).await;
    // With the time of day: a night later, the operator looks for these lines in the log.
    let warning = tail
        .wait_for_line("lost the connection to Postgres: terminating connection due to administrator command")
        .await;
    let (label, rest) = warning.split_at("warning: ".len());
    assert!(label == "warning: " && rest.as_bytes()[2] == b':' && rest.as_bytes()[5] == b':', "{warning}");
    tail.wait_for_note("reconnected after ").await;
    emit("two").await;
    assert_eq!(tail.json().await["event"], "two");

    server.take_down(Shutdown::Immediate).await.unwrap();
    server.start_again().await.unwrap();
    emit_until_heard(&url, &mut tail).await;
}

/// The tail reconnects some time after the server is up, and shows the events from then on.
async fn emit_until_heard(url: &str, tail: &mut Running) {
    let mut emit = Running::start(&mut pgio(url, &["emit", "--every", "50ms", "three"]));
    assert_eq!(tail.json().await["event"], "three");
    emit.signal(Signal::SIGINT);
    emit.wait_for_end().await;
}

/// Silence means that no event was sent, unless something says otherwise.
#[tokio::test]
async fn a_postgres_that_stands_still_is_told() {
    let server = own_server().await;
    let mut tail = tail(&server.url(), &["-o", "json"]).await;
    let frozen = freeze_server(&server);
    tail.wait_for_note("Postgres does not answer").await;
    drop(frozen);
    tail.wait_for_note("Postgres answers again after ").await;
    emit_until_heard(&server.url(), &mut tail).await;
}

#[tokio::test]
async fn a_missing_row_is_shown_as_missing() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let mut json_tail = tail(postgres.url(), &["-o", "json"]).await;
    let mut text_tail = tail(postgres.url(), &[]).await;
    let notify = r#"SELECT pg_notify('socket.io#/', '{"uid":"u","nsp":"/","type":3,"attachmentId":"99"}')"#;
    execute(postgres.url(), notify).await;
    let line = json_tail.json().await;
    assert_eq!(line["attachment"], json!({"id": "99", "missing": true}));
    assert_eq!((line["type"].as_str(), line["uid"].as_str()), (Some("broadcast"), Some("u")));
    let text = text_tail.line().await;
    assert!(text.contains("broadcast its attachment is missing"), "{text}");
}

#[tokio::test]
async fn without_the_table_each_attachment_is_missing_and_the_rest_is_shown() {
    let postgres = postgres().await;
    let mut tail = tail(postgres.url(), &["-o", "json"]).await;
    let notify = r#"SELECT pg_notify('socket.io#/', '{"uid":"u","nsp":"/","type":3,"attachmentId":"99"}')"#;
    execute(postgres.url(), notify).await;
    run(&mut pgio(postgres.url(), &["emit", "after"])).await.succeeded();
    let first = tail.json().await;
    assert!(first.get("error").is_some() || first["attachment"]["missing"] == true, "{first}");
    assert_eq!(tail.json().await["event"], "after");
}

#[tokio::test]
async fn nonsense_on_the_channel_is_shown_and_passed() {
    let postgres = postgres().await;
    let mut tail = tail(postgres.url(), &["-o", "json", "--event", "fine"]).await;
    for text in [
        "not json",
        "{}",
        r#"{"uid":"u","type":77}"#,
        r#"{"uid":"u","nsp":"/","type":3,"data":5}"#,
        // A message that can be decoded, with an event that is malformed.
        r#"{"uid":"u","nsp":"/","type":3,"data":{"opts":{},"packet":{"type":2,"data":[1]}}}"#,
        r#"{"uid":"u","nsp":"/","type":9,"data":{"packet":[]}}"#,
    ] {
        execute(postgres.url(), &format!("SELECT pg_notify('socket.io#/', '{text}')")).await;
        let line = tail.json().await;
        assert!(line["error"].as_str().is_some_and(|error| error.starts_with("cannot decode")), "{line}");
    }
    run(&mut pgio(postgres.url(), &["emit", "fine"])).await.succeeded();
    assert_eq!(tail.json().await["event"], "fine");
}

#[tokio::test]
async fn attachments_are_saved() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let directory = TempDir::new().unwrap();
    let target = directory.path().join("deep/saved");
    let mut tail = tail(postgres.url(), &["-o", "json", "--save", target.to_str().unwrap()]).await;
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.emit("inline", 1).await.unwrap();
    emitter.emit("two", (ByteBuf::from([1, 2]), json!({"n": 1}), ByteBuf::from([3]))).await.unwrap();
    tail.line().await;
    let id = tail.json().await["attachment"]["id"].as_str().unwrap().to_owned();
    let read = |name: &str| std::fs::read(target.join(format!("{id}.{name}"))).unwrap();
    assert_eq!((read("1.bin"), read("2.bin")), (vec![1, 2], vec![3]));
    let line: serde_json::Value = serde_json::from_slice(&read("json")).unwrap();
    schema::check("event-line", &line);
    assert_eq!(line["event"], "two");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 3);
}

#[tokio::test]
async fn raw_output_is_the_notification() {
    let postgres = postgres().await;
    let mut tail = tail(postgres.url(), &["--raw", "--count", "1"]).await;
    let text = r#"{"uid":"u","nsp":"/","type":3,"data":{"opts":{},"packet":{"type":2,"data":["e"]}}}"#;
    execute(postgres.url(), &format!("SELECT pg_notify('socket.io#/', '{text}')")).await;
    assert_eq!(tail.line().await, format!("socket.io#/\t{text}"));
}

#[tokio::test]
async fn a_closed_pipe_ends_it_quietly() {
    let postgres = postgres().await;
    let tail = tail(postgres.url(), &["-o", "json"]).await;
    let ended = tokio::spawn(tail.end_without_reader());
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    while !ended.is_finished() {
        emitter.emit("x", ()).await.unwrap();
    }
    assert_eq!(ended.await.unwrap(), (0, "listening on socket.io#/\n".to_owned()));
}

#[tokio::test]
async fn another_prefix_is_another_cluster() {
    let postgres = postgres().await;
    let mut tail =
        Running::start(&mut pgio(postgres.url(), &["tail", "--channel-prefix", "chat", "-o", "json"]));
    tail.wait_for_note("listening on chat#/").await;
    run(&mut pgio(postgres.url(), &["emit", "ours"])).await.succeeded();
    run(pgio(postgres.url(), &["emit", "theirs"]).env("PGIO_CHANNEL_PREFIX", "chat")).await.succeeded();
    assert_eq!(tail.json().await["event"], "theirs");
}
