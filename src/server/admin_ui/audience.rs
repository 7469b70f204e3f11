//! The audience: the instrumented Node servers, and the Admin UIs that are connected to them.
//!
//! In: broadcasts of those servers in the namespace of the Admin UI. Out: whether this server has to send anything. An
//! instrumented server broadcasts `server_stats` every 2 s, with the number of clients of its Admin UI namespace. So this
//! server sends nothing to learn whether a UI is connected.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::protocol::{EventArgs, MAX_CHANNEL_BYTES, Uid, Value};

/// The time after its last broadcast at which a server counts as gone: five intervals of the statistics.
const SERVER_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of remembered servers. Any program that may publish can forge broadcasts of more servers.
const MAX_SERVERS: usize = 256;

/// The maximum number of remembered namespaces of a server.
const MAX_NAMESPACES: usize = 1000;

/// The events that an instrumented server broadcasts in development mode only.
const VERBOSE: [&str; 7] = [
    "socket_connected",
    "socket_updated",
    "socket_disconnected",
    "room_joined",
    "room_left",
    "event_received",
    "event_sent",
];

/// A broadcast in the namespace of the Admin UI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broadcast {
    /// The statistics of a server: how many UIs are connected to it, and its namespaces.
    Stats { uis: usize, namespaces: Vec<String> },
    /// A UI has connected to the server.
    Opened,
    /// A UI has disconnected from the server.
    Closed,
    /// Any other event of a server in development mode.
    Verbose,
}

impl Broadcast {
    /// Reads an event. `admin` is the namespace of the Admin UI.
    pub(super) fn of(event: &EventArgs, admin: &str) -> Option<Self> {
        let name = event.event().ok()?;
        if !matches!(&*name, "server_stats" | "socket_connected" | "socket_disconnected") {
            // These events may be frequent, and only the fact that one arrived matters.
            return VERBOSE.contains(&&*name).then_some(Self::Verbose);
        }
        let (name, args) = event.clone().into_parts().ok()?;
        match (name.as_str(), args.first()) {
            ("server_stats", stats) => stats.map(|stats| Self::stats(stats, admin)),
            ("socket_connected", Some(socket)) if names(socket.get("nsp"), admin) => Some(Self::Opened),
            ("socket_disconnected", nsp) if names(nsp, admin) => Some(Self::Closed),
            _ => Some(Self::Verbose),
        }
    }

    fn stats(stats: &Value, admin: &str) -> Self {
        let Some(listed) = stats.get("namespaces").and_then(Value::as_array) else {
            // This version of the package sends no list of namespaces, so a UI may be connected.
            return Self::Stats { uis: 1, namespaces: Vec::new() };
        };
        let of_admin = listed.iter().find(|namespace| names(namespace.get("name"), admin));
        let uis = of_admin.and_then(|namespace| namespace.get("socketsCount")?.as_i64()).unwrap_or(0);
        let names = listed.iter().filter_map(|namespace| namespace.get("name")?.as_str());
        // No server can listen on the channel of a longer name.
        let namespaces = names.filter(|name| name.len() <= MAX_CHANNEL_BYTES).take(MAX_NAMESPACES);
        let namespaces = namespaces.map(str::to_owned).collect();
        Self::Stats { uis: usize::try_from(uis).unwrap_or(0), namespaces }
    }
}

fn names(value: Option<&Value>, name: &str) -> bool {
    value.and_then(Value::as_str) == Some(name)
}

/// The data that the connected Admin UIs show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Watching {
    /// There is no UI.
    Nothing,
    /// Servers only, since the server of each UI is in production mode.
    Servers,
    /// Servers, sockets and rooms.
    Sockets,
}

/// A UI that shows sockets has connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UiConnected {
    /// The UI has connected just now. Its server fetches the sockets of these namespaces for it.
    Now { namespaces: Vec<String> },
    /// The UI connected earlier, so it is unknown which sockets it shows.
    Before,
}

/// The mode of an instrumented server. The server does not announce it, so its broadcasts have to reveal it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Unknown,
    Development,
    Production,
}

