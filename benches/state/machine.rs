//! Measures what one notification costs the cluster's state machine while requests are under way.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pgio::Namespace;
use pgio::cluster::state::{Arrival, ClusterState, Config, Input, NewRequest, Output, SubscriptionId};
use pgio::protocol::{Body, BroadcastOptions, EventArgs, MessageKind, RequestId, Uid};

/// How many requests may be under way at most.
pub const REQUESTS: [usize; 3] = [1, 100, 10_000];

/// The mean times of an answer and of a broadcast with so many requests under way, in nanoseconds.
pub fn nanoseconds(requests: usize, messages: usize) -> [f64; 2] {
    let (mut machine, now) = machine(requests);
    let answers: Vec<String> = (0..requests)
        .map(|id| {
            format!(r#"{{"type":12,"data":{{"requestId":"{id:016x}","packet":{{"ok":1}}}},"uid":"peer","nsp":"/"}}"#)
        })
        .collect();
    let broadcast = [concat!(
        r#"{"type":3,"data":{"packet":{"type":2,"data":["ping","text",{"a":1}]},"#,
        r#""opts":{"rooms":["r1"],"except":[],"flags":{}}},"uid":"peer","nsp":"/"}"#
    )
    .to_owned()];
    let of_answer = measure(&mut machine, now, &answers, messages);
    [of_answer, measure(&mut machine, now, &broadcast, messages)]
}

/// A machine with one subscriber to broadcasts and so many requests under way, which nobody has answered in full.
fn machine(requests: usize) -> (ClusterState, Instant) {
    let config = Config {
        channel_prefix: "socket.io".into(),
        heartbeat_interval: Duration::from_secs(5),
        heartbeat_timeout: Duration::from_secs(10),
        cleanup_interval: Duration::from_secs(30),
        always_heartbeats: false,
        max_waiting_bytes: 1 << 20,
        max_attachment: 64 << 20,
    };
    let mut machine = ClusterState::new(config);
    let now = Instant::now();
    let namespace = Namespace::default();
    let channel = namespace.channel("socket.io").expect("a short name");
    machine.handle(now, Input::Connected { listening: Vec::new(), snapshot: None });
    let interest = Box::new(|header: Option<&pgio::protocol::Header>| {
        header.is_some_and(|header| header.kind == MessageKind::Broadcast)
    });
    machine.handle(
        now,
        Input::Subscribe {
            id: SubscriptionId(1),
            channels: vec![channel.clone()],
            interest,
            wants_text: false,
        },
    );
    drain(&mut machine, now);
    machine.handle(now, Input::StatementDone(Ok(None)));
    notify(&mut machine, now, r#"{"type":2,"uid":"peer","nsp":"/"}"#);
    for id in 0..requests {
        let id = RequestId::from(format!("{id:016x}").as_str());
        let body = Body::Broadcast {
            opts: BroadcastOptions::default(),
            event: EventArgs::new("ping", []),
            request_id: Some(id.clone()),
        };
        let deadline = now + Duration::from_secs(3600);
        let (channel, namespace, sender) = (channel.clone(), namespace.clone(), Uid::emitter());
        let request = NewRequest {
            id: id.clone(),
            channel,
            namespace,
            sender,
            body,
            deadline,
            awaits_listening: false,
        };
        machine.handle(now, Input::Request(request));
        drain(&mut machine, now);
        machine.handle(now, Input::Published { request: id, outcome: Ok(()) });
    }
    (machine, now)
}

/// The mean time of a notification with these texts, one after the other, in nanoseconds.
fn measure(machine: &mut ClusterState, now: Instant, texts: &[String], messages: usize) -> f64 {
    let mut outputs = 0;
    let start = Instant::now();
    for text in texts.iter().cycle().take(messages) {
        outputs += notify(machine, now, text);
    }
    let elapsed = start.elapsed();
    assert_eq!(outputs, messages, "each notification has one consequence");
    elapsed.as_nanos() as f64 / messages as f64
}

fn notify(machine: &mut ClusterState, now: Instant, text: &str) -> usize {
    thread_local!(static CHANNEL: Arc<str> = "socket.io#/".into());
    let channel = CHANNEL.with(Arc::clone);
    let arrival = Arrival { time: SystemTime::UNIX_EPOCH, backend: None };
    machine.handle(now, Input::Notification { channel, text: text.to_owned(), arrival });
    drain(machine, now)
}

fn drain(machine: &mut ClusterState, now: Instant) -> usize {
    let mut count = 0;
    while let Some(output) = machine.poll_output(now) {
        count += usize::from(matches!(output, Output::Deliver { .. } | Output::Answer { .. }));
    }
    count
}
