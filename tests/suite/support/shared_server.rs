//! One Postgres server for a whole test run, with any test runner.
//!
//! nextest runs each test in a separate process. The first process that needs the server starts a keeper: this test
//! binary again, in a separate process group. The keeper owns the server until the end of the run, even if the run is
//! killed. A run is the process of nextest, or this process under `cargo test`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid, getppid};
use pgio::postgres::private::{PrivateServer, Shutdown};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tokio_util::task::AbortOnDropHandle;

/// The deadline for the start of the server.
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval at which a test checks whether the server is up.
const LOOK: Duration = Duration::from_millis(10);
/// The interval at which the keeper checks whether the run goes on, and drops databases.
const ROUND: Duration = Duration::from_millis(200);
/// The variable with the directory of the keeper. Without it, the keeper is a test that does nothing.
const DIRECTORY: &str = "PGIO_TEST_KEEPER_DIRECTORY";
/// The variable with the process id of the run.
const RUN: &str = "PGIO_TEST_KEEPER_RUN";

/// The server of this run.
#[derive(Serialize, Deserialize)]
pub struct SharedServer {
    /// The URL of its first database.
    pub url: String,
    /// A data directory in the state right after `initdb`, as a template for other servers.
    pub template: PathBuf,
    /// The password of the role `pgio`, here and in the template.
    pub password: String,
    /// The directory for the names of databases that tests no longer use.
    unused: PathBuf,
}

impl SharedServer {
    /// The server of this run. Starts it if no test has started it before.
    pub async fn get() -> &'static SharedServer {
        static SERVER: OnceCell<SharedServer> = OnceCell::const_new();
        SERVER.get_or_init(find_or_start).await
    }

    /// Marks a database for its drop, which happens when no session uses it.
    pub fn leave(&self, database: &str) {
        // This fails after the end of the run, when the whole server is removed.
        File::create(self.unused.join(database)).ok();
    }
}

/// The process of the run, and a name for it.
fn run() -> (Pid, String) {
    match std::env::var("NEXTEST_RUN_ID") {
        Ok(id) => (getppid(), id),
        Err(_) => (getpid(), format!("{}-{:016x}", getpid(), fastrand::u64(..))),
    }
}

async fn find_or_start() -> SharedServer {
    let (run, name) = run();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{name}"));
    fs::create_dir_all(&directory).unwrap();
    let lock = File::create(directory.join("lock")).unwrap();
    // Waits while another process starts the server.
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    let mut keeper = None;
    let start = Instant::now();
    let server = loop {
        match fs::read(directory.join("server.json")) {
            Ok(text) => break serde_json::from_slice(&text).unwrap(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", directory.display()),
        }
        let keeper = keeper.get_or_insert_with(|| start_keeper(&directory, run));
        if keeper.try_wait().unwrap().is_some() || start.elapsed() > PATIENCE {
            let log = fs::read_to_string(directory.join("keeper.log")).unwrap_or_default();
            panic!("the Postgres server of the tests does not start: {log}");
        }
        sleep(LOOK).await;
    };
    drop(lock);
    server
}

fn start_keeper(directory: &Path, run: Pid) -> Child {
    let log = File::create(directory.join("keeper.log")).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "support::shared_server::keeper", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(RUN, run.to_string())
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        // The keeper must not get the signals to the test that started it.
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Not a test by itself: the process that owns the server.
#[tokio::test]
async fn keeper() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let run = Pid::from_raw(std::env::var(RUN).unwrap().parse().unwrap());
    let unused = directory.join("unused");
    fs::create_dir_all(&unused).unwrap();
    let mut server = PrivateServer::builder().setting("max_connections", "400").start().await.unwrap();
    let template = server.directory().join("template");
    server.take_down(Shutdown::Fast).await.unwrap();
    let data = server.directory().join("data");
    let copied = Command::new("cp").arg("-pR").args([&data, &template]).status().await.unwrap();
    assert!(copied.success());
    server.start_again().await.unwrap();

    let url = server.url();
    let password = url.split([':', '@']).nth(2).unwrap().to_owned();
    let shared = SharedServer { url, template, password, unused };
    let draft = directory.join("draft");
    fs::write(&draft, serde_json::to_vec(&shared).unwrap()).unwrap();
    fs::rename(draft, directory.join("server.json")).unwrap();
    tokio::select! {
        () = serve(&shared, run) => {}
        error = server.died() => println!("{error}"),
    }
    fs::remove_dir_all(&directory).unwrap();
    server.stop().await.unwrap();
}

/// Drops marked databases until the run has ended.
async fn serve(shared: &SharedServer, run: Pid) {
    let (client, connection) = tokio_postgres::connect(&shared.url, NoTls).await.unwrap();
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    while kill(run, None).is_ok() {
        sleep(ROUND).await;
        for entry in fs::read_dir(&shared.unused).unwrap() {
            let path = entry.unwrap().path();
            let database = path.file_name().and_then(|name| name.to_str()).unwrap();
            match client.batch_execute(&format!("DROP DATABASE {database}")).await {
                Ok(()) => fs::remove_file(&path).unwrap(),
                // Its last sessions are ending.
                Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {}
                Err(error) => println!("{database}: {error}"),
            }
        }
    }
}
