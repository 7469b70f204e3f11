//! The peers of a channel: the bound, the timeouts and the locks.

use std::cell::RefCell;

use super::*;
use crate::protocol::{LivenessLock, Namespace};

#[test]
fn the_number_of_forged_peers_is_bounded_and_live_peers_stay() {
    let timeout = Duration::from_secs(10);
    let start = Instant::now();
    let mut peers = Peers::default();
    peers.on_listening(start, timeout);
    let on_message = |peers: &mut Peers, uid: &str, now| {
        let header = Header { uid: uid.into(), nsp: Namespace::default(), kind: MessageKind::Heartbeat };
        peers.on_message(&header, Some(NspSupport::WithNsp), &Instances::default(), now, timeout)
    };
    assert_eq!(on_message(&mut peers, "a live peer", start), Change::Found);
    let later = start + timeout;
    assert_eq!(on_message(&mut peers, "a live peer", later), Change::None);
    initial_heartbeat(&mut peers, start);
    assert!(peers.is_known(later));
    let uncounted = (0..50_000)
        .filter(|n| on_message(&mut peers, &format!("{n:016x}"), later) == Change::Uncounted)
        .count();
    assert_eq!((uncounted, peers.peers.len()), (50_001 - MAX_PEERS, MAX_PEERS));
    assert_eq!(on_message(&mut peers, &"x".repeat(65), later), Change::Uncounted);
    // The live peers may not be all.
    assert!(!peers.is_known(later) && !peers.is_known(later + timeout / 2));
    let long_after = later + timeout * 2;
    on_message(&mut peers, "a live peer", long_after);
    peers.prune(long_after, timeout);
    assert!(peers.is_known(long_after));
    assert_eq!(peers.live(long_after, timeout).len(), 1);
    assert!(peers.peers.capacity() < 16, "{}", peers.peers.capacity());
}

#[test]
fn a_peer_is_live_from_its_first_message_to_its_goodbye_or_its_timeout() {
    let timeout = Duration::from_secs(10);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut peers = Peers::default();
    assert!(!peers.is_known(at(20)));
    peers.on_listening(at(0), timeout);
    let on_message = |peers: &mut Peers, uid: &str, kind, now| {
        let header = Header { uid: uid.into(), nsp: Namespace::default(), kind };
        peers.on_message(&header, Some(NspSupport::WithNsp), &Instances::default(), now, timeout);
    };
    let live = |peers: &Peers, now| -> Vec<String> {
        peers.live(now, timeout).iter().map(|node| node.uid.to_string()).collect()
    };

    on_message(&mut peers, "b", MessageKind::Broadcast, at(0));
    on_message(&mut peers, "a", MessageKind::Heartbeat, at(1));
    on_message(&mut peers, "emitter", MessageKind::Broadcast, at(1));
    assert_eq!(live(&peers, at(10)), ["a", "b"]);
    assert_eq!(live(&peers, at(11)), ["a"]);
    on_message(&mut peers, "a", MessageKind::AdapterClose, at(11));
    assert!(live(&peers, at(11)).is_empty());
    on_message(&mut peers, "a", MessageKind::FetchSockets, at(12));
    assert!(live(&peers, at(12)).is_empty(), "it was published before the goodbye, and is late");
    on_message(&mut peers, "a", MessageKind::Heartbeat, at(13));
    assert_eq!(live(&peers, at(13)), ["a"]);
    on_message(&mut peers, "a", MessageKind::AdapterClose, at(14));

    assert!(!peers.is_known(at(29)), "no initial heartbeat has arrived");
    on_message(&mut peers, "emitter", MessageKind::InitialHeartbeat, at(29));
    assert!(!peers.is_known(at(29)) && peers.is_known(at(30)));
    peers.on_stall(at(30));
    assert!(!peers.is_known(at(30)));
    peers.on_listening(at(30), timeout);
    assert!(!peers.is_known(at(39)) && peers.is_known(at(40)));
    peers.on_messages_lost();
    peers.on_listening(at(50), timeout);
    assert!(!peers.is_known(at(90)));
    on_message(&mut peers, "emitter", MessageKind::InitialHeartbeat, at(51));
    assert!(!peers.is_known(at(51)) && peers.is_known(at(51) + DISCOVERY));
}

