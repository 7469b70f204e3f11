//! `pgio monitor`: a page, metrics and an API beside a cluster, which does not change for it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgio::cluster::{Content, Event};
use pgio::postgres::private::Shutdown;
use pgio::protocol::{Body, Message, Uid};
use pgio::{AdapterOptions, Cluster, Settings};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::support::frozen::freeze_server;
use crate::support::pgio::{Running, pgio, run, run_with_input};
use crate::support::pgio_node::PgioNode;
use crate::support::pgio_serve::{PgioServe, until};
use crate::support::postgres::{own_server, postgres};
use crate::support::whole::whole;

const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-of-the-test";

/// A running monitor, and its announcement.
struct Monitor {
    running: Running,
    announced: Value,
    _tokens: Option<NamedTempFile>,
}

impl Monitor {
    async fn start(url: &str, arguments: &[&str]) -> Monitor {
        Self::start_with(url, arguments, None).await
    }

    async fn start_with_token(url: &str, arguments: &[&str]) -> Monitor {
        let tokens = NamedTempFile::new().unwrap();
        std::fs::write(tokens.path(), format!("{TOKEN}\n")).unwrap();
        Self::start_with(url, arguments, Some(tokens)).await
    }

    async fn start_with(url: &str, arguments: &[&str], tokens: Option<NamedTempFile>) -> Monitor {
        let mut all = vec!["monitor", "-o", "json", "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        if let Some(file) = &tokens {
            all.extend(["--token-file", file.path().to_str().unwrap()]);
        }
        let mut running = Running::start(&mut pgio(url, &all));
        let announced = running.json().await;
        Monitor { running, announced, _tokens: tokens }
    }

    fn address(&self) -> &str {
        self.announced["address"].as_str().unwrap()
    }

    /// Sends a request. Returns the status, the head and the body.
    async fn request(&self, request: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        let length = body.len();
        let text = format!(
            "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it answers").unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.into())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.request(&format!("GET {path}"), "", "").await;
        (status, body)
    }

    async fn api(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Requests a path until the answer matches.
    async fn wait_for(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let answer = self.api(path).await;
            if is_so(&answer) {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "{path}: {answer}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ends_at(self, signal: Signal) {
        self.running.signal(signal);
        let outcome = self.running.end().await;
        assert_eq!(outcome.status, 0, "{outcome:?}");
    }
}

/// A minimal server: it is live, and has 10,000 sockets.
async fn large_server(url: &str) -> AbortOnDropHandle<()> {
    let cluster = Cluster::connect(Settings::parse(url).unwrap(), AdapterOptions::default()).await.unwrap();
    let mut heard = cluster.subscribe(["/"], |_| true).await.unwrap();
    let uid = Uid::random();
    let sockets: Vec<_> = (0..10_000)
        .map(|i| {
            let socket = json!({"id": format!("socket-{i}"), "rooms": [format!("socket-{i}"), "of-ten-thousand"],
                "handshake": {"address": "10.0.0.1", "query": {"transport": "websocket"}, "issued": 1_700_000_000_000_u64},
                "data": {"user": i}});
            serde_json::from_value(socket).unwrap()
        })
        .collect();
    let say = async move |body| cluster.publish(&Message::new(uid.clone(), "/", body)).await.unwrap();
    say(Body::InitialHeartbeat).await;
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(event) = heard.next().await {
            let Event::Message(received) = event else { continue };
            let Content::Message(message) = &received.content else { continue };
            match &message.body {
                Body::InitialHeartbeat | Body::Heartbeat if !message.uid.is_emitter() => {}
                Body::InitialHeartbeat => say(Body::Heartbeat).await,
                Body::FetchSockets { request_id, .. } => {
                    let (request_id, sockets) = (request_id.clone(), sockets.clone());
                    say(Body::FetchSocketsResponse { request_id, sockets }).await;
                }
                _ => {}
            }
        }
    }))
}

