//! A PgBouncer between the program and a Postgres server of the tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// The path of the Debian package, which is not in every user's `PATH`.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

pub struct PgBouncer {
    port: u16,
    database: String,
    _files: TempDir,
    _child: Child,
}

impl PgBouncer {
    /// Starts a PgBouncer for the database of that URL; `pool_mode` is `transaction` or `session`.
    pub async fn start(url: &str, pool_mode: &str) -> PgBouncer {
        Self::with_settings(url, &format!("pool_mode = {pool_mode}\n")).await
    }

    /// A pooler in transaction mode with one session, with the application name `name`. It resets the session's settings
    /// after a transaction, unless the next one has arrived by then.
    pub async fn resetting(url: &str, name: &str) -> PgBouncer {
        let settings = format!(
            "pool_mode = transaction\ndefault_pool_size = 1\nserver_reset_query_always = 1\n\
             server_reset_query = RESET ALL; SET application_name = '{name}'\n"
        );
        Self::with_settings(url, &settings).await
    }

    async fn with_settings(url: &str, more: &str) -> PgBouncer {
        let (account, place) = url.strip_prefix("postgres://").and_then(|rest| rest.split_once('@')).unwrap();
        let (user, password) = account.split_once(':').unwrap();
        let (address, database) = place.split_once('/').unwrap();
        let (host, server_port) = address.split_once(':').unwrap();
        // The kernel selects a free port.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let files = TempDir::new().unwrap();
        fs::set_permissions(files.path(), Permissions::from_mode(0o755)).unwrap();
        let settings = files.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n\
             {database} = host={host} port={server_port} user={user} password={password}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\n{more}"
        );
        fs::write(&settings, text).unwrap();
        let mut command = Command::new(if fs::exists(PROGRAM).unwrap() { PROGRAM } else { "pgbouncer" });
        command.arg("--quiet").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        if nix::unistd::Uid::effective().is_root() {
            // PgBouncer refuses to run as root.
            command.args(["--user", "nobody"]);
        }
        let child = command.arg(&settings).spawn().expect("PgBouncer is installed (Debian: pgbouncer)");
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "PgBouncer does not start");
            sleep(Duration::from_millis(20)).await;
        }
        PgBouncer { port, database: database.into(), _files: files, _child: child }
    }

    pub fn url(&self) -> String {
        format!("postgres://anybody@127.0.0.1:{}/{}", self.port, self.database)
    }
}
