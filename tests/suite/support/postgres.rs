//! A database for each test, on the shared server of the test run, or a server for a single test.

use std::sync::atomic::{AtomicU32, Ordering};

use pgio::postgres::private::{PrivateServer, PrivateServerBuilder};

use super::attachments::execute;
use super::shared_server::SharedServer;

/// A database that only one test uses. It is dropped with this handle.
pub struct Postgres {
    name: String,
    url: String,
    server: &'static SharedServer,
}

impl Postgres {
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Postgres {
    /// The URL of a role that only this database's test uses. `settings` is a clause of `ALTER ROLE`.
    pub async fn url_of_role_with(&self, settings: &str) -> String {
        let address = self.url.split(['@', '/']).nth(3).unwrap();
        let role = format!("role_of_{}", self.name);
        let create = format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE {role} LOGIN PASSWORD 'pw'; ALTER ROLE {role} {settings}"
        );
        execute(&self.url, &create).await;
        format!("postgres://{role}:pw@{address}/{}", self.name)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.server.leave(&self.name);
    }
}

/// Makes a new database.
pub async fn postgres() -> Postgres {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let server = SharedServer::get().await;
    let name = format!("test_{}_{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
    execute(&server.url, &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
    let url = server.url.strip_suffix("/pgio").map(|server| format!("{server}/{name}")).unwrap();
    Postgres { name, url, server }
}

/// The URL of a database for another role, with the password `pw`.
pub fn url_as(role: &str, url: &str) -> String {
    let (_, address) = url.rsplit_once('@').unwrap();
    format!("postgres://{role}:pw@{address}")
}

/// A server that only one test uses, and may break.
pub async fn own_server() -> PrivateServer {
    own_server_builder().await.start().await.unwrap()
}

/// The same, for a test that configures it first. It needs no `initdb`.
pub async fn own_server_builder() -> PrivateServerBuilder {
    let SharedServer { template, password, .. } = SharedServer::get().await;
    PrivateServer::builder().template(template, password)
}
