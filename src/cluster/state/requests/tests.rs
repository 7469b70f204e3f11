//! How long a request waits for peers that it does not know yet.

use super::*;
use crate::protocol::{BroadcastOptions, Namespace};

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
