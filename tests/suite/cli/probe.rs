//! `pgio probe`, against servers of every version and of pgio.

use std::io::Write;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use crate::support::attachments::create_attachment_table;
use crate::support::mixed::mixed_with;
use crate::support::node::{AdapterVersion, NodePeer, ServerOptions};
use crate::support::pgio::{Outcome, Running, pgio, run};
use crate::support::pgio_serve::{PgioServe, no_socket_is_left};
use crate::support::postgres::postgres;
use crate::support::proxy::{Mode, Proxy};

const TRANSPORTS: [&str; 2] = ["websocket", "polling"];

/// Limits for a busy machine, since these tests do not measure time.
const PATIENT: [&str; 4] = ["--warn", "30s", "--critical", "30s"];

async fn probe(database: &str, arguments: &[&str]) -> Outcome {
    run(&mut pgio(database, &[&["probe"], arguments].concat())).await
}

fn latency(line: &Value) -> f64 {
    assert_eq!((&line["status"], &line["reason"]), (&json!("ok"), &Value::Null), "{line}");
    line["latencyMs"].as_f64().unwrap_or_else(|| panic!("{line}"))
}

#[tokio::test]
async fn every_server_is_probed_and_nothing_is_left() {
    let cluster = mixed_with(|options| options.namespace("/admin")).await;
    let serve = PgioServe::start(cluster.url(), &["-n", "/", "-n", "/admin"]).await;
    let url = serve.url();
    let urls = cluster.servers.iter().map(|server| server.url()).chain([url.as_str()]);
    for url in urls {
        for transport in TRANSPORTS {
            for nsp in ["/", "admin"] {
                let flags = [url, "--transport", transport, "-n", nsp, "-o", "json"];
                let measured = probe(cluster.url(), &[&flags[..], &PATIENT].concat()).await;
                assert!(latency(&measured.succeeded().json()[0]) > 0.0);
            }
        }
        let text = probe(cluster.url(), &[&[url][..], &PATIENT].concat()).await.succeeded();
        let millis = text.stdout.strip_prefix("ok ").and_then(|rest| rest.strip_suffix(" ms\n"));
        assert!(millis.is_some_and(|millis| millis.parse::<f64>().is_ok()), "{text:?}");
        assert_eq!(text.stderr, "");
    }
    // Only the client of the probe gets the event.
    for client in &cluster.clients {
        assert_eq!(client.received().await, []);
    }
    drop(serve);
    let table = run(&mut pgio(cluster.url(), &["attachments", "stats", "-o", "json"])).await.succeeded();
    assert_eq!(table.json()[0]["rows"], 0);
}

#[tokio::test]
async fn no_server_counts_a_probe() {
    let cluster = mixed_with(|options| options).await;
    let before = cluster.server_counts().await;
    let arguments =
        [&["probe", cluster.servers[0].url(), "--every", "20ms", "-o", "json"][..], &PATIENT].concat();
    let mut running = Running::start(&mut pgio(cluster.url(), &arguments));
    for _ in 0..5 {
        latency(&running.json().await);
        assert_eq!(cluster.server_counts().await, before);
    }
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().await.status, 130);
    assert_eq!(cluster.server_counts().await, before);
}

#[tokio::test]
async fn the_status_is_that_of_monitoring_plugins() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let node = NodePeer::start().await.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;

    let slow = probe(postgres.url(), &[node.url(), "--warn", "0", "--critical", "30s"]).await;
    assert_eq!(slow.status, 1, "{slow:?}");
    assert!(slow.stdout.starts_with("warning ") && slow.stdout.ends_with(" ms\n"), "{slow:?}");

    // A server with another prefix uses the same database, but receives none of our messages.
    let deaf = ServerOptions::new(AdapterVersion::V05, postgres.url()).channel_prefix("other");
    let deaf = node.peer().server(deaf).await;
    let lost = probe(postgres.url(), &[deaf.url(), "--critical", "500ms"]).await;
    assert_eq!(
        (lost.status, lost.stdout.as_str()),
        (2, "critical: the event did not arrive within 500ms\n"),
        "{lost:?}"
    );
    let lost = probe(postgres.url(), &[deaf.url(), "--critical", "500ms", "-o", "prometheus"]).await;
    assert_eq!(lost.status, 2, "{lost:?}");
    let labels = format!("{{url=\"{}\",namespace=\"/\"}}", deaf.url());
    for line in [format!("pgio_probe_success{labels} 0\n"), format!("pgio_probe_status{labels} 2\n")] {
        assert!(lost.stdout.contains(&line), "{line}: {lost:?}");
    }

    let usage = probe(postgres.url(), &[node.url(), "--warn", "2s", "--critical", "1s"]).await;
    assert!(usage.status == 2 && usage.stderr.contains("--warn 2s is more than --critical 1s"), "{usage:?}");
    let usage = probe(postgres.url(), &[node.url(), "-o", "prometheus", "--every", "1s"]).await;
    assert_eq!(usage.status, 2, "{usage:?}");
    let usage = probe(postgres.url(), &[node.url(), "-o", "yaml"]).await;
    assert_eq!(usage.status, 2, "{usage:?}");
}

