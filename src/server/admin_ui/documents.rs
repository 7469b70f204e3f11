//! The events of the Admin UI, as `@socket.io/admin-ui` sends them.

use std::time::{Duration, SystemTime};

use super::ui_state::ChangeKind;
use crate::adapter::{Sid, client_id};
use crate::protocol::{Date, EventArgs, Object, Value};
use crate::server::traffic::Counted;

/// The maximum number of namespaces in the statistics. It makes the statistics fit into a notification.
const MAX_LISTED_NAMESPACES: usize = 50;

/// The server, as the UI lists it.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) server_id: String,
    pub(super) hostname: String,
    pub(super) pid: u32,
}

/// The clients of the server.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) clients: usize,
    /// The number of these clients that use long polling.
    pub(super) polling: usize,
    /// The namespaces with the number of their sockets.
    pub(super) namespaces: Vec<(String, usize)>,
}

/// `server_stats`.
pub(super) fn server_stats(
    identity: &Identity,
    uptime: Duration,
    counts: Counts,
    counted: Counted,
    now: SystemTime,
) -> EventArgs {
    let Counts { clients, polling, mut namespaces } = counts;
    namespaces.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
    namespaces.truncate(MAX_LISTED_NAMESPACES);
    // The UI merges the list by index.
    namespaces.sort();
    let namespaces = namespaces
        .into_iter()
        .map(|(name, sockets)| object([("name", name.into()), ("socketsCount", number(sockets as u64))]));
    let stats = object([
        ("serverId", identity.server_id.as_str().into()),
        ("hostname", identity.hostname.as_str().into()),
        ("pid", identity.pid.into()),
        ("uptime", uptime.as_secs_f64().into()),
        ("clientsCount", number(clients as u64)),
        ("pollingClientsCount", number(polling as u64)),
        ("aggregatedEvents", Value::Array(aggregated(counted, now))),
        ("namespaces", Value::Array(namespaces.collect())),
    ]);
    EventArgs::new("server_stats", [stats])
}

/// The traffic since the last statistics, with the current second as its timestamp.
fn aggregated(counted: Counted, now: SystemTime) -> Vec<Value> {
    let millis = Date::from(now).as_millis();
    let timestamp = millis - millis.rem_euclid(1000);
    let counts = [
        ("rawConnection", counted.connections),
        ("rawDisconnection", counted.disconnections),
        ("bytesIn", counted.received),
        ("bytesOut", counted.sent),
    ];
    let event = |(name, count): (&str, u64)| {
        object([("timestamp", timestamp.into()), ("type", name.into()), ("count", number(count))])
    };
    counts.into_iter().filter(|(_, count)| *count > 0).map(event).collect()
}

/// The event for a change of a socket. `reason` is the reason of a disconnect, as Node names it.
///
/// `described` returns the handshake and the data of a socket that has connected, or `None` if the socket has left by
/// now.
pub(super) fn change(
    nsp: &str,
    sid: Sid,
    what: &ChangeKind,
    reason: &str,
    now: SystemTime,
    described: impl FnOnce() -> Option<(Value, Value)>,
) -> Option<EventArgs> {
    let (id, time) = (Value::from(sid.as_str()), Value::Date(Date::from(now)));
    let event = match what {
        ChangeKind::Connected(present) => {
            let (handshake, data) = described()?;
            let rooms = present.rooms.iter().filter(|room| *room != sid.as_str());
            let rooms = std::iter::once(id.clone()).chain(rooms.map(|room| Value::from(room.as_str())));
            let socket = object([
                ("id", id.clone()),
                ("clientId", client_id(sid).into()),
                ("transport", present.transport.into()),
                ("nsp", nsp.into()),
                ("data", without(data, "_admin")),
                // As in Node.
                ("handshake", without(handshake, "auth")),
                ("rooms", Value::Array(rooms.collect())),
            ]);
            EventArgs::new("socket_connected", [socket, time])
        }
        ChangeKind::Upgraded(transport) => {
            let socket = object([("id", id), ("nsp", nsp.into()), ("transport", (*transport).into())]);
            EventArgs::new("socket_updated", [socket])
        }
        ChangeKind::Joined(room) => {
            EventArgs::new("room_joined", [nsp.into(), room.as_str().into(), id, time])
        }
        ChangeKind::Left(room) => EventArgs::new("room_left", [nsp.into(), room.as_str().into(), id, time]),
        ChangeKind::Disconnected => {
            EventArgs::new("socket_disconnected", [nsp.into(), id, reason.into(), time])
        }
    };
    Some(event)
}