/// Sends events with names that a page must not interpret as markup, again and again.
async fn send_hostile(url: &str) {
    const LINES: &str = concat!(
        r#"["<img src=x onerror=alert(1)>", "<b onclick=alert(3)>bold\u202e</b>"]"#,
        "\n",
        r#"{"event":"needle","args":[1],"rooms":["<script>alert(2)</script>"]}"#,
        "\n",
        r#"["hay", {"a": "\u001b[2J"}]"#,
        "\n"
    );
    loop {
        run_with_input(&mut pgio(url, &["emit", "-q", "--from", "-"]), LINES).await.succeeded();
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_page_in_a_real_browser() {
    let cluster = whole().await;
    let _large = large_server(cluster.url()).await;
    for server in &cluster.mixed.servers[..2] {
        server.wait_for_server_count("/", 5).await;
    }
    let monitor = Monitor::start_with_token(cluster.url(), &[]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/page/monitor.mjs");
    let mut browser = Command::new("node");
    browser.arg(script).arg(monitor.announced["url"].as_str().unwrap()).arg(TOKEN);
    // Writes pictures for a developer, if the variable is set.
    if let Ok(directory) = std::env::var("PGIO_TEST_PICTURES") {
        browser.arg(directory);
    }
    browser.kill_on_drop(true).stdin(Stdio::null());
    let output = tokio::select! {
        output = timeout(2 * PATIENCE, browser.output()) => output.expect("it ends").expect("node is there"),
        () = send_hostile(cluster.url()) => unreachable!("it goes on for ever"),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text} (make test installs Chromium and playwright-core)");
    monitor.ends_at(Signal::SIGTERM).await;
}

#[tokio::test]
async fn the_api_shows_the_cluster_without_joining_it() {
    let cluster = whole().await;
    cluster.join(0, &["r1", "r2"]).await;
    cluster.join(3, &["r1"]).await;
    let monitor = Monitor::start(cluster.url(), &["-n", "/", "-n", "/admin"]).await;
    cluster
        .undisturbed(async {
            let now = monitor.wait_for("/api/overview", |now| now["nodes"] == 8 && now["sockets"] == 4).await;
            assert_eq!((&now["connected"], &now["missed"]), (&true.into(), &0.into()));
            for _ in 0..5 {
                run(&mut pgio(cluster.url(), &["emit", "-q", "--room", "r1", "chat", "hi"]))
                    .await
                    .succeeded();
            }
            let of_chat =
                |rates: &Value| rates["rows"][0]["name"] == "chat" && rates["rows"][0]["count"] == 5;
            monitor.wait_for("/api/rates?by=event", of_chat).await;
            let by_room =
                monitor.wait_for("/api/rates?by=room&search=R1", |rates| rates["matching"] == 1).await;
            assert_eq!(by_room["rows"][0]["count"], 5);
            let rooms = monitor.api("/api/rooms").await;
            assert_eq!(rooms["rooms"][0], json!({"room": "r1", "namespace": "/", "sockets": 2, "nodes": 2}));
            let sockets = monitor.api("/api/sockets?room=r1&limit=1").await;
            assert_eq!((&sockets["total"], &sockets["matching"]), (&4.into(), &2.into()));
            assert_eq!(sockets["sockets"].as_array().unwrap().len(), 1);
            let nodes = monitor.api("/api/nodes?search=admin").await;
            assert_eq!((&nodes["total"], &nodes["matching"]), (&8.into(), &4.into()));
            // As soon as the nodes have answered. The values are the same as those of pgio nodes.
            let is_known = |nodes: &Value| {
                let mut nodes = nodes["nodes"].as_array().unwrap().iter();
                nodes.all(|node| node["address"].as_str().is_some_and(|at| at.starts_with("127.0.0.1:")))
            };
            monitor.wait_for("/api/nodes", is_known).await;
            let found = monitor.api("/api/nodes?search=127.0.0.1:").await;
            assert_eq!(found["matching"], 8, "{found}");
            let listed = run(&mut pgio(cluster.url(), &["nodes", "-o", "json"])).await.succeeded().json();
            for node in found["nodes"].as_array().unwrap() {
                let same = listed.iter().find(|one| one["uid"] == node["uid"]);
                assert!(same.is_none_or(|same| same["application"] == node["application"]), "{node}");
            }
            monitor
                .wait_for("/api/history", |past| {
                    let events = past["events"].as_array().unwrap();
                    events.iter().map(|count| count.as_u64().unwrap()).sum::<u64>() == 5
                })
                .await;
            let doctor = monitor.api("/api/doctor").await;
            let findings = doctor["result"]["findings"].as_array().unwrap();
            assert!(
                findings.iter().any(|one| one["check"] == "delivery" && one["status"] == "ok"),
                "{doctor}"
            );
        })
        .await;
    monitor.ends_at(Signal::SIGINT).await;
}

#[tokio::test]
async fn live_traffic_comes_as_events_and_ends_with_the_monitor() {
    let cluster = whole().await;
    let monitor = Monitor::start(cluster.url(), &[]).await;
    let mut stream = TcpStream::connect(monitor.address()).await.unwrap();
    let request = b"GET /api/live?search=CHAT HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    let mut read = async |until: &str| {
        let mut buffer = [0; 4096];
        while !text.contains(until) {
            let count = timeout(PATIENCE, stream.read(&mut buffer)).await.expect("it comes").unwrap();
            text += &String::from_utf8_lossy(&buffer[..count]);
            if count == 0 {
                return text.clone();
            }
        }
        text.clone()
    };
    // The first bytes of the stream. From here on it reports events.
    let head = read("\n:\n\n").await;
    assert!(head.contains("text/event-stream"), "{head}");
    run(&mut pgio(cluster.url(), &["emit", "-q", "hay", "1"])).await.succeeded();
    run(&mut pgio(cluster.url(), &["emit", "-q", "--room", "r1", "chat", "\u{202e}"])).await.succeeded();
    let text = read("data: {").await;
    let line = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let message: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&message["event"], &message["rooms"]), (&"chat".into(), &json!(["r1"])));
    assert_eq!(message["text"], r#"["chat","\u{202e}"]"#);
    monitor.ends_at(Signal::SIGTERM).await;
    assert!(!read("never").await.contains("hay"));
}

#[tokio::test]
async fn a_token_opens_everything_but_health_which_is_open() {
    let postgres = postgres().await;
    let monitor = Monitor::start_with_token(postgres.url(), &["--no-sockets"]).await;
    assert_eq!(monitor.get("/healthz").await, (200, "ok\n".into()));
    for path in ["/metrics", "/api/overview", "/api/live", "/api/doctor", "/app.js", "/"] {
        let (status, head, body) = monitor.request(&format!("GET {path}"), "", "").await;
        assert_eq!(status, 401, "{path}");
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
        assert!(!body.contains("Sockets"), "{body}");
    }
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    assert_eq!(monitor.request("GET /metrics", &bearer("wrong"), "").await.0, 401);
    assert_eq!(monitor.request("GET /metrics", &bearer(TOKEN), "").await.0, 200);
    let (status, head, _) = monitor.request("POST /login", "", &format!("token={TOKEN}")).await;
    assert_eq!(status, 303, "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(
        cookie.contains("httponly") && cookie.contains("samesite=strict") && !cookie.contains(TOKEN),
        "{cookie}"
    );
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(monitor.request("GET /api/overview", &cookie, "").await.0, 200);
    assert_eq!(monitor.request("POST /logout", &cookie, "").await.0, 303);
    assert_eq!(monitor.request("GET /api/overview", &cookie, "").await.0, 401);
    assert_eq!(monitor.request("POST /login", "", "token=wrong").await.0, 401);
    assert_eq!(monitor.request("POST /login", "", &"x".repeat(10_000)).await.0, 413);
    monitor.ends_at(Signal::SIGTERM).await;
}

#[tokio::test]
async fn without_a_token_it_stays_on_this_machine() {
    let postgres = postgres().await;
    for listen in ["0.0.0.0:0", ":0", "[::]:0"] {
        let refused = run(&mut pgio(postgres.url(), &["monitor", "--listen", listen])).await;
        assert_eq!(refused.status, 2, "{refused:?}");
        assert!(refused.stderr.contains("others can reach this address"), "{refused:?}");
        assert!(refused.stderr.contains("hint: --token-file"), "{refused:?}");
    }
    let monitor = Monitor::start(postgres.url(), &["--no-sockets"]).await;
    let (status, _, text) = monitor.request("GET /api/overview", "", "").await;
    assert_eq!(status, 200, "{text}");
    // The name of another site that resolves to this address (DNS rebinding).
    let mut stream = TcpStream::connect(monitor.address()).await.unwrap();
    stream.write_all(b"GET /api/overview HTTP/1.0\r\nhost: evil.example\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 403"), "{answer}");
    monitor.ends_at(Signal::SIGTERM).await;
}

