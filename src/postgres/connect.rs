//! stub
use crate::{Error, Result};
use postgres_native_tls::{MakeTlsConnector, TlsStream};
use tokio_postgres::{Client, Connection, Socket};

/// stub
#[derive(Clone)]
pub struct Settings(tokio_postgres::Config);

pub(crate) type PgConnection = Connection<Socket, TlsStream<Socket>>;

impl Settings {
    /// stub
    pub fn parse(url: &str) -> Result<Self> {
        Ok(Self(url.parse().map_err(|e: tokio_postgres::Error| Error::Database(e.to_string()))?))
    }

    /// stub
    pub fn from_env() -> Result<Option<Self>> {
        Ok(None)
    }
    /// stub
    pub fn application_name(self, _n: &str) -> Self {
        self
    }
    /// stub
    pub(crate) async fn connect(&self) -> Result<(Client, PgConnection)> {
        let tls = MakeTlsConnector::new(native_tls::TlsConnector::new().unwrap());
        self.0.connect(tls).await.map_err(|e| failure(&e))
    }
}

pub(crate) fn failure(error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(db) => Error::Database(db.message().to_owned()),
        None => Error::ConnectionLost(error.to_string()),
    }
}
