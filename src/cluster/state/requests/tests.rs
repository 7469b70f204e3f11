//! How long a request waits for peers that it does not know yet.

use super::*;
use crate::protocol::{BroadcastOptions, Instance, Namespace};

/// A Node server that stands still sends no heartbeat in time, but its session in Postgres shows that it listens.
#[test]
fn a_request_waits_for_as_many_node_servers_as_listen() {
    let start = Instant::now();
    let at = |seconds: f32| start + Duration::from_secs_f32(seconds);
    let (id, channel) = (RequestId::from("1"), Namespace::default().channel("socket.io").unwrap());
    let pgio = Instance::from(7);
    let answer = Body::FetchSocketsResponse { request_id: id.clone(), sockets: Vec::new() };
    // After a late server, others have as much time again. A session that has ended is not awaited.
    for (late, gone, ends, unheard) in
        [(Some(4.0), None, 8.0, 0), (None, Some(4.0), 4.0, 0), (None, None, 20.0, 1)]
    {
        let mut requests = Requests::default();
        requests.insert(NewRequest {
            id: id.clone(),
            channel: channel.clone(),
            namespace: Namespace::default(),
            sender: Uid::emitter(),
            body: Body::FetchSockets { opts: BroadcastOptions::default(), request_id: id.clone() },
            deadline: at(20.0),
        });
        let listening = ListeningServers { node_servers: 2, pgio: [pgio].into(), instances: [pgio].into() };
        requests.on_listening(&id, listening.clone());
        requests.send(start, &id, Duration::from_secs(10), |_| None).unwrap();
        requests.on_published(&id, Ok(()));
        requests.on_loopback(start, &id, None);
        let answered = |requests: &mut Requests, uid: Uid, seconds| {
            requests.on_peer_found(at(seconds), &id, &uid, Change::Found);
            requests.on_answer(at(seconds), &channel, &id, &uid, Cow::Borrowed(&answer)).unwrap().1
        };
        assert!(matches!(answered(&mut requests, "node".into(), 0.01), RequestStep::Wait));
        assert!(matches!(answered(&mut requests, pgio.uid(1), 0.01), RequestStep::Wait));
        let discovered = start + DISCOVERY;
        assert!(requests.take_due(discovered).contains(&id));
        assert!(matches!(requests.on_timeout(discovered, &id), RequestStep::Wait), "one has sent nothing");
        if let Some(seconds) = late {
            assert!(matches!(answered(&mut requests, "late".into(), seconds), RequestStep::Wait));
        }
        assert!(requests.take_due(at(ends - 0.1)).is_empty());
        let step = match gone {
            Some(_) => requests.on_listening(&id, ListeningServers { node_servers: 1, ..listening }),
            None => {
                assert!(requests.take_due(at(ends)).contains(&id));
                requests.on_timeout(at(ends), &id)
            }
        };
        let RequestStep::Finish(Ok(summary)) = step else { panic!("it waits after {ends} s") };
        assert_eq!(
            (summary.unheard.node_servers, summary.is_complete()),
            (unheard, unheard == 0),
            "{summary:?}"
        );
        assert!(summary.knew_peers && summary.silent.is_empty(), "{summary:?}");
    }
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