#[derive(Debug)]
struct Instrumented {
    heard_at: Instant,
    mode: Mode,
    uis: usize,
    namespaces: Vec<String>,
}

/// The instrumented servers that are live.
#[derive(Debug, Default)]
pub(super) struct UiAudience(HashMap<Uid, Instrumented>);

impl UiAudience {
    /// Records a broadcast. Returns the UI that has connected, if there is one.
    pub(super) fn on_broadcast(&mut self, now: Instant, uid: &Uid, heard: Broadcast) -> Option<UiConnected> {
        if !self.0.contains_key(uid) && self.0.len() >= MAX_SERVERS {
            self.expire_servers(now);
            if self.0.len() >= MAX_SERVERS {
                return None;
            }
        }
        let is_new = !self.0.contains_key(uid);
        let server = self.0.entry(uid.clone()).or_insert_with(|| Instrumented {
            heard_at: now,
            mode: Mode::Unknown,
            uis: 0,
            namespaces: Vec::new(),
        });
        server.heard_at = now;
        match heard {
            Broadcast::Stats { uis, namespaces } => {
                server.namespaces = namespaces;
                let has_risen = uis > server.uis;
                server.uis = uis;
                if has_risen && !is_new && server.mode == Mode::Unknown {
                    // In development mode, the server would have announced the UI before.
                    server.mode = Mode::Production;
                }
                (has_risen && server.mode != Mode::Production).then_some(UiConnected::Before)
            }
            Broadcast::Opened => {
                server.mode = Mode::Development;
                server.uis += 1;
                Some(UiConnected::Now { namespaces: server.namespaces.clone() })
            }
            Broadcast::Closed => {
                server.mode = Mode::Development;
                server.uis = server.uis.saturating_sub(1);
                None
            }
            Broadcast::Verbose => {
                let was_known = server.mode != Mode::Production;
                server.mode = Mode::Development;
                (!was_known && server.uis > 0).then_some(UiConnected::Before)
            }
        }
    }

    /// A server has left.
    pub(super) fn leave(&mut self, uid: &Uid) {
        self.0.remove(uid);
    }

    /// Broadcasts may have been missed, so the audience is unknown.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// The data that has to be sent now.
    pub(super) fn watching(&mut self, now: Instant) -> Watching {
        self.expire_servers(now);
        let of_server = |server: &Instrumented| match (server.uis, server.mode) {
            (0, _) => Watching::Nothing,
            (_, Mode::Production) => Watching::Servers,
            _ => Watching::Sockets,
        };
        self.0.values().map(of_server).max().unwrap_or(Watching::Nothing)
    }

