//! `pgio join`, `leave` and `disconnect`.

use serde_json::json;

use crate::support::node::{Client, event};
use crate::support::pgio::{pgio, run};
use crate::support::postgres::postgres;
use crate::support::whole::{Whole, whole};

/// The members of a room, by their index among the four clients. Servers process requests in order, so this sees the
/// effect of the earlier ones.
async fn members(cluster: &Whole, room: &str) -> Vec<usize> {
    let sockets =
        run(&mut pgio(cluster.url(), &["sockets", "-o", "json", "-r", room])).await.succeeded().json();
    let place = |id: &str| cluster.clients().iter().position(|client| client.id() == id);
    let mut places: Vec<_> =
        sockets.iter().map(|socket| place(socket["id"].as_str().unwrap()).unwrap()).collect();
    places.sort();
    places
}

async fn is_connected(client: &Client) -> bool {
    client.lifecycle().await == [event("connect", json!([]))]
}

#[tokio::test]
async fn sockets_join_and_leave_on_all_servers_without_joining_the_cluster() {
    let cluster = whole().await;
    let [first, .., ours] = cluster.clients();
    let quiet = cluster.run(&["join", "r1", "r2", "--yes"]).await.succeeded();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    assert_eq!(members(&cluster, "r1").await, [0, 1, 2, 3]);
    assert_eq!(members(&cluster, "r2").await, [0, 1, 2, 3]);

    cluster.run(&["leave", "r1", "--room", first.id(), "--room", ours.id()]).await.succeeded();
    assert_eq!(members(&cluster, "r1").await, [1, 2]);
    cluster.run(&["join", "r3", "r4", "--except", "r1"]).await.succeeded();
    assert_eq!(members(&cluster, "r3").await, [0, 3]);
    assert_eq!(members(&cluster, "r4").await, [0, 3]);
    cluster.run(&["join", "r5", "-r", "r2", "-x", "r3"]).await.succeeded();
    // Ids of sockets may begin like this.
    cluster.run(&["join", "r5", "-r", "-4x", "-r", "--no-such-flag", "-x", "-r"]).await.succeeded();
    assert_eq!(members(&cluster, "r5").await, [1, 2]);
    let sent = cluster.run(&["leave", "r2", "r5", "-y", "-o", "json"]).await.succeeded();
    assert_eq!(sent.json(), [json!({"sent": 1})]);
    assert_eq!(members(&cluster, "r2").await, [0; 0]);
    assert_eq!(members(&cluster, "r5").await, [0; 0]);
}

#[tokio::test]
async fn a_socket_is_known_by_the_first_characters_of_its_id() {
    let cluster = whole().await;
    let [first, _, third, ours] = cluster.clients();
    // Ids are random. This takes as many characters as make the prefix unique.
    let unique = |client: &Client| {
        let others = cluster.clients().into_iter().filter(|other| other.id() != client.id());
        let others: Vec<_> = others.map(Client::id).collect();
        let is_unique = |length: &usize| !others.iter().any(|id| id.starts_with(&client.id()[..*length]));
        client.id()[..(1..).find(is_unique).unwrap()].to_owned()
    };
    cluster.run(&["join", "vip", "--socket", &unique(first), "--socket", ours.id()]).await.succeeded();
    assert_eq!(members(&cluster, "vip").await, [0, 3]);
    cluster.run(&["emit", "--socket", &unique(ours), "hello"]).await.succeeded();
    assert_eq!(ours.wait_for(1).await, [event("hello", json!([]))]);
    let sockets = cluster.run(&["sockets", "--socket", &unique(third), "-o", "json"]).await.succeeded();
    assert_eq!(sockets.json()[0]["id"], third.id());
    cluster.run(&["leave", "vip", "--socket", &unique(first)]).await.succeeded();
    assert_eq!(members(&cluster, "vip").await, [3]);
    for arguments in [&["disconnect", "--socket"][..], &["emit", "x", "--socket"], &["tail", "--socket"]] {
        let unknown = cluster.run(&[arguments, &["no-such-id"]].concat()).await;
        assert_eq!(unknown.status, 1);
        assert_eq!(unknown.stderr, "error: no socket of / has an id that begins with no-such-id\n");
        let nothing = cluster.run(&[arguments, &[""]].concat()).await;
        assert_eq!(nothing.status, 2, "an unset variable is no prefix: {nothing:?}");
    }
    for client in cluster.clients() {
        assert!(is_connected(client).await);
    }
    cluster.run(&["disconnect", "--close", "--socket", &unique(third)]).await.succeeded();
    third.wait_for_disconnect().await;
    // Until two ids begin with the same character.
    let mut more: Vec<Client> = Vec::new();
    let letter = |client: &Client| client.id()[..1].to_owned();
    let pair = loop {
        let next = cluster.mixed.servers[0].client("/").await;
        if let Some(same) = more.iter().find(|other| letter(other) == letter(&next)) {
            break [same.id().to_owned(), next.id().to_owned()];
        }
        more.push(next);
    };
    let ambiguous = run(&mut pgio(cluster.url(), &["disconnect", "--socket", &pair[0][..1]])).await;
    assert_eq!(ambiguous.status, 1);
    let begin = format!("error: the ids of several sockets of / begin with {}: ", &pair[0][..1]);
    assert!(ambiguous.stderr.starts_with(&begin), "{ambiguous:?}");
    assert!(pair.iter().all(|id| ambiguous.stderr.contains(id)), "{ambiguous:?} {pair:?}");
}