#[tokio::test]
async fn an_unreachable_end_is_critical_and_a_refused_probe_is_unknown() {
    let postgres = postgres().await;
    let options = ServerOptions::new(AdapterVersion::V05, postgres.url()).token("t0p");
    let node = NodePeer::start().await.server(options).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (away, auth) = (format!("http://{free}"), r#"{"token":"t0p"}"#);
    let no_database = format!("postgres://ops:s3cret@{free}/db");
    let no_role = format!("postgres://nobody:s3cret@{}", postgres.url().rsplit_once('@').unwrap().1);
    let (critical, unknown) = (("critical", 2), ("unknown", 3));
    for (database, arguments, (word, status), reason) in [
        (no_database.as_str(), &[node.url(), "--auth", auth][..], critical, "onnection refused"),
        (postgres.url(), &[&away], critical, "Connection refused"),
        (&no_role, &[node.url(), "--auth", auth], unknown, "nobody"),
        (postgres.url(), &[node.url(), "--auth", r#"{"token":"n0"}"#], unknown, "wrong token"),
        (postgres.url(), &[node.url(), "--auth", auth, "-n", "nosuch"], unknown, "nvalid namespace"),
    ] {
        for output in ["text", "json", "prometheus"] {
            let lost = probe(database, &[arguments, &["-o", output]].concat()).await;
            assert_eq!(lost.status, status, "{lost:?}");
            assert!(!lost.stdout.contains("s3cret") && !lost.stdout.contains("n0"), "{lost:?}");
            assert!(!lost.stderr.contains("s3cret") && !lost.stderr.contains("n0"), "{lost:?}");
            match output {
                // The metrics do not say why.
                "prometheus" => assert!(lost.stderr.contains(reason), "{lost:?}"),
                _ => assert_eq!(lost.stderr, ""),
            }
            let is_said = match output {
                "json" => {
                    let line = &lost.json()[0];
                    line["status"] == word && line["reason"].as_str().unwrap().contains(reason)
                }
                "text" => lost.stdout.starts_with(&format!("{word}: ")) && lost.stdout.contains(reason),
                _ => {
                    lost.stdout.contains("pgio_probe_status{")
                        && lost.stdout.contains(&format!("}} {status}\n"))
                }
            };
            assert!(is_said, "{reason}: {lost:?}");
        }
    }
    let right = probe(postgres.url(), &[&[node.url(), "--auth", auth][..], &PATIENT].concat()).await;
    right.succeeded();
}

#[tokio::test]
async fn a_probe_that_stays_sees_servers_and_databases_come_and_go() {
    let postgres = postgres().await;
    let proxy = Proxy::start(postgres.url()).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let start = async || {
        let options = ServerOptions::new(AdapterVersion::V05, postgres.url()).port(port);
        NodePeer::start().await.server(options).await
    };
    for transport in TRANSPORTS {
        let node = start().await;
        let arguments = [
            "probe",
            node.url(),
            "--transport",
            transport,
            "--every",
            "100ms",
            "--timeout",
            "2s",
            "-o",
            "json",
        ];
        // A server that does not listen yet misses an event, so the check must not wait for it any longer.
        let limits = ["--warn", "3s", "--critical", "3s"];
        let mut running = Running::start(&mut pgio(proxy.url(), &[&arguments[..], &limits].concat()));
        let mut until = async |status: &str| {
            loop {
                let line = running.json().await;
                if line["status"] == status {
                    return line;
                }
            }
        };
        until("ok").await;
        // Other events between two checks do not stop the client from answering pings, or from the next check.
        node.io().burst("noise", 2000).await;
        until("ok").await;
        node.peer().kill().await;
        until("critical").await;
        let node = start().await;
        until("ok").await;
        proxy.set(Mode::Reset);
        until("critical").await;
        proxy.set(Mode::Forward);
        until("ok").await;
        running.signal(Signal::SIGINT);
        running.wait_for_end().await;
        node.stop().await;
    }
}

/// Even if the environment and the configuration file name another format for all commands.
#[tokio::test]
async fn each_output_format_is_as_requested() {
    let postgres = postgres().await;
    let node = NodePeer::start().await.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"output = \"json\"\n").unwrap();
    let probe = async |configured: bool, output: &[&str]| {
        let mut command = pgio(postgres.url(), &[&["probe", node.url()], &PATIENT[..], output].concat());
        if configured {
            command.env("PGIO_CONFIG", file.path());
        }
        run(&mut command).await.succeeded()
    };
    latency(&probe(true, &[]).await.json()[0]);
    latency(&probe(false, &["-o", "json"]).await.json()[0]);
    for configured in [false, true] {
        assert!(probe(configured, &["-o", "text"]).await.stdout.starts_with("ok "));
        let metrics = probe(configured, &["-o", "prometheus"]).await.stdout;
        assert!(metrics.contains("\npgio_probe_latency_seconds{"), "{metrics}");
        // Each sample has its HELP and its TYPE before it.
        for sample in metrics.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = (sample.split('{').next().unwrap(), sample.rsplit(' ').next().unwrap());
            assert!(value.parse::<f64>().is_ok(), "{sample}");
            assert!(metrics.contains(&format!("# HELP {name} ")), "{metrics}");
            assert!(metrics.contains(&format!("# TYPE {name} gauge\n{name}{{")), "{metrics}");
        }
    }
}

#[tokio::test]
async fn with_a_count_the_worst_status_is_the_exit_status() {
    let postgres = postgres().await;
    let node = NodePeer::start().await.server(ServerOptions::new(AdapterVersion::V04, postgres.url())).await;
    let arguments = [node.url(), "--every", "10ms", "--count", "3"];
    let good = probe(postgres.url(), &[&arguments[..], &PATIENT].concat()).await.succeeded();
    assert_eq!(good.stdout.lines().filter(|line| line.starts_with("ok ")).count(), 3, "{good:?}");
    let slow = probe(postgres.url(), &[&arguments[..], &["--warn", "0", "--critical", "30s"]].concat()).await;
    assert_eq!((slow.status, slow.stdout.lines().count()), (1, 3), "{slow:?}");
}

#[tokio::test]
async fn a_probe_that_polls_leaves_no_socket() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let node = NodePeer::start().await.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    let serve = PgioServe::start(postgres.url(), &[]).await;
    for url in [node.url(), &serve.url()] {
        let polling = [&[url, "--transport", "polling"][..], &PATIENT].concat();
        probe(postgres.url(), &polling).await.succeeded();
        no_socket_is_left(postgres.url()).await;
        let repeated = [&polling[..], &["--every", "20ms", "--count", "2"]].concat();
        probe(postgres.url(), &repeated).await.succeeded();
        no_socket_is_left(postgres.url()).await;
        let arguments = [&["probe"], &polling[..], &["--every", "20ms", "-o", "json"]].concat();
        let mut running = Running::start(&mut pgio(postgres.url(), &arguments));
        latency(&running.json().await);
        running.signal(Signal::SIGINT);
        assert_eq!(running.end().await.status, 130);
        no_socket_is_left(postgres.url()).await;
    }
}

#[tokio::test]
async fn a_missing_file_is_neither_a_warning_nor_critical() {
    let unknown = probe("postgres://127.0.0.1:1/db", &["http://127.0.0.1:1", "--auth", "@missing"]).await;
    assert_eq!(
        (unknown.status, unknown.stdout.as_str()),
        (3, "unknown: missing: No such file or directory\n"),
        "{unknown:?}"
    );
}