#[test]
fn a_notification_of_a_row_does_not_show_whether_messages_name_their_namespace() {
    let (now, timeout) = (Instant::now(), Duration::from_secs(10));
    let mut peers = Peers::default();
    peers.on_listening(now, timeout);
    let mut nsp_support_after = |text: &str| {
        let notification = Notification::parse(text, &Namespace::default()).unwrap();
        let nsp_support = NspSupport::of(&notification);
        peers.on_message(&notification.header, nsp_support, &Instances::default(), now, timeout);
        let uid = notification.header.uid;
        peers.live(now, timeout).into_iter().find(|node| node.uid == uid).unwrap().nsp_support
    };
    // All versions of the Node adapter write this text.
    let row = |uid: &str| format!(r#"{{"uid":"{uid}","type":3,"attachmentId":"7"}}"#);
    assert_eq!(nsp_support_after(r#"{"uid":"new","type":2,"nsp":"/"}"#), NspSupport::WithNsp);
    assert_eq!(nsp_support_after(&row("new")), NspSupport::WithNsp);
    assert_eq!(nsp_support_after(r#"{"uid":"old","type":2}"#), NspSupport::WithoutNsp);
    assert_eq!(nsp_support_after(&row("old")), NspSupport::WithoutNsp);
    // A peer that has shown nothing else yet is not taken for an old one, of which doctor warns.
    assert_eq!(nsp_support_after(&row("unknown")), NspSupport::WithNsp);
    assert_eq!(nsp_support_after(r#"{"uid":"unknown","type":2}"#), NspSupport::WithoutNsp);
    assert_eq!(
        nsp_support_after(r#"{"uid":"old","type":3,"nsp":"/","attachmentId":"7"}"#),
        NspSupport::WithNsp
    );
}

fn initial_heartbeat(peers: &mut Peers, now: Instant) {
    let kind = MessageKind::InitialHeartbeat;
    let header = Header { uid: Uid::emitter(), nsp: Namespace::default(), kind };
    peers.on_message(&header, Some(NspSupport::WithNsp), &Instances::default(), now, Duration::from_secs(10));
}

#[test]
fn a_lock_keeps_a_peer_alive_that_has_sent_a_heartbeat_since_the_last_loss() {
    let timeout = Duration::from_secs(10);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let instance = Instance::from(7);
    let uid = instance.uid(1);
    let mut peers = Peers::default();
    let instances = RefCell::new(Instances::default());
    peers.on_listening(at(0), timeout);
    let send_heartbeat = |peers: &mut Peers, now| {
        let header = Header { uid: uid.clone(), nsp: Namespace::default(), kind: MessageKind::Heartbeat };
        peers.on_message(&header, Some(NspSupport::WithNsp), &instances.borrow(), now, timeout)
    };
    let expects_heartbeats =
        |peers: &Peers, now| peers.expect_heartbeats(std::iter::empty::<&Uid>(), now, timeout);
    let apply_locks = |peers: &mut Peers, number: Option<u8>, now| {
        let locks: Vec<_> = number.map(|number| LivenessLock { instance, number }).into_iter().collect();
        instances.borrow_mut().update(&locks);
        peers.apply_locks(Some(&instances.borrow()), now).len()
    };
    assert_eq!(apply_locks(&mut peers, Some(0), at(0)), 0);
    assert!(peers.live(at(0), timeout).is_empty(), "a lock tells no namespace");
    send_heartbeat(&mut peers, at(1));
    assert!(!expects_heartbeats(&peers, at(1)));
    for second in 2..30 {
        assert_eq!(apply_locks(&mut peers, Some(second as u8), at(second)), 0);
    }
    assert_eq!(peers.live(at(29), timeout)[0].liveness, Liveness::Lock);
    assert!(!expects_heartbeats(&peers, at(29)));

    // Its session is lost. It sends heartbeats, and reconnects.
    assert_eq!(apply_locks(&mut peers, None, at(31)), 0);
    send_heartbeat(&mut peers, at(32));
    assert!(expects_heartbeats(&peers, at(32)));
    assert_eq!(apply_locks(&mut peers, None, at(33)), 0);
    assert_eq!(apply_locks(&mut peers, Some(40), at(35)), 0);
    assert!(!expects_heartbeats(&peers, at(35)));

    // A frozen process: its lock does not change.
    for second in 36..45 {
        assert_eq!(apply_locks(&mut peers, Some(40), at(second)), 0);
    }
    assert_eq!((peers.live(at(45), timeout).len(), peers.live(at(46), timeout).len()), (1, 0));
    send_heartbeat(&mut peers, at(46));
    assert_eq!(apply_locks(&mut peers, Some(41), at(47)), 0);

    // While its lock cannot be read, it expects heartbeats, and is not dead.
    assert!(peers.apply_locks(None, at(48)).is_empty());
    assert!(expects_heartbeats(&peers, at(48)));
    assert_eq!(apply_locks(&mut peers, Some(42), at(49)), 0);

    // Its goodbye may be lost.
    peers.on_messages_lost();
    peers.on_listening(at(50), timeout);
    assert_eq!(apply_locks(&mut peers, Some(43), at(50)), 0);
    assert_eq!((peers.live(at(60), timeout).len(), peers.live(at(61), timeout).len()), (1, 0));
    send_heartbeat(&mut peers, at(61));

    // It has ended.
    assert_eq!(apply_locks(&mut peers, Some(44), at(61)), 0);
    assert_eq!(apply_locks(&mut peers, None, at(63)), 0);
    assert_eq!(apply_locks(&mut peers, None, at(65)), 1);
    assert!(peers.live(at(65), timeout).is_empty());
}