#[tokio::test]
async fn several_namespaces_at_once() {
    let cluster = whole().await;
    let admin = cluster.mixed.servers[1].client("/admin").await;
    let sent = cluster.run(&["join", "r1", "-n", "/", "-n", "admin", "-y", "-o", "json"]).await.succeeded();
    assert_eq!(sent.json(), [json!({"sent": 2})]);
    let rooms = ["rooms", "-n", "/", "-n", "/admin", "-o", "json"];
    let sockets: Vec<_> = run(&mut pgio(cluster.url(), &rooms))
        .await
        .succeeded()
        .json()
        .iter()
        .map(|room| (room["namespace"].to_string(), room["sockets"].to_string()))
        .collect();
    assert_eq!(sockets, [("\"/\"".into(), "4".into()), ("\"/admin\"".into(), "1".into())]);
    cluster.run(&["disconnect", "-n", "admin", "--room", "r1"]).await.succeeded();
    assert_eq!(admin.wait_for_disconnect().await, "io server disconnect");
    assert_eq!(members(&cluster, "r1").await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn disconnecting_some_leaves_the_others() {
    let cluster = whole().await;
    for client in [0, 3] {
        cluster.join(client, &["r1"]).await;
    }
    let clients = cluster.clients();
    let gone = cluster.run(&["disconnect", "--room", "r1", "-o", "json"]).await.succeeded();
    assert_eq!((gone.json(), gone.stderr.as_str()), (vec![json!({"sent": 1})], ""));
    for client in [0, 3] {
        assert_eq!(clients[client].wait_for_disconnect().await, "io server disconnect");
    }
    assert!(is_connected(clients[1]).await && is_connected(clients[2]).await);
    cluster.run(&["disconnect", "--except", clients[2].id()]).await.succeeded();
    clients[1].wait_for_disconnect().await;
    assert!(is_connected(clients[2]).await);
    cluster.run(&["disconnect", "--close", "-r", clients[2].id()]).await.succeeded();
    clients[2].wait_for_disconnect().await;
}

#[tokio::test]
async fn disconnecting_everyone_needs_a_yes() {
    let cluster = whole().await;
    let database = cluster.url().rsplit('/').next().unwrap();
    for (arguments, question) in [
        (&["disconnect"][..], "disconnect all sockets of /"),
        (&["disconnect", "--close", "-n", "/", "-o", "json"], "disconnect all sockets of /"),
        (&["join", "vip"], "make all sockets of / join vip"),
        (&["leave", "lobby"], "make all sockets of / leave lobby"),
    ] {
        let refused = cluster.run(arguments).await;
        assert_eq!((refused.status, refused.stdout.as_str()), (2, ""));
        let expected = format!("error: {question} on {database} at 127.0.0.1:");
        assert!(refused.stderr.starts_with(&expected), "{refused:?}");
        assert!(refused.stderr.contains("? Without a terminal to confirm on, pass --yes\n"), "{refused:?}");
    }
    assert_eq!(members(&cluster, "vip").await, [0; 0]);
    for client in cluster.clients() {
        assert!(is_connected(client).await);
    }
    cluster.run(&["disconnect", "--yes"]).await.succeeded();
    for client in cluster.clients() {
        assert_eq!(client.wait_for_disconnect().await, "io server disconnect");
    }
}

#[tokio::test]
async fn usage() {
    let postgres = postgres().await;
    for (arguments, expected) in [
        (&["join"][..], "<ROOM>..."),
        (&["leave", "--room", "r1"], "<ROOM>..."),
        (&["disconnect", "r1"], "'r1'"),
        (&["join", "r1", "--close"], "'--close'"),
    ] {
        let outcome = run(&mut pgio(postgres.url(), arguments)).await;
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(outcome.stderr.starts_with("error: ") && outcome.stderr.contains(expected), "{outcome:?}");
    }
}