fn without(value: Value, key: &str) -> Value {
    match value {
        Value::Object(mut entries) => {
            entries.shift_remove(key);
            Value::Object(entries)
        }
        // The UI merges the data, so it has to be an object.
        Value::Null => Value::Object(Object::new()),
        other => other,
    }
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn number(count: u64) -> Value {
    count.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::super::ui_state::ConnectedSocket;
    use super::*;

    fn json_of(event: EventArgs) -> serde_json::Value {
        serde_json::to_value(event).unwrap()
    }

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn identity() -> Identity {
        Identity { server_id: "h#7".into(), hostname: "h".into(), pid: 7 }
    }

    #[test]
    fn the_statistics_have_the_shape_of_the_package() {
        let namespaces = vec![("/b".to_owned(), 1), ("/".to_owned(), 2)];
        let counts = Counts { clients: 3, polling: 1, namespaces };
        let counted = Counted { connections: 2, disconnections: 0, received: 10, sent: 20 };
        let uptime = Duration::from_millis(1500);
        let stats = server_stats(&identity(), uptime, counts, counted, at(1_700_000_000_900));
        let event = |name: &str, count: u64| json!({"timestamp": 1_700_000_000_000_u64, "type": name, "count": count});
        let expected = json!(["server_stats", {
            "serverId": "h#7", "hostname": "h", "pid": 7, "uptime": 1.5, "clientsCount": 3, "pollingClientsCount": 1,
            "aggregatedEvents": [event("rawConnection", 2), event("bytesIn", 10), event("bytesOut", 20)],
            "namespaces": [{"name": "/", "socketsCount": 2}, {"name": "/b", "socketsCount": 1}],
        }]);
        assert_eq!(json_of(stats), expected);
    }

    #[test]
    fn the_statistics_fit_into_a_notification() {
        // The longest names that a channel can have, all escaped.
        let long = |n: usize| format!("/{n:05}{}", "\"".repeat(46));
        let namespaces = (0..10_000).map(|n| (long(n), n)).collect();
        let counts = Counts { clients: 10_000, polling: 0, namespaces };
        let counted = Counted { connections: 9, disconnections: 9, received: u64::MAX, sent: u64::MAX };
        let stats = server_stats(&identity(), Duration::MAX, counts, counted, SystemTime::now());
        let text = json_of(stats).to_string();
        assert!(text.len() < 7800, "{}", text.len());
        assert!(text.contains("/09999") && text.contains("/09950") && !text.contains("/09949"));
    }

    #[test]
    fn changes_have_the_shape_of_the_package() {
        let sid = Sid::new();
        let (id, client) = (sid.to_string(), sid.as_str()[..12].to_owned());
        let tell = |what: ChangeKind| {
            let handshake = json!({"headers": {}, "auth": {}, "address": "10.0.0.1"});
            let data = json!({"sub": "ada", "_admin": {"clientId": "forged"}});
            let described = || Some((Value::from(handshake), Value::from(data)));
            json_of(change("/", sid, &what, "ping timeout", at(1_700_000_000_123), described).unwrap())
        };
        let time = "2023-11-14T22:13:20.123Z";
        let rooms = BTreeSet::from(["__proto__".to_owned(), "<b>\u{0}".into()]);
        let connected = tell(ChangeKind::Connected(ConnectedSocket { transport: "polling", rooms }));
        let socket = json!({
            "id": id, "clientId": client, "transport": "polling", "nsp": "/", "data": {"sub": "ada"},
            "handshake": {"headers": {}, "address": "10.0.0.1"}, "rooms": [id, "<b>\u{0}", "__proto__"],
        });
        assert_eq!(connected, json!(["socket_connected", socket, time]));
        let upgraded = json!(["socket_updated", {"id": id, "nsp": "/", "transport": "websocket"}]);
        assert_eq!(tell(ChangeKind::Upgraded("websocket")), upgraded);
        assert_eq!(tell(ChangeKind::Joined("r".into())), json!(["room_joined", "/", "r", id, time]));
        assert_eq!(tell(ChangeKind::Left("r".into())), json!(["room_left", "/", "r", id, time]));
        assert_eq!(
            tell(ChangeKind::Disconnected),
            json!(["socket_disconnected", "/", id, "ping timeout", time])
        );
        let what = ChangeKind::Connected(ConnectedSocket { transport: "polling", rooms: BTreeSet::new() });
        assert!(change("/", sid, &what, "", SystemTime::now(), || None).is_none());
    }
}
