//! One Postgres server for a whole test run, whichever runner starts the tests.
//!
//! nextest runs each test in a process of its own. The first process that wants the server starts a keeper: this test
//! binary once more, in a process group of its own. The keeper owns the server until the run ends, however it ends. A
//! run is nextest's process, or this process under `cargo test`.

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

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a test looks whether the server is up.
const LOOK: Duration = Duration::from_millis(10);
/// How often the keeper looks whether the run still goes on, and for databases to drop.
const ROUND: Duration = Duration::from_millis(200);
/// Tells the keeper where to work; without it the keeper is a test that has nothing to do.
const DIRECTORY: &str = "PGIO_TEST_KEEPER_DIRECTORY";
/// Tells the keeper which process is the run.
const RUN: &str = "PGIO_TEST_KEEPER_RUN";

/// The server of this run.
#[derive(Serialize, Deserialize)]
pub struct SharedServer {
    /// Of its first database.
    pub url: String,
    /// A data directory in the state right after `initdb`, to start other servers from.
    pub template: PathBuf,
    /// The password of the role `pgio`, here and in the template.
    pub password: String,
    /// Where tests leave the names of databases that they are through with.
    unused: PathBuf,
}

impl SharedServer {
    /// The server of this run; starts it if no test has before.
    pub async fn get() -> &'static SharedServer {
        static SERVER: OnceCell<SharedServer> = OnceCell::const_new();
        SERVER.get_or_init(find_or_start).await
    }

    /// Has a database dropped as soon as nobody is connected to it.
    pub fn leave(&self, database: &str) {
        // Where the run has ended, the whole server goes.
        File::create(self.unused.join(database)).ok();
    }
}

/// The process that is the run, and a name for it.
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
        // Signals to the test that started it are not for the keeper.
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

/// Drops databases until the run has ended.
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