#[tokio::test]
async fn a_monitor_outlives_a_restart_of_postgres() {
    let mut postgres = own_server().await;
    let url = postgres.url().to_owned();
    let monitor = Monitor::start(&url, &[]).await;
    monitor.wait_for("/api/overview", |now| now["connected"] == true).await;
    postgres.take_down(Shutdown::Immediate).await.unwrap();
    let away = monitor.wait_for("/api/overview", |now| now["connected"] == false).await;
    assert!(away["lost"].is_string() && away["interruptions"] == 1, "{away}");
    let (status, text) = monitor.get("/metrics").await;
    assert!(status == 200 && text.contains("pgio_cluster_listener_up 0"), "{text}");
    postgres.start_again().await.unwrap();
    monitor.wait_for("/api/overview", |now| now["connected"] == true && now["queueUsage"].is_number()).await;
    run(&mut pgio(&url, &["emit", "-q", "chat", "hi"])).await.succeeded();
    monitor.wait_for("/api/rates", |rates| rates["rows"][0]["name"] == "chat").await;
    monitor.ends_at(Signal::SIGTERM).await;
}

/// Runs promtool if it is installed.
/// Servers of which nothing is heard because Postgres stands still are not reported as failed.
#[tokio::test]
async fn a_postgres_that_stands_still_is_told_from_servers_that_do() {
    let postgres = own_server().await;
    let _node = PgioNode::start(&postgres.url()).await;
    let monitor = Monitor::start(&postgres.url(), &[]).await;
    monitor.wait_for("/api/overview", |overview| overview["nodes"] == 1).await;
    let metrics = async || monitor.get("/metrics").await.1;
    assert!(metrics().await.contains("pgio_cluster_nodes{namespace=\"/\"} 1"));
    let frozen = freeze_server(&postgres);
    let overview = monitor.wait_for("/api/overview", |overview| overview["connected"] == false).await;
    assert_eq!((&overview["lost"], &overview["nodes"]), (&json!("Postgres does not answer"), &json!(1)));
    let text = metrics().await;
    assert!(text.contains("pgio_cluster_listener_up 0"), "{text}");
    assert!(!text.contains("pgio_cluster_nodes{") && !text.contains("pgio_cluster_sockets{"), "{text}");
    drop(frozen);
    monitor.wait_for("/api/overview", |overview| overview["connected"] == true).await;
    assert!(metrics().await.contains("pgio_cluster_listener_up 1"));
}

async fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("promtool is not installed: nothing is checked");
        return;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}\n{input}");
    assert!(!arguments.contains(&"metrics") || said.trim().is_empty(), "{said}");
}

fn documents() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

#[tokio::test]
async fn metrics_are_few_and_promtool_has_no_objection() {
    let cluster = whole().await;
    let monitor = Monitor::start(cluster.url(), &[]).await;
    let lines: String = (0..500).map(|i| format!("[\"e{i}\\n\\\"\", 1]\n")).collect();
    run_with_input(&mut pgio(cluster.url(), &["emit", "-q", "--from", "-"]), lines).await.succeeded();
    monitor.wait_for("/api/overview", |now| now["nodes"] == 4 && now["sockets"] == 4).await;
    monitor.wait_for("/api/rates", |rates| rates["other"]["count"].as_u64() > Some(0)).await;
    let (_, text) = monitor.get("/metrics").await;
    promtool(&["check", "metrics"], &text).await;
    let has = |line: &str| assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    has("pgio_cluster_nodes{namespace=\"/\"} 4");
    has("pgio_cluster_sockets{namespace=\"/\"} 4");
    has("pgio_cluster_messages_total{type=\"broadcast\"} 500");
    has("pgio_cluster_events_total{event=\"_other\"} 450");
    has("pgio_cluster_events_total{event=\"e0\\\\n\\\"\"} 1");
    assert!(text.lines().count() < 200, "{text}");
    monitor.ends_at(Signal::SIGTERM).await;
}

