//! The connection to the database: its settings, deadline and retries.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use super::arguments::Global;
use super::exit::Failure;
use crate::cluster::LONGEST;
use crate::postgres::{OnLoss, Settings};
use crate::{Cluster, Error, Result};

impl Global {
    /// The database settings, from the first source that has some: the flag or `DATABASE_URL`, libpq's variables, the
    /// configuration file, the running private server.
    pub(super) fn settings(&self) -> Result<Settings> {
        first_settings(self.database.database_url.as_deref(), self.configured_url.clone())
    }

    /// Connects, with retries within the retry budget while Postgres is unreachable.
    pub(super) async fn connect(&self, retries: &mut RetryBudget) -> Result<Cluster, Failure> {
        self.connect_with(retries, OnLoss::Fail).await
    }

    /// Like `connect`, with a policy for messages whose connection is lost.
    pub(super) async fn connect_with(
        &self,
        retries: &mut RetryBudget,
        on_loss: OnLoss,
    ) -> Result<Cluster, Failure> {
        let settings = self.settings()?;
        loop {
            match Cluster::connect_with(settings.clone(), self.adapter_options(), on_loss).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => retries.wait_after(self, error).await?,
            }
        }
    }
}

/// The database of a command without flags and without a configuration file.
pub(super) fn without_flags() -> Result<Settings> {
    first_settings(std::env::var("DATABASE_URL").ok().as_deref(), None)
}

/// The named database, else that of libpq's variables, else the configured one, else the running private server.
fn first_settings(named: Option<&str>, configured: Option<String>) -> Result<Settings> {
    let settings = match named {
        // An unset variable of a script must not lead to another database.
        Some(url) if url.trim().is_empty() => {
            let (setting, reason) =
                ("--database-url".into(), "the URL is empty (or that in DATABASE_URL)".into());
            return Err(Error::Setting { setting, reason });
        }
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
    /// The deadline after this time from now.
    pub(super) fn after(within: Duration) -> Self {
        Self { at: Instant::now() + within.min(LONGEST), within }
    }

    /// The remaining time.
    pub(super) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Connects before the deadline.
    pub(super) async fn connect(self, global: &Global) -> Result<Cluster, Failure> {
        match timeout_at(self.at.into(), global.connect(&mut RetryBudget::none())).await {
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

/// The time budget for retries with back-off while Postgres is unreachable.
pub(super) struct RetryBudget {
    time: Duration,
    until: Option<Instant>,
    pause: Duration,
    is_reported: bool,
}

impl RetryBudget {
    /// A budget without retries.
    pub(super) fn none() -> Self {
        Self { time: Duration::ZERO, until: None, pause: Duration::ZERO, is_reported: false }
    }

    /// A budget for retries during this time from now on.
    pub(super) fn of(time: Duration) -> Self {
        Self {
            time,
            until: Instant::now().checked_add(time),
            pause: Duration::from_millis(100),
            is_reported: false,
        }
    }

    /// Waits before the next attempt. Returns the error if it is not a lost connection, or if the budget is used up.
    pub(super) async fn wait_after(&mut self, global: &Global, error: Error) -> Result<(), Failure> {
        let remaining =
            self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        if !error.is_disconnected() || remaining.is_zero() {
            let failure = Failure::from(error);
            return Err(match self.is_reported {
                true => failure.after(format!("gave up after {:?}", self.time)),
                false => failure,
            });
        }
        if !self.is_reported {
            global.warn(&format!("{error}; retrying for {:.0?}", remaining));
            self.is_reported = true;
        }
        sleep(self.pause.mul_f64(0.5 + fastrand::f64()).min(remaining)).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(2));
        Ok(())
    }
}
