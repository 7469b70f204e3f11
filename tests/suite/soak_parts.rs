//! Tests of two parts of the soak test: the verdicts, and the proxy that breaks connections.

#[path = "../soak/clock.rs"]
#[allow(dead_code, reason = "the soak test needs more of it")]
mod clock;
#[path = "../soak/ledger.rs"]
#[allow(dead_code, reason = "the soak test needs more of it")]
mod ledger;
#[path = "../soak/proxy.rs"]
#[allow(dead_code, reason = "the soak test needs more of it")]
mod proxy;

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use clock::Moment;
use ledger::{Ledger, Receiver, Sender, ranges};
use proxy::{Mode, Proxy};

const PATIENCE: Duration = Duration::from_secs(10);
/// The time without a message after which a connection counts as silent.
const SILENCE: Duration = Duration::from_millis(200);

const FROM: Moment = Moment(0);
const UNTIL: Moment = Moment(1000);

fn sent(ledger: &Ledger, sender: Sender, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        ledger.sent(sender, number, Moment(i64::try_from(number).unwrap() * 10));
        ledger.settled(sender, number, true);
    }
}

fn received(ledger: &Ledger, pair: (Sender, Receiver), numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        ledger.received(pair, number, Moment(i64::try_from(number).unwrap() * 10 + 7));
    }
}

#[test]
fn an_acknowledged_event_that_did_not_arrive_is_lost() {
    let (ledger, way) = (Ledger::default(), (Sender::A, Receiver::B));
    sent(&ledger, Sender::A, 1..=9);
    ledger.settled(Sender::A, 4, false);
    received(&ledger, way, [1, 2, 5, 6, 9]);
    let verdict = ledger.verdict(way, FROM, UNTIL);
    assert_eq!((verdict.lost, verdict.received), (vec![3, 7, 8], 5));
    assert_eq!((verdict.first_lost, verdict.last_lost), (Some(Moment(30)), Some(Moment(80))));
    assert_eq!(verdict.slowest, Duration::from_millis(7));
    assert_eq!(ledger.answers(Sender::A, FROM, UNTIL).refused, 1);
    assert_eq!(ledger.verdict(way, Moment(50), Moment(80)).lost, [7]);
    assert_eq!(ledger.flows_since(way, Moment(65)), Some(Moment(97)));
    assert_eq!(ledger.flows_since(way, Moment(95)), None);
}

#[test]
fn the_judge_finds_duplicates_and_wrong_order() {
    let (ledger, way) = (Ledger::default(), (Sender::Emitter, Receiver::A));
    sent(&ledger, Sender::Emitter, 1..=6);
    received(&ledger, way, [1, 2, 4, 3, 3, 5, 1]);
    assert_eq!(ledger.take_disorder(way), (vec![3, 1], vec![3]));
    assert_eq!(ledger.take_disorder(way), (vec![], vec![]));
}

#[test]
fn a_node_server_is_judged_by_what_postgres_has_published() {
    let (ledger, way) = (Ledger::default(), (Sender::Node03, Receiver::A));
    sent(&ledger, Sender::Node03, 1..=5);
    // Its pool has published the second event before the first one, and has never published the fifth.
    received(&ledger, (Sender::Node03, Receiver::Witness), [2, 1, 3, 4]);
    received(&ledger, way, [2, 1, 4]);
    assert_eq!(ledger.verdict(way, FROM, UNTIL).lost, [3]);
    assert_eq!(ledger.take_disorder(way), (vec![], vec![]));
    received(&ledger, way, [3]);
    received(&ledger, (Sender::Node03, Receiver::Witness), [6, 7]);
    received(&ledger, way, [7, 6]);
    assert_eq!(ledger.take_disorder(way), (vec![], vec![6]));
}

#[test]
fn numbers_are_shown_as_ranges() {
    assert_eq!(ranges(&[3, 4, 5, 9]), "3-5, 9");
    assert_eq!(ranges(&[1, 3, 5, 7, 9, 11]), "1, 3, 5, 7 and 2 more ranges");
}

/// A proxy, and both ends of a connection through it.
async fn through_a_proxy() -> (Proxy, TcpListener, TcpStream, TcpStream) {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap().port()).await.unwrap();
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap();
    let (accepted, _) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
    (proxy, server, client, accepted)
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(SILENCE, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn a_silent_proxy_keeps_everything_and_delivers_it_in_the_end() {
    let (proxy, server, mut client, mut accepted) = through_a_proxy().await;
    proxy.set(Mode { silent_to_server: true, silent_to_client: true, ..Mode::default() });
    client.write_all(b"one").await.unwrap();
    accepted.write_all(b"two").await.unwrap();
    let mut late = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap();
    late.write_all(b"three").await.unwrap();
    drop(client);
    assert!(is_silent(&mut accepted).await);
    assert!(
        timeout(SILENCE, server.accept()).await.is_err(),
        "a new connection does not get through, either"
    );

    proxy.set(Mode::default());
    let mut text = String::new();
    timeout(PATIENCE, accepted.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "one", "and then the end");
    let (mut accepted, _) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
    let mut bytes = [0; 5];
    timeout(PATIENCE, accepted.read_exact(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(&bytes, b"three");
}

#[tokio::test]
async fn one_direction_can_be_silent_alone() {
    let (proxy, _server, mut client, mut accepted) = through_a_proxy().await;
    proxy.set(Mode { silent_to_client: true, ..Mode::default() });
    client.write_u8(1).await.unwrap();
    assert_eq!(timeout(PATIENCE, accepted.read_u8()).await.unwrap().unwrap(), 1);
    accepted.write_u8(2).await.unwrap();
    assert!(is_silent(&mut client).await);
    proxy.set(Mode::default());
    assert_eq!(timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_reset_is_a_reset_on_both_sides() {
    let (proxy, _server, mut client, mut accepted) = through_a_proxy().await;
    proxy.reset();
    for stream in [&mut client, &mut accepted] {
        let error = timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
