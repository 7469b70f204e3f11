//! Features that need a terminal: live views, questions, colours, and lines that fit.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::node::{AdapterVersion, NodePeer, ServerOptions, event};
use crate::support::terminal::Terminal;
use crate::support::whole::whole;

const USUAL: (u16, u16) = (80, 24);

#[tokio::test]
async fn a_watch_is_redrawn_in_place_and_gives_the_terminal_back() {
    let cluster = whole().await;
    let terminal = Terminal::start(USUAL, cluster.url(), &[], &["nodes", "--watch"]);
    cluster
        .undisturbed(async {
            let screen = terminal.wait_for("4 live").await;
            assert!(screen.contains("UID  ") && screen.contains("q quits"), "{screen}");
        })
        .await;
    assert!(terminal.is_taken_over());
    assert!(
        terminal.screen_with_colours().contains("\x1b[38;5;2mlive"),
        "{}",
        terminal.screen_with_colours()
    );

    let peer = NodePeer::start().await;
    let server = peer.server(ServerOptions::new(AdapterVersion::V05, cluster.url())).await;
    terminal.wait_for("5 live").await;
    server.stop().await;
    terminal.wait_for("4 live, 1 gone").await;
    let screen = terminal.wait_for(" closed").await;
    // The screen shows nothing of an earlier state: two lines above the table, its titles, five nodes.
    assert_eq!(screen.trim_end().lines().count(), 8, "{screen}");

    terminal.resize(50, 6);
    let screen = terminal.wait_for("… and 3 more").await;
    assert_eq!(screen.trim_end().lines().count(), 6, "{screen}");
    terminal.resize(120, 30);
    terminal.wait_for(" closed").await;
    terminal.press(&["x", "Enter", "q"]);
    terminal.ends_with(0).await;
}

#[tokio::test]
async fn however_a_watch_ends_the_terminal_is_given_back() {
    let cluster = whole().await;
    let watch = || Terminal::start(USUAL, cluster.url(), &["NO_COLOR=1"], &["nodes", "--watch"]);
    let interrupted = watch();
    interrupted.wait_for("4 live").await;
    assert!(!interrupted.screen_with_colours().contains('\x1b'));
    interrupted.press(&["C-c"]);
    interrupted.ends_with(130).await;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let told = watch();
        told.wait_for("4 live").await;
        told.signal(signal);
        told.ends_with(130).await;
    }
}

#[tokio::test]
async fn disconnecting_all_sockets_asks_for_confirmation() {
    let cluster = whole().await;
    let ask = || Terminal::start(USUAL, cluster.url(), &[], &["disconnect"]);
    for (keys, status) in [(&["n", "Enter"][..], 1), (&["Enter"], 1), (&["C-c"], 130)] {
        let terminal = ask();
        terminal.wait_for("Disconnect all sockets of /").await;
        terminal.reads_keys().await;
        terminal.press(keys);
        terminal.ends_with(status).await;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let terminal = ask();
        terminal.wait_for("Disconnect all sockets of /").await;
        terminal.reads_keys().await;
        terminal.signal(signal);
        terminal.ends_with(130).await;
    }
    for client in cluster.clients() {
        assert_eq!(client.lifecycle().await, [event("connect", json!([]))]);
    }
    let terminal = ask();
    terminal.wait_for("Disconnect all sockets of /").await;
    terminal.press(&["y", "Enter"]);
    let screen = terminal.ends_with(0).await;
    assert!(screen.contains("requested that all sockets of / be disconnected"), "{screen}");
    for client in cluster.clients() {
        client.wait_for_disconnect().await;
    }
}

#[tokio::test]
async fn tables_fit_the_terminal_whatever_they_hold() {
    let cluster = whole().await;
    cluster.join(0, &["漢字の部屋".repeat(20).as_str(), "evil\u{1b}[2J\r\n"]).await;
    cluster.mixed.clients[0].set_data(json!({"text": "wörter ".repeat(50)})).await;
    for (columns, arguments, rows) in [
        // With the total in the last line.
        (80, &["sockets"][..], 6),
        (200, &["sockets"], 6),
        (40, &["sockets"], 6),
        (80, &["rooms"], 4),
        (40, &["rooms"], 4),
        (80, &["nodes", "-n", "/", "-n", "admin"], 9),
        (40, &["nodes"], 5),
    ] {
        let terminal = Terminal::start((columns, 40), cluster.url(), &[], arguments);
        let screen = terminal.wait_for("status 0").await;
        let table: Vec<_> = screen.lines().take_while(|line| *line != "status 0").collect();
        assert_eq!(table.len(), rows, "{columns} {arguments:?}:\n{screen}");
    }
}

#[tokio::test]
async fn changes_are_printed_for_people() {
    let cluster = whole().await;
    for (arguments, expected) in [
        (
            &["join", "r1", "r2", "-x", "staff"][..],
            "requested that all sockets except those in staff of / join r1, r2\n",
        ),
        (&["leave", "r2", "-r", "r1"], "requested that the sockets in r1 of / leave r2\n"),
        (
            &["disconnect", "-r", "r\u{1b}7"],
            "warning: no socket matches: the sockets in r\\u{1b}7 of /\n\
             requested that the sockets in r\\u{1b}7 of / be disconnected\n",
        ),
        (&["server-emit", "reload"], "sent reload to all servers of /\n"),
        (&["rooms", "none"], "no rooms\n"),
        (&["sockets", "-r", "none"], "no sockets\n"),
        (&["-q", "join", "r1", "--yes"], "status 0\n"),
    ] {
        let terminal = Terminal::start(USUAL, cluster.url(), &[], arguments);
        let screen = terminal.ends_with(0).await;
        assert!(screen.starts_with(expected), "{arguments:?}:\n{screen}");
    }
}
