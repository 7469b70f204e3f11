//! The real UI in a real browser.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::{PATIENCE, Shown};
use crate::support::node::AdapterVersion;

#[tokio::test]
async fn the_real_ui_in_a_real_browser() {
    let shown = Shown::start(AdapterVersion::V05, "development", &[]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/page/admin-ui.mjs");
    let mut browser = Command::new("node");
    browser.arg(script).args([shown.server.url(), &shown.serve.url(), &shown.serve.pid().to_string()]);
    // Writes pictures for a developer, if the variable is set.
    if let Ok(directory) = std::env::var("PGIO_TEST_PICTURES") {
        browser.arg(directory);
    }
    browser.kill_on_drop(true).stdin(Stdio::null());
    let output = timeout(4 * PATIENCE, browser.output()).await.expect("it ends").expect("node is there");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text} (make test installs Chromium and the packages)");
}
