//! The Postgres servers of a run: a primary, and a standby for the failover.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::{Uid, User};
use pgio::postgres::private::PrivateServer;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::program;

/// Sessions that the primary takes, those reserved for superusers included.
const MAX_CONNECTIONS: &str = "80";

/// How long a server, a statement or a copy may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The password of the roles that the cluster connects as.
pub const PASSWORD: &str = "soak";

/// The role of the victims: pgio node A and the Node server with adapter 0.5.0.
pub const VICTIM: &str = "victim";

/// The role of all others.
pub const BYSTANDER: &str = "bystander";

/// The role whose sessions only use up connections.
pub const FILLER: &str = "filler";

/// A session as superuser.
pub struct Admin {
    client: Client,
    _connection: AbortOnDropHandle<()>,
}

impl Admin {
    /// Connects within the harness' patience.
    pub async fn connect(url: &str) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let connection = tokio::spawn(async move {
            // The pending query returns the error.
            connection.await.ok();
        });
        Ok(Self { client, _connection: AbortOnDropHandle::new(connection) })
    }

    /// Executes statements; they have to succeed.
    pub async fn execute(&self, statements: &str) {
        let done = timeout(PATIENCE, self.client.batch_execute(statements)).await;
        done.expect("Postgres answers").unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// A number.
    pub async fn count(&self, query: &str) -> i64 {
        let row = timeout(PATIENCE, self.client.query_one(query, &[])).await;
        row.expect("Postgres answers").unwrap_or_else(|error| panic!("{query}: {error}")).get(0)
    }
}

/// A primary with the attachment table, and the roles `victim` and `bystander`.
pub async fn primary() -> PrivateServer {
    let builder = PrivateServer::builder().setting("max_connections", MAX_CONNECTIONS);
    // The exchange of SCRAM takes a debug build a tenth of a second, which would be all that is measured.
    let builder = builder.access(&format!("host all {VICTIM},{BYSTANDER} 127.0.0.1/32 password"));
    let builder = builder.access(&format!("host all {FILLER} 127.0.0.1/32 trust"));
    let server = builder.start().await.expect("Postgres starts");
    let admin = Admin::connect(&server.url()).await.expect("it takes connections");
    let roles = [VICTIM, BYSTANDER]
        .map(|role| format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; {}", grant(role)));
    let table = "CREATE TABLE socket_io_attachments (
        id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea);";
    admin.execute(&format!("{table} {} CREATE ROLE {FILLER} LOGIN", roles.concat())).await;
    server
}

/// The rights that a node needs.
pub fn grant(role: &str) -> String {
    format!(
        "GRANT SELECT, INSERT, DELETE ON socket_io_attachments TO {role};
         GRANT USAGE ON SEQUENCE socket_io_attachments_id_seq TO {role};"
    )
}

/// A streaming standby of a private server; killed and removed when this is dropped.
pub struct Standby {
    port: u16,
    /// With the superuser's password.
    url: String,
    _server: Child,
    _files: TempDir,
}

impl Standby {
    /// Copies the primary and follows it; returns when the standby answers queries.
    pub async fn start(primary: &PrivateServer, port: u16) -> Self {
        let files = TempDir::new().expect("a temporary directory");
        let user = account();
        if let Some(user) = &user {
            chown(files.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may do so");
        }
        std::fs::set_permissions(files.path(), std::fs::Permissions::from_mode(0o700)).expect("it is ours");
        let data = files.path().join("data");
        copy(primary, &data, user.as_ref()).await;
        let url = primary.url().replace(&format!(":{}/", primary.port()), &format!(":{port}/"));
        let log = std::fs::File::create(files.path().join("log")).expect("it is ours");
        let mut command = as_user(program::command(binary("postgres")), user.as_ref());
        command.arg("-D").arg(&data);
        let settings = [
            ("port", port.to_string()),
            ("listen_addresses", "127.0.0.1".into()),
            ("unix_socket_directories", String::new()),
            ("max_connections", MAX_CONNECTIONS.into()),
            ("fsync", "off".into()),
            ("max_wal_size", "64MB".into()),
            ("min_wal_size", "32MB".into()),
            ("shared_buffers", "16MB".into()),
        ];
        for (name, value) in settings {
            command.args(["-c", &format!("{name}={value}")]);
        }
        let server = command.stdout(Stdio::null()).stderr(log).spawn().expect("postgres can be started");
        let standby = Self { port, url, _server: server, _files: files };
        standby.wait_until_it_answers().await;
        standby
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL as superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes it a primary; returns when it takes writes.
    pub async fn promote(&self) {
        let admin = Admin::connect(&self.url).await.expect("the standby takes connections");
        admin.execute("SELECT pg_promote(true, 30)").await;
    }

    async fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = Admin::connect(&self.url).await {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self._files.path().join("log")).unwrap_or_default();
                panic!("the standby does not answer: {error}; its log:\n{log}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The user that runs Postgres instead of root, as Postgres refuses root.
fn account() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    Some(user.expect("a user postgres or nobody"))
}

fn as_user(mut command: Command, user: Option<&User>) -> Command {
    command.env_clear().env("LC_ALL", "C").current_dir("/");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

async fn copy(primary: &PrivateServer, data: &Path, user: Option<&User>) {
    let url = primary.url();
    let password = url.strip_prefix("postgres://pgio:").and_then(|rest| rest.split('@').next());
    let mut command = as_user(program::command(binary("pg_basebackup")), user);
    command.args(["-h", "127.0.0.1", "-p", &primary.port().to_string(), "-U", "pgio", "-D"]).arg(data);
    command.args(["-R", "-X", "stream", "-c", "fast", "--no-sync"]);
    command.env("PGPASSWORD", password.expect("the URL of a private server has a password"));
    let output =
        timeout(PATIENCE, command.output()).await.expect("a copy is fast").expect("it can be started");
    assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
}

/// A program of the newest Postgres on the machine, beside the `postgres` that the private server takes.
fn binary(name: &str) -> PathBuf {
    let named = std::env::var_os("PGIO_POSTGRES_BIN").map(PathBuf::from).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>().into_iter();
    let packages = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packages: Vec<_> = packages.map(|entry| entry.path().join("bin")).collect();
    packages.sort();
    let directories = named.chain(on_path).chain(packages.into_iter().rev());
    let complete = directories.into_iter().find(|directory| {
        ["initdb", "postgres", name].iter().all(|program| directory.join(program).is_file())
    });
    complete.expect("Postgres is installed (on Debian: apt-get install postgresql)").join(name)
}