/// A monitor or a server has all metrics of the dashboard and the alerts.
#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_for_metrics_that_exist() {
    let cluster = whole().await;
    let monitor = Monitor::start(cluster.url(), &[]).await;
    monitor.wait_for("/api/overview", |now| now["sockets"] == 4 && now["commitsPerSecond"].is_number()).await;
    let (_, mut metrics) = monitor.get("/metrics").await;
    let serve = PgioServe::start(cluster.url(), &[]).await;
    metrics += &serve.get("/metrics").await.1;
    let alerts = documents().join("prometheus/alerts.yml");
    promtool(&["check", "rules", alerts.to_str().unwrap()], "").await;
    let alerts = std::fs::read_to_string(alerts).unwrap();
    let dashboard = std::fs::read_to_string(documents().join("grafana/pgio.json")).unwrap();
    let parsed: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() > 8);
    // Labelled counters of a server have no series before their first increment.
    let documented = std::fs::read_to_string(documents().join("serve.md")).unwrap() + &metrics;
    for name in (alerts + &dashboard).split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if name.starts_with("pgio_") {
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(documented.contains(name), "{name}");
        }
    }
}

#[tokio::test]
async fn a_server_has_the_same_page_on_its_admin_address() {
    let cluster = whole().await;
    let admin = ["--admin-listen", "127.0.0.1:0", "-n", "/", "-n", "/admin"];
    let serve = PgioServe::start(cluster.url(), &admin).await;
    cluster.mixed.servers[0].wait_for_server_count("/", 5).await;
    let client = serve.client(cluster.mixed.servers[0].peer()).await;
    let address = serve.announced["adminAddress"].as_str().unwrap().to_owned();
    let get = async |path: &str| {
        serve.request_at(&address, &format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n")).await
    };
    cluster
        .undisturbed(async {
            let (head, page) = get("/").await;
            assert!(
                head.starts_with("HTTP/1.0 200") && page.contains("<title>pgio monitor</title>"),
                "{head}"
            );
            until("all servers and sockets are seen", async || {
                let now: Value = serde_json::from_str(&get("/api/overview").await.1).unwrap();
                now["nodes"] == 10 && now["sockets"] == 5
            })
            .await;
            run(&mut pgio(cluster.url(), &["emit", "-q", "chat", "hi"])).await.succeeded();
            until("an event is counted", async || get("/api/rates").await.1.contains("\"chat\"")).await;
        })
        .await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(get(path).await.0.starts_with("HTTP/1.0 200"), "{path}");
    }
    assert!(get("/metrics").await.1.contains("pgio_connections"));
    // The address of the clients serves none of these pages.
    for path in ["/", "/api/overview", "/app.js", "/metrics"] {
        assert_eq!(serve.get(path).await.0, 404, "{path}");
    }
    drop(client);
    let mut serve = serve;
    serve.signal(Signal::SIGTERM);
    assert!(serve.ended().await.success());
}

#[tokio::test]
async fn the_page_of_a_server_that_others_reach_needs_a_token() {
    let postgres = postgres().await;
    let open = PgioServe::start(postgres.url(), &["--admin-listen", "0.0.0.0:0"]).await;
    let port = |serve: &PgioServe| {
        let address = serve.announced["adminAddress"].as_str().unwrap();
        format!("127.0.0.1:{}", address.rsplit(':').next().unwrap())
    };
    let status = async |serve: &PgioServe, path: &str, header: &str| {
        let request = format!("GET {path} HTTP/1.0\r\n{header}\r\n");
        serve.request_at(&port(serve), &request).await.0.split(' ').nth(1).unwrap().to_owned()
    };
    open.wait_for_log("no page at /, since others can reach the admin address and no token is required")
        .await;
    assert_eq!(
        (status(&open, "/", "").await, status(&open, "/metrics", "").await),
        ("404".into(), "200".into())
    );
    let tokens = NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), TOKEN).unwrap();
    let file = tokens.path().to_str().unwrap();
    let closed =
        PgioServe::start(postgres.url(), &["--admin-listen", "0.0.0.0:0", "--admin-token-file", file]).await;
    assert_eq!(status(&closed, "/api/overview", "").await, "401");
    assert_eq!(status(&closed, "/", "").await, "401");
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(status(&closed, "/api/overview", &bearer).await, "200");
    assert_eq!(
        (status(&closed, "/healthz", "").await, status(&closed, "/metrics", "").await),
        ("200".into(), "200".into())
    );
}
