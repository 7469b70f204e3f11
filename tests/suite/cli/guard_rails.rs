//! Mistakes that must not reach clients: an empty room, a misspelt flag, a duration without a unit.

use serde_json::json;

use crate::support::node::event;
use crate::support::pgio::{bare, pgio, run};
use crate::support::postgres::postgres;
use crate::support::terminal::Terminal;
use crate::support::whole::whole;

#[tokio::test]
async fn nothing_is_sent_to_fewer_sockets_than_expected() {
    let cluster = whole().await;
    for client in [0, 3] {
        cluster.join(client, &["r1"]).await;
    }
    let refused = |text: &str| format!("error: {text}; nothing was sent\n");
    for (arguments, found) in [
        (
            &["emit", "-r", "r1", "--expect", "3", "lost"][..],
            "found 2 sockets, and 3 are expected: room r1 of /",
        ),
        (
            &["emit", "-r", "nosuch", "--expect", "1", "x"],
            "found 0 sockets, and 1 is expected: room nosuch of /",
        ),
        (
            &["join", "r2", "-r", "r1", "--expect", "3"],
            "found 2 sockets, and 3 are expected: the sockets in r1 of /",
        ),
        (
            &["disconnect", "-r", "r1", "--expect", "3"],
            "found 2 sockets, and 3 are expected: the sockets in r1 of /",
        ),
    ] {
        let outcome = cluster.run(arguments).await;
        assert_eq!((outcome.status, outcome.stderr.as_str()), (4, refused(found).as_str()), "{arguments:?}");
    }
    cluster.run(&["emit", "-r", "r1", "--expect", "2", "found"]).await.succeeded();
    for client in [0, 3] {
        let client = cluster.clients()[client];
        assert_eq!(client.wait_for(1).await, [event("found", json!([]))]);
    }
    let unknown = cluster.run(&["emit", "-n", "nosuch", "--expect", "1", "x"]).await;
    assert_eq!(unknown.status, 4);
    assert!(unknown.stderr.contains("no server is live in /nosuch"), "{unknown:?}");
}

#[tokio::test]
async fn fewer_acknowledgements_may_be_required() {
    let cluster = whole().await;
    for client in &cluster.mixed.clients {
        client.answer("q", json!(1)).await;
    }
    let ask = ["emit", "--ack", "--timeout", "700ms", "-o", "json", "--min-acks"];
    let enough = cluster.run(&[&ask[..], &["3", "q"]].concat()).await.succeeded();
    let lines = enough.json();
    assert_eq!(lines.len(), 4, "{enough:?}");
    assert_eq!((&lines[3]["acks"], &lines[3]["expected"]), (&json!(3), &json!(4)));
    assert_eq!(lines[3]["silent"].as_array().unwrap().len(), 1);
    let too_few = cluster.run(&[&ask[..], &["4", "q"]].concat()).await;
    let expected = "error: 3 clients acknowledged within 700ms, and 4 are required\n";
    assert_eq!((too_few.status, too_few.stderr.as_str()), (4, expected));

    let nobody = cluster.run(&["emit", "--ack", "-r", "nosuch", "q"]).await.succeeded();
    assert_eq!(nobody.stderr, "warning: no client received the event: no socket matches room nosuch of /\n");
    let nobody = cluster.run(&["emit", "--ack", "-r", "nosuch", "--min-acks", "1", "q"]).await;
    let expected =
        "error: no client received the event, and 1 is required: no socket matches room nosuch of /\n";
    assert_eq!((nobody.status, nobody.stderr.as_str()), (4, expected));
    let nobody = cluster.run(&["emit", "--ack", "-n", "nosuch", "--min-acks", "1", "q"]).await;
    let expected = "error: no client received the event, and 1 is required: no server is live in /nosuch\n";
    assert_eq!((nobody.status, nobody.stderr.as_str()), (4, expected));
}

