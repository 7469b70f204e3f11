//! `pgio doctor`: each test creates a real fault. `doctor` finds it, and its advice removes it.

mod exposure;
mod server;
mod servers;
mod table;
mod traffic;

use serde_json::{Value, json};

use crate::support::pgio::{bare, pgio, run};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::own_server;

/// The result of a run.
#[derive(Debug)]
struct Diagnosis {
    status: i32,
    findings: Vec<Value>,
    stderr: String,
}

impl Diagnosis {
    /// The status, the detail and the advice of a check. The last one, if several have that name.
    #[track_caller]
    fn finding(&self, check: &str) -> (&str, &str, &str) {
        let found = self.findings.iter().rfind(|finding| finding["check"] == check);
        let found = found.unwrap_or_else(|| panic!("no {check}: {self:?}"));
        let text = |field: &str| found[field].as_str().unwrap_or_default();
        (text("status"), text("detail"), text("advice"))
    }

    /// Asserts that a check has this status, and that its detail and advice contain these texts.
    #[track_caller]
    fn check(&self, check: &str, status: &str, detail: &str, advice: &str) {
        let found = self.finding(check);
        assert!(found.0 == status && found.1.contains(detail) && found.2.contains(advice), "{found:?}");
    }

    fn has(&self, check: &str) -> bool {
        self.findings.iter().any(|finding| finding["check"] == check)
    }
}

async fn doctor(url: &str, arguments: &[&str]) -> Diagnosis {
    let outcome = run(&mut pgio(url, &[&["doctor", "-o", "json"], arguments].concat())).await;
    let findings = outcome.json();
    let failed = findings.iter().filter(|finding| finding["status"] == "fail").count();
    let expected = if failed > 0 { 1 } else { 0 };
    assert_eq!(outcome.status, expected, "{outcome:?}");
    let expected = match failed {
        0 => String::new(),
        failed => format!("error: {failed} of {} checks failed\n", findings.len()),
    };
    assert_eq!(outcome.stderr, expected);
    Diagnosis { status: outcome.status, findings, stderr: outcome.stderr }
}

#[tokio::test]
async fn all_is_well() {
    let server = own_server().await;
    let _serve = PgioServe::start(&server.url(), &["-n", "/", "-n", "admin"]).await;
    let diagnosis = doctor(&server.url(), &["-n", "admin", "-n", "/"]).await;
    for finding in &diagnosis.findings {
        assert_eq!((&finding["status"], &finding["advice"]), (&json!("ok"), &Value::Null), "{finding}");
    }
    let mut checks: Vec<_> =
        diagnosis.findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    let expected = "connection version primary latency clock pooler delivery queue channels prefix servers \
        servers heartbeats table columns privileges index insert backlog";
    assert_eq!(checks.join(" "), expected);
    diagnosis.check("version", "ok", "PostgreSQL ", "");
    diagnosis.check("channels", "ok", "socket.io#/, socket.io#/admin", "");

    let text = run(&mut pgio(&server.url(), &["doctor"])).await.succeeded();
    // In one namespace now, in two before.
    checks.dedup();
    assert_eq!(text.stdout.lines().count(), checks.len());
    for (line, check) in text.stdout.lines().zip(checks) {
        assert!(line.starts_with(&format!("ok    {check}")), "{line}");
    }
    let quiet = run(&mut pgio(&server.url(), &["doctor", "-q"])).await.succeeded();
    assert_eq!(quiet.stdout, "");
}

#[tokio::test]
async fn each_error_is_one_line_with_a_hint() {
    let server = own_server().await;
    let text = run(&mut pgio(&server.url(), &["doctor"])).await;
    assert_eq!(text.status, 1);
    let expected = "FAIL  table        socket_io_attachments does not exist: events with binary, and large ones, \
        cannot be sent \u{2192} pgio attachments init\n";
    assert!(text.stdout.ends_with(expected), "{}", text.stdout);
    assert_eq!(text.stderr, "error: 1 of 13 checks failed\n");
}

#[tokio::test]
async fn help_and_errors() {
    let help = run(&mut bare(&["doctor", "-h"])).await.succeeded().stdout;
    let examples = help.split("Examples:\n").nth(1).unwrap();
    assert!((3..=5).contains(&examples.lines().count()), "{help}");
    assert!(examples.lines().all(|line| line.starts_with("  pgio doctor") && line.len() <= 80), "{help}");
    let nowhere = run(&mut pgio("postgres://u@127.0.0.1:1/d", &["doctor"])).await;
    assert_eq!((nowhere.status, nowhere.stdout.as_str()), (3, ""), "{nowhere:?}");
}
