//! How long a request waits for peers that it does not know yet.

use super::*;
use crate::cluster::state::{ListeningSession, Unresponsive};
use crate::protocol::{BroadcastOptions, Instance, Namespace};

/// A server that does not respond sends no heartbeat in time, but its session in Postgres shows that it listens.
#[test]
fn a_request_waits_for_all_servers_that_listen() {
    let start = Instant::now();
    let at = |seconds: f32| start + Duration::from_secs_f32(seconds);
    let (id, channel) = (RequestId::from("1"), Namespace::default().channel("socket.io").unwrap());
    let (pgio, other) = (Instance::from(7), Instance::from(8));
    let session = |pid| ListeningSession::new(pid, None);
    let reading = |node: &[i32], of_pgio: &[(Instance, i32)]| {
        Some(Arc::new(ListeningSessions {
            node: node.iter().copied().map(session).collect(),
            pgio: of_pgio.iter().map(|(instance, pid)| (*instance, session(*pid))).collect(),
            instances: [pgio, other].into(),
        }))
    };
    let answer = Body::FetchSocketsResponse { request_id: id.clone(), sockets: Vec::new() };
    let answered = |requests: &mut Requests, uid: Uid, seconds| {
        requests.on_peer_found(at(seconds), &id, &uid, Change::Found);
        requests.on_answer(at(seconds), &channel, &id, &uid, Cow::Borrowed(&answer)).unwrap().1
    };
    // After the discovery, with an answer of a Node server and of a pgio node.
    let discovered = || {
        let mut requests = Requests::default();
        requests.insert(NewRequest {
            id: id.clone(),
            channel: channel.clone(),
            namespace: Namespace::default(),
            sender: Uid::emitter(),
            body: Body::FetchSockets { opts: BroadcastOptions::default(), request_id: id.clone() },
            deadline: at(20.0),
            awaits_listening: true,
        });
        requests.send(start, &id, Duration::from_secs(10), |_| None).unwrap();
        requests.on_published(&id, Ok(()));
        requests.on_loopback(start, &id, None);
        assert!(matches!(answered(&mut requests, "node".into(), 0.01), RequestStep::Wait));
        assert!(matches!(answered(&mut requests, pgio.uid(1), 0.01), RequestStep::Wait));
        let discovered = start + DISCOVERY;
        assert!(requests.take_due(discovered).contains(&id));
        let step = requests.on_timeout(discovered, &id);
        assert!(matches!(step, RequestStep::Wait), "which servers listen is not read yet");
        requests
    };
    let ends = |step: RequestStep| match step {
        RequestStep::Finish(Ok(summary)) => Some(summary),
        RequestStep::Finish(Err(error)) => panic!("{error}"),
        RequestStep::Wait => None,
    };

    let mut requests = discovered();
    let all = ends(requests.on_listening(&id, reading(&[1], &[(pgio, 2)]))).expect("all have answered");
    assert!(all.is_complete() && all.nodes == 2, "{all:?}");
    // After a failed reading the request waits for those that it has found, or for those of the one before.
    assert!(ends(discovered().on_listening(&id, None)).unwrap().is_complete());
    let mut requests = discovered();
    assert!(ends(requests.on_listening(&id, reading(&[1, 3], &[(pgio, 2)]))).is_none());
    assert!(ends(requests.on_listening(&id, None)).is_none());

    // A Node server and a pgio node do not respond until the deadline.
    let mut requests = discovered();
    assert!(ends(requests.on_listening(&id, reading(&[1, 3], &[(pgio, 2), (other, 4)]))).is_none());
    assert!(requests.take_due(at(19.9)).is_empty() && requests.take_due(at(20.0)).contains(&id));
    let summary = ends(requests.on_timeout(at(20.0), &id)).unwrap();
    assert!(!summary.is_complete() && summary.silent.is_empty(), "{summary:?}");
    let Unresponsive { node_servers, node_sessions, pgio: of_pgio, .. } = summary.unresponsive;
    assert_eq!((node_servers, node_sessions.len(), of_pgio), (1, 2, vec![session(4)]));

    // The session of the unresponsive one ends.
    let mut requests = discovered();
    assert!(ends(requests.on_listening(&id, reading(&[1, 3], &[(pgio, 2)]))).is_none());
    assert!(ends(requests.on_listening(&id, reading(&[1], &[(pgio, 2)]))).unwrap().is_complete());

    // The one that has answered leaves, and its session with it: the other one still does not respond.
    let mut requests = discovered();
    assert!(ends(requests.on_listening(&id, reading(&[1, 3], &[(pgio, 2)]))).is_none());
    assert!(ends(requests.on_peer_left(&id, &"node".into(), Departure::Goodbye)).is_none());
    assert!(ends(requests.on_listening(&id, reading(&[3], &[(pgio, 2)]))).is_none());

    // A server that starts meanwhile does not get the request, and is not unresponsive.
    let mut requests = discovered();
    assert!(ends(requests.on_listening(&id, reading(&[1, 3], &[(pgio, 2)]))).is_none());
    requests.on_peer_started(&id, &"new".into());
    assert!(ends(requests.on_listening(&id, reading(&[1, 3], &[(pgio, 2)]))).unwrap().is_complete());

    // One that goes on answers late. After that, others have as much time again.
    let mut requests = discovered();
    assert!(ends(requests.on_listening(&id, reading(&[1, 3], &[(pgio, 2)]))).is_none());
    assert!(ends(answered(&mut requests, "late".into(), 4.0)).is_none());
    assert!(requests.take_due(at(7.9)).is_empty() && requests.take_due(at(8.0)).contains(&id));
    assert!(ends(requests.on_timeout(at(8.0), &id)).unwrap().is_complete());
}

