//! The connection to the database: which one, with which deadline, and with which retries.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use super::arguments::Global;
use super::exit::Failure;
use crate::postgres::{OnLoss, Settings};
use crate::{Cluster, Error, Result};

impl Global {
    /// The database settings. In this order: the flag or `DATABASE_URL`, libpq's variables, the configuration file, the
    /// running private server.
    pub(super) fn settings(&self) -> Result<Settings> {
        first_settings(self.database.database_url.as_deref(), self.configured_url.clone())
    }

    /// Connects, with retries within the limit of `patience` while Postgres is unreachable.
    pub(super) async fn connect(&self, patience: &mut Patience) -> Result<Cluster, Failure> {
        self.connect_with(patience, OnLoss::Fail).await
    }

    /// The same, with what becomes of messages whose connection is lost.
    pub(super) async fn connect_with(
        &self,
        patience: &mut Patience,
        on_loss: OnLoss,
    ) -> Result<Cluster, Failure> {
        let settings = self.settings()?;
        loop {
            match Cluster::connect_with(settings.clone(), self.adapter_options(), on_loss).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => patience.wait_after(self, error).await?,
            }
        }
    }
}

/// The database of a command without flags and without a configuration file.
pub(super) fn without_flags() -> Result<Settings> {
    first_settings(std::env::var("DATABASE_URL").ok().as_deref(), None)
}

/// The database that is named, else that of libpq's variables, else the configured one, else the private server that runs.
fn first_settings(named: Option<&str>, configured: Option<String>) -> Result<Settings> {
    let settings = match named {
        Some(url) => Some(Settings::parse(url)?),
        None => match Settings::from_env()? {
            Some(settings) => Some(settings),
            None => configured.or_else(private_server).map(|url| Settings::parse(&url)).transpose()?,
        },
    };
    Ok(settings.ok_or(Error::NoDatabase)?.application_name("pgio"))
}

/// The deadline of a request, which includes connecting.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    within: Duration,
}

impl Deadline {
    /// The deadline that is this far from now.
    pub(super) fn after(within: Duration) -> Self {
        Self { at: Instant::now() + within, within }
    }

    /// What is left.
    pub(super) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Connects in time.
    pub(super) async fn connect(self, global: &Global) -> Result<Cluster, Failure> {
        match timeout_at(self.at.into(), global.connect(&mut Patience::none())).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let target = global.settings()?.target();
                let reason = format!("no answer within {:?}", self.within);
                Err(Error::Connect { target, reason, sqlstate: None, source: None }.into())
            }
        }
    }
}

#[cfg(unix)]
fn private_server() -> Option<String> {
    crate::postgres::private::running()
}

#[cfg(not(unix))]
fn private_server() -> Option<String> {
    None
}

/// How long to try again while Postgres is down.
pub(super) struct Patience {
    until: Option<Instant>,
    pause: Duration,
    told: bool,
}

impl Patience {
    /// Fails at the first error.
    pub(super) fn none() -> Self {
        Self { until: None, pause: Duration::ZERO, told: false }
    }

    /// Tries for so long from now on.
    pub(super) fn of(time: Duration) -> Self {
        Self { until: Instant::now().checked_add(time), pause: Duration::from_millis(100), told: false }
    }

    /// Waits before the next attempt, or gives the error back when it is no loss of the database or time is over.
    pub(super) async fn wait_after(&mut self, global: &Global, error: Error) -> Result<()> {
        let left = self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        if !error.is_disconnected() || left.is_zero() {
            return Err(error);
        }
        if !self.told {
            global.warn(&format!("{error}; retrying for {:.0?}", left));
            self.told = true;
        }
        sleep(self.pause.mul_f64(0.5 + fastrand::f64()).min(left)).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(2));
        Ok(())
    }
}
