//! A Postgres server of the tests' own, and a database on it for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use pgio::postgres::private::PrivateServer;
use tokio::sync::OnceCell;

use super::attachments::execute;

/// One for all tests of a process. Never dropped, but it ends with the process: its watchdog sees to that.
static SERVER: OnceCell<PrivateServer> = OnceCell::const_new();

/// A database that only one test uses.
pub struct Postgres {
    url: String,
}

impl Postgres {
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Makes a new database.
pub async fn postgres() -> Postgres {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(async || PrivateServer::builder().start().await.unwrap()).await;
    let name = format!("test_{}", LAST.fetch_add(1, Ordering::Relaxed));
    execute(&server.url(), &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
    let url = server.url().strip_suffix("/pgio").map(|server| format!("{server}/{name}")).unwrap();
    Postgres { url }
}

/// A server that only one test uses, and may ill-treat.
pub async fn own_server() -> PrivateServer {
    PrivateServer::builder().start().await.unwrap()
}
