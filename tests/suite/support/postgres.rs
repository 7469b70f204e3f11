//! A database for each test, on the server that `PGIO_TEST_POSTGRES` names.

use std::sync::atomic::{AtomicU32, Ordering};

use super::attachments::execute;

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
    let server =
        std::env::var("PGIO_TEST_POSTGRES").expect("PGIO_TEST_POSTGRES is postgres://user@host:port");
    let name = format!("test_{}_{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
    execute(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}")).await;
    Postgres { url: format!("{server}/{name}") }
}
