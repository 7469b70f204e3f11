//! The private server: after the end of any owner, however it ends, nothing of the server is left.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pgio::Error;
use pgio::postgres::private::{PrivateServer, Shutdown, running_in};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::support::attachments::execute;

/// A server with the data of its own `initdb`, as applications get it.
async fn server() -> PrivateServer {
    PrivateServer::builder().start().await.unwrap()
}

/// Waits until the condition holds. Panics after a timeout.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "still not: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The pid of the server in that directory.
fn postmaster(directory: &Path) -> u32 {
    let file = std::fs::read_to_string(directory.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[tokio::test]
async fn two_servers_run_side_by_side_and_leave_nothing() {
    let (one, other) = tokio::join!(server(), server());
    assert_ne!(one.port(), other.port());
    for server in [one, other] {
        execute(&server.url(), "CREATE TABLE t AS SELECT 1").await;
        let (directory, pid) = (server.directory().to_owned(), postmaster(server.directory()));
        server.stop().await.unwrap();
        assert!(!directory.exists() && !is_running(pid));
    }
}

#[tokio::test]
async fn a_connection_needs_the_password() {
    let server = server().await;
    let url = server.url();
    let (before, after) = (url.split(':').next().unwrap(), url.split('@').nth(1).unwrap());
    let wrong = format!("{before}://pgio:wrong@{after}");
    let error = tokio_postgres::connect(&wrong, tokio_postgres::NoTls).await.err().unwrap();
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn a_directory_keeps_its_data_and_has_one_owner() {
    let parent = tempfile::tempdir().unwrap();
    // The server's user needs access to it.
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
    assert_eq!(running_in(&directory), Some(server.url()));
    server.stop().await.unwrap();
    assert_eq!(running_in(&directory), None);
}

#[tokio::test]
async fn a_server_goes_down_and_comes_back_on_its_port() {
    let mut server = server().await;
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
async fn a_server_starts_on_a_copy() {
    let mut original = server().await;
    execute(&original.url(), "CREATE TABLE kept (n int)").await;
    original.take_down(Shutdown::Fast).await.unwrap();
    let password = original.url().split([':', '@']).nth(2).unwrap().to_owned();
    let template = original.directory().join("data");
    let copy = PrivateServer::builder().template(&template, &password).start().await.unwrap();
    execute(&copy.url(), "DROP TABLE kept").await;
    original.start_again().await.unwrap();
    execute(&original.url(), "INSERT INTO kept VALUES (1)").await;

    let error = PrivateServer::builder().template("/nowhere", "").start().await.unwrap_err();
    assert!(error.to_string().contains("copying /nowhere failed"), "{error}");
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_start_reports_the_reason() {
    let error = PrivateServer::builder().setting("shared_buffers", "a lot").start().await.unwrap_err();
    assert!(error.to_string().contains("shared_buffers"), "{error}");
    let error = PrivateServer::builder().binaries("/nowhere").start().await.unwrap_err();
    assert!(error.to_string().contains("/nowhere has no initdb"), "{error}");
}

#[tokio::test]
async fn a_failed_start_leaves_nothing() {
    let place = reachable();
    let temporary = place.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    std::fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    for name in ["initdb", "postgres"] {
        let program = place.path().join(name);
        std::fs::write(&program, "#!/bin/sh\necho 'the disk is full' >&2\nexit 1\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut owner = owner();
    owner.env("TMPDIR", &temporary).env("PGIO_POSTGRES_BIN", place.path()).stderr(Stdio::piped());
    let output = owner.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the disk is full"), "{said}");
    until("the directory is gone", || entries(&temporary) == 0).await;
}

#[tokio::test]
async fn an_owner_that_is_killed_in_the_middle_of_its_start_leaves_nothing() {
    let place = reachable();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let mut owner = owner().env("TMPDIR", place.path()).spawn().unwrap();
    until("initdb is at work", || {
        let directory = std::fs::read_dir(place.path()).unwrap().flatten().next();
        directory.is_some_and(|directory| directory.path().join("new/PG_VERSION").exists())
    })
    .await;
    owner.kill().await.unwrap();
    until("the directory is gone", || entries(place.path()) == 0).await;
}

#[tokio::test]
async fn a_directory_serves_again_right_after_its_owner_was_killed() {
    let place = reachable();
    // The parent directories do not exist yet, as in a fresh /var/lib.
    let directory = place.path().join("pgio/postgres");
    let (mut owner, _) = running_owner(owner().env("PGIO_TEST_DIRECTORY", &directory)).await;
    let url = running_in(&directory).unwrap();
    execute(&url, "CREATE TABLE kept AS SELECT generate_series(1, 100000)").await;
    owner.kill().await.unwrap();
    assert_eq!(running_in(&directory), None);
    let server = PrivateServer::builder().directory(&directory).start().await.unwrap();
    assert_eq!(running_in(&directory), Some(server.url()));
    execute(&server.url(), "INSERT INTO kept VALUES (1)").await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_is_reported_and_starts_again() {
    let mut server = server().await;
    let pid = postmaster(server.directory());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::SIGINT).unwrap();
    let reason = server.died().await.to_string();
    assert!(reason.contains("received fast shutdown request") || reason.contains("shut down"), "{reason}");
    server.start_again().await.unwrap();
    execute(&server.url(), "SELECT 1").await;
}

#[tokio::test]
async fn a_stopped_server_is_removed_as_well() {
    let mut server = server().await;
    let directory = server.directory().to_owned();
    server.take_down(Shutdown::Fast).await.unwrap();
    drop(server);
    until("the directory is gone", || !directory.exists()).await;
}

#[tokio::test]
async fn a_signal_to_the_children_leaves_server_and_watchdog_running_together() {
    let (mut owner, directory) = running_owner(&mut owner()).await;
    let pid = postmaster(&directory);
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.cast_signed()))).unwrap();
    // The server ignores this signal, but it would end a shell.
    nix::sys::signal::killpg(group, nix::sys::signal::SIGHUP).unwrap();
    owner.kill().await.unwrap();
    until("the server has ended", || !is_running(pid)).await;
    until("the directory is gone", || !directory.exists()).await;
}

/// As root, pgio writes into a directory of the server's user. It must not follow links of that user.
#[tokio::test]
async fn root_follows_no_link_of_the_servers_user() {
    let place = reachable();
    let directory = place.path().join("postgres");
    let start = async || PrivateServer::builder().directory(&directory).start().await.unwrap();
    let server = start().await;
    let access = server.directory().join("data/pg_hba.conf");
    server.stop().await.unwrap();
    let precious = place.path().join("precious");
    std::fs::write(&precious, "precious").unwrap();
    std::fs::remove_file(&access).unwrap();
    std::os::unix::fs::symlink(&precious, &access).unwrap();
    start().await.stop().await.unwrap();
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
}

/// A directory that the server's user can access.
fn reachable() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    directory
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// A process that runs [`owner_to_be_killed`].
fn owner() -> Command {
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner
        .args(["--exact", "private::owner_to_be_killed", "--nocapture"])
        .env("PGIO_TEST_OWNER", "1")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    owner
}

/// Waits until the server of that owner runs. Returns the directory of the server.
async fn running_owner(owner: &mut Command) -> (tokio::process::Child, std::path::PathBuf) {
    let mut owner = owner.spawn().unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if line.starts_with('/') {
            return (owner, Path::new(&line).to_owned());
        }
    }
}

/// Not a test by itself: the process that other tests kill.
#[tokio::test]
async fn owner_to_be_killed() {
    if std::env::var_os("PGIO_TEST_OWNER").is_none() {
        return;
    }
    let server = match std::env::var_os("PGIO_TEST_DIRECTORY") {
        Some(directory) => PrivateServer::builder().directory(directory).start().await.unwrap(),
        None => server().await,
    };
    println!("\n{}", server.directory().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_owner_that_is_killed_leaves_nothing() {
    let (mut owner, directory) = running_owner(&mut owner()).await;
    let pid = postmaster(&directory);
    assert!(is_running(pid));
    owner.kill().await.unwrap();
    until("the server has ended", || !is_running(pid)).await;
    until("the directory is gone", || !directory.exists()).await;
}

/// As root, the suite runs the server as another user. This test runs its owner as another user as well.
#[tokio::test]
async fn users_other_than_root_start_servers_as_well() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    // A directory in which every user may run it.
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