    fn expire_servers(&mut self, now: Instant) {
        self.0.retain(|_, server| now.saturating_duration_since(server.heard_at) < SERVER_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stats(uis: usize) -> Broadcast {
        Broadcast::Stats { uis, namespaces: vec!["/".into()] }
    }

    /// The watched data after these broadcasts, and the last connected UI.
    fn after(heard: &[Broadcast]) -> (Watching, Option<UiConnected>) {
        let (mut audience, now, uid) = (UiAudience::default(), Instant::now(), Uid::random());
        let mut arrival = None;
        for heard in heard {
            arrival = audience.on_broadcast(now, &uid, heard.clone());
        }
        (audience.watching(now), arrival)
    }

    #[test]
    fn events_are_read_as_the_package_sends_them() {
        let read = |event: &str, args: serde_json::Value| {
            let args: Vec<Value> = args.as_array().unwrap().iter().cloned().map(Value::from).collect();
            Broadcast::of(&EventArgs::new(event, args), "/admin")
        };
        let namespaces = json!([{"name": "/", "socketsCount": 7}, {"name": "/admin", "socketsCount": 2}]);
        assert_eq!(
            read("server_stats", json!([{"serverId": "a", "namespaces": namespaces}])),
            Some(Broadcast::Stats { uis: 2, namespaces: vec!["/".into(), "/admin".into()] })
        );
        assert_eq!(read("server_stats", json!([{}])), Some(Broadcast::Stats { uis: 1, namespaces: vec![] }));
        assert_eq!(read("socket_connected", json!([{"nsp": "/admin"}, "now"])), Some(Broadcast::Opened));
        assert_eq!(read("socket_connected", json!([{"nsp": "/"}])), Some(Broadcast::Verbose));
        assert_eq!(read("socket_disconnected", json!(["/admin", "id", "why"])), Some(Broadcast::Closed));
        assert_eq!(read("socket_disconnected", json!([])), Some(Broadcast::Verbose));
        assert_eq!(read("event_received", json!(["/", "id", ["news"]])), Some(Broadcast::Verbose));
        assert_eq!(read("server_stats", json!([])), None);
        assert_eq!(read("config", json!([])), None);
        // Forged names.
        let mut forged = vec![json!({"name": "x".repeat(64)}); 2];
        forged.extend((0..MAX_NAMESPACES * 2).map(|number| json!({"name": format!("/{number}")})));
        let Some(Broadcast::Stats { namespaces, .. }) = read("server_stats", json!([{"namespaces": forged}]))
        else {
            panic!("statistics")
        };
        assert_eq!((namespaces.len(), namespaces[0].as_str()), (MAX_NAMESPACES, "/0"));
        // Forged numbers.
        let forged = json!([{"namespaces": [{"name": "/admin", "socketsCount": -1}, 7, null]}]);
        assert_eq!(
            read("server_stats", forged),
            Some(Broadcast::Stats { uis: 0, namespaces: vec!["/admin".into()] })
        );
    }

    #[test]
    fn a_ui_in_development_mode_watches_sockets_until_it_leaves() {
        let now = Some(UiConnected::Now { namespaces: vec!["/".into()] });
        assert_eq!(after(&[stats(0)]), (Watching::Nothing, None));
        assert_eq!(after(&[stats(0), Broadcast::Opened]), (Watching::Sockets, now));
        assert_eq!(after(&[stats(0), Broadcast::Opened, stats(1)]), (Watching::Sockets, None));
        assert_eq!(
            after(&[stats(0), Broadcast::Opened, stats(1), Broadcast::Closed]),
            (Watching::Nothing, None)
        );
        assert_eq!(after(&[stats(0), Broadcast::Opened, stats(0)]), (Watching::Nothing, None));
        assert_eq!(after(&[Broadcast::Closed]), (Watching::Nothing, None));
    }

    #[test]
    fn a_ui_in_production_mode_watches_servers() {
        assert_eq!(after(&[stats(0), stats(1)]), (Watching::Servers, None));
        assert_eq!(after(&[stats(0), stats(1), stats(2)]), (Watching::Servers, None));
        let was_wrong = [stats(0), stats(1), Broadcast::Verbose];
        assert_eq!(after(&was_wrong), (Watching::Sockets, Some(UiConnected::Before)));
    }

    #[test]
    fn a_ui_that_was_open_before_gets_all_sockets() {
        assert_eq!(after(&[stats(1)]), (Watching::Sockets, Some(UiConnected::Before)));
        assert_eq!(after(&[Broadcast::Verbose, stats(1)]), (Watching::Sockets, Some(UiConnected::Before)));
    }

    #[test]
    fn silent_servers_are_forgotten_and_forged_ones_bounded() {
        let (mut audience, start) = (UiAudience::default(), Instant::now());
        for _ in 0..MAX_SERVERS * 2 {
            audience.on_broadcast(start, &Uid::random(), stats(1));
        }
        assert_eq!(audience.0.len(), MAX_SERVERS);
        assert_eq!(audience.watching(start), Watching::Sockets);
        let later = start + SERVER_TIMEOUT;
        let uid = Uid::random();
        assert_eq!(audience.on_broadcast(later, &uid, stats(0)), None);
        assert_eq!((audience.0.len(), audience.watching(later)), (1, Watching::Nothing));
        audience.leave(&uid);
        assert!(audience.0.is_empty());
    }
}