/// A Node server that collects many sockets sends its heartbeat after that.
#[test]
fn a_slow_answer_extends_the_discovery_for_other_slow_peers() {
    let start = Instant::now();
    let at = |seconds: f32| start + Duration::from_secs_f32(seconds);
    let (id, channel) = (RequestId::from("1"), Namespace::default().channel("socket.io").unwrap());
    let mut requests = Requests::default();
    let body = Body::FetchSockets { opts: BroadcastOptions::default(), request_id: id.clone() };
    requests.insert(NewRequest {
        id: id.clone(),
        channel: channel.clone(),
        namespace: Namespace::default(),
        sender: Uid::emitter(),
        body,
        deadline: at(20.0),
        awaits_listening: false,
    });
    let sent = requests.send(start, &id, Duration::from_secs(10), |_| None).unwrap();
    assert_eq!(sent.len(), 2, "with an initial heartbeat");
    let answer = Body::FetchSocketsResponse { request_id: id.clone(), sockets: Vec::new() };
    let ends = |step: RequestStep| match step {
        RequestStep::Finish(Ok(summary)) => Some(summary),
        RequestStep::Finish(Err(error)) => panic!("{error}"),
        RequestStep::Wait => None,
    };
    let answered = |requests: &mut Requests, uid: &str, seconds| {
        let (_, step) =
            requests.on_answer(at(seconds), &channel, &id, &uid.into(), Cow::Borrowed(&answer)).unwrap();
        ends(step)
    };
    assert!(ends(requests.on_published(&id, Ok(()))).is_none());
    assert!(ends(requests.on_loopback(at(0.0), &id, None)).is_none());
    requests.on_peer_found(at(0.01), &id, &"quick".into(), Change::Found);
    assert_eq!(requests.next_deadline(), Some(at(0.0) + DISCOVERY));
    assert!(requests.take_due(at(0.0) + DISCOVERY).contains(&id));
    assert!(ends(requests.on_timeout(at(0.0) + DISCOVERY, &id)).is_none(), "its answer is to come");
    assert!(answered(&mut requests, "quick", 3.0).is_none());
    requests.on_peer_found(at(4.0), &id, &"slow".into(), Change::Found);
    assert!(answered(&mut requests, "slow", 5.0).is_none());
    assert!(requests.take_due(at(9.0)).is_empty(), "others may need twice the time of the slowest answer");
    let due = requests.take_due(at(10.0));
    assert!(due.contains(&id) && requests.take_due(at(19.0)).is_empty());
    let summary = ends(requests.on_timeout(at(10.0), &id)).unwrap();
    assert!(summary.is_complete() && summary.nodes == 2, "{summary:?}");
}