#[tokio::test]
async fn rooms_and_sockets_are_limited_and_counted() {
    let cluster = whole().await;
    cluster.join(0, &["r1", "r2", "r3"]).await;
    let rooms = cluster.run(&["rooms", "--sort", "room", "--limit", "2", "-o", "json"]).await.succeeded();
    let names: Vec<_> = rooms.json().into_iter().map(|room| room["room"].clone()).collect();
    assert_eq!((names, rooms.stderr.as_str()), (vec![json!("r1"), json!("r2")], "1 more room; 3 in all\n"));
    let sockets = cluster.run(&["sockets", "--limit", "1", "-o", "json"]).await.succeeded();
    assert_eq!((sockets.json().len(), sockets.stderr.as_str()), (1, "3 more sockets; 4 in all\n"));
    let few = cluster.run(&["rooms", "--min", "4", "--count"]).await;
    assert_eq!(
        (few.status, few.stdout.as_str(), few.stderr.as_str()),
        (4, "3\n", "error: 3 rooms, and 4 are required\n")
    );
    cluster.run(&["sockets", "--min", "4", "-q"]).await.succeeded();
    let empty = cluster.run(&["rooms", "-n", "nosuch"]).await.succeeded();
    assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("", "no server is live in /nosuch\n"));
}

#[tokio::test]
async fn wide_lines_are_whole_on_a_terminal() {
    let cluster = whole().await;
    let long = "long-name-of-a-room-".repeat(6);
    cluster.join(0, &[&long]).await;
    let cut = Terminal::start((60, 40), cluster.url(), &[], &["rooms"]).ends_with(0).await;
    assert!(cut.contains('…') && !cut.replace('\n', "").contains(&long), "{cut}");
    let whole = Terminal::start((60, 40), cluster.url(), &[], &["rooms", "--wide"]).ends_with(0).await;
    assert!(whole.replace('\n', "").contains(&long), "{whole}");
}

#[tokio::test]
async fn a_request_without_target_sockets_warns_on_a_terminal() {
    let cluster = whole().await;
    cluster.join(0, &["lobby"]).await;
    let nobody = "warning: no socket matches: the sockets in NOSUCH of /";
    for command in [&["disconnect"][..], &["join", "a"], &["leave", "lobby"]] {
        let screen = async |room| {
            let arguments = [command, &["--room", room]].concat();
            Terminal::start((120, 24), cluster.url(), &[], &arguments).ends_with(0).await
        };
        assert!(screen("NOSUCH").await.contains(nobody), "{command:?}");
        // Scripts use --expect, so the command does not check the room for them.
        let quiet = cluster.run(&[command, &["--room", "NOSUCH"]].concat()).await.succeeded();
        assert_eq!(quiet.stderr, "");
        if command[0] == "leave" {
            let found = screen("lobby").await;
            assert!(
                !found.contains("warning") && found.contains("requested that the sockets in lobby"),
                "{found}"
            );
        }
    }
}

#[tokio::test]
async fn slips_of_the_command_line_are_refused_with_the_right_hint() {
    for (arguments, error, hint) in [
        (
            &["emit", "--ack", "--timeout", "5", "x"][..],
            "invalid value '5' for '--timeout <TIME>': a time needs a unit: 5s or 5ms",
            "--help lists the commands and flags",
        ),
        (&["emit", "--romm", "r1", "x"], "unexpected argument '--romm' found", "did you mean --room?"),
        (&["emti", "x"], "unrecognized subcommand 'emti'", "did you mean emit?"),
        (&["watch"], "unrecognized subcommand 'watch'", "--help lists the commands and flags"),
    ] {
        let outcome = run(&mut bare(arguments)).await;
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert_eq!(outcome.stderr, format!("error: {error}\nhint: {hint}\n"));
    }
    let postgres = postgres().await;
    let broken = run(&mut pgio(postgres.url(), &["emit", "price", "{EUR:42.5}"])).await;
    assert_eq!(broken.status, 2);
    assert!(broken.stderr.starts_with("error: argument {EUR:42.5} is not JSON: "), "{broken:?}");
    assert!(broken.stderr.ends_with("hint: --string sends every argument as text\n"), "{broken:?}");
    run(&mut pgio(postgres.url(), &["emit", "--string", "price", "{EUR:42.5}"])).await.succeeded();
    // The name of the option in other tools.
    run(&mut pgio(postgres.url(), &["emit", "--to", "lobby", "hello"])).await.succeeded();
}
