//! The private server: whoever owns it, and however they end, nothing is left of it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pgio::Error;
use pgio::postgres::private::{PrivateServer, Shutdown};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::support::attachments::execute;
use crate::support::postgres::own_server;

/// Waits until it is so; panics when it never is.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "still not: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The pid of the server below that directory.
fn postmaster(directory: &Path) -> u32 {
    let file = std::fs::read_to_string(directory.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[tokio::test]
async fn two_servers_run_side_by_side_and_leave_nothing() {
    let (one, other) = tokio::join!(own_server(), own_server());
    assert_ne!(one.port(), other.port());
    for server in [one, other] {
        execute(&server.url(), "CREATE TABLE t AS SELECT 1").await;
        let (directory, pid) = (server.directory().to_owned(), postmaster(server.directory()));
        server.stop().await.unwrap();
        assert!(!directory.exists() && !is_running(pid));
    }
}

#[tokio::test]
async fn nobody_gets_in_without_the_password() {
    let server = own_server().await;
    let url = server.url();
    let (before, after) = (url.split(':').next().unwrap(), url.split('@').nth(1).unwrap());
    let wrong = format!("{before}://pgio:wrong@{after}");
    let error = tokio_postgres::connect(&wrong, tokio_postgres::NoTls).await.err().unwrap();
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn a_directory_keeps_its_data_and_has_one_owner() {
    let parent = tempfile::tempdir().unwrap();
    // The server's user has to get there.
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let directory = parent.path().join("postgres");
    let start = async || PrivateServer::builder().directory(&directory).start().await;
    let server = start().await.unwrap();
    execute(&server.url(), "CREATE TABLE kept (n int)").await;

    let error = start().await.unwrap_err();
    assert!(matches!(&error, Error::Private(reason) if reason.contains("in use")), "{error}");

    server.stop().await.unwrap();
    let server = start().await.unwrap();
    execute(&server.url(), "INSERT INTO kept VALUES (1)").await;
    assert!(directory.join("running.json").exists());
    server.stop().await.unwrap();
    assert!(!directory.join("running.json").exists());
}

#[tokio::test]
async fn a_server_goes_down_and_comes_back_on_its_port() {
    let mut server = own_server().await;
    execute(&server.url(), "CREATE TABLE kept (n int)").await;
    for how in [Shutdown::Fast, Shutdown::Immediate] {
        let url = server.url();
        server.take_down(how).await.unwrap();
        assert!(tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err());
        server.start_again().await.unwrap();
        assert_eq!(server.url(), url);
        execute(&url, "INSERT INTO kept VALUES (1)").await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let error = PrivateServer::builder().setting("shared_buffers", "a lot").start().await.unwrap_err();
    assert!(error.to_string().contains("shared_buffers"), "{error}");
    let error = PrivateServer::builder().binaries("/nowhere").start().await.unwrap_err();
    assert!(error.to_string().contains("/nowhere has no initdb"), "{error}");
}

/// Not a test by itself: the process that [`an_owner_that_is_killed_leaves_nothing`] kills.
#[tokio::test]
async fn owner_to_be_killed() {
    if std::env::var_os("PGIO_TEST_OWNER").is_none() {
        return;
    }
    let server = own_server().await;
    println!("\n{}", server.directory().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_owner_that_is_killed_leaves_nothing() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "private::owner_to_be_killed", "--nocapture"])
        .env("PGIO_TEST_OWNER", "1")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let directory = loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if line.starts_with('/') {
            break Path::new(&line).to_owned();
        }
    };
    let pid = postmaster(&directory);
    assert!(is_running(pid));
    owner.kill().await.unwrap();
    until("the server has ended", || !is_running(pid)).await;
    until("the directory is gone", || !directory.exists()).await;
}

/// As root the whole suite runs the server as somebody else; this runs its owner as somebody else, too.
#[tokio::test]
async fn users_other_than_root_start_servers_as_well() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    // Where everybody may run it.
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = place.path().join("suite");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let output = Command::new(&program)
        .args(["--exact", "private::a_server_goes_down_and_comes_back_on_its_port"])
        .current_dir("/")
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
