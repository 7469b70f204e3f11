//! The raw settings as the user wrote them, with their source, so that an error can name it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use tokio_postgres::config::ChannelBinding;

use super::Environment;
use crate::{Error, Result};

/// Every setting that libpq knows, and its variable.
const SETTINGS: &[(&str, &str)] = &[
    ("application_name", "PGAPPNAME"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("client_encoding", "PGCLIENTENCODING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("dbname", "PGDATABASE"),
    ("fallback_application_name", ""),
    ("gssencmode", "PGGSSENCMODE"),
    ("gsslib", "PGGSSLIB"),
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("keepalives", ""),
    ("keepalives_count", ""),
    ("keepalives_idle", ""),
    ("keepalives_interval", ""),
    ("krbsrvname", "PGKRBSRVNAME"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("options", "PGOPTIONS"),
    ("passfile", "PGPASSFILE"),
    ("password", "PGPASSWORD"),
    ("port", "PGPORT"),
    ("replication", ""),
    ("require_auth", "PGREQUIREAUTH"),
    ("requirepeer", "PGREQUIREPEER"),
    ("service", "PGSERVICE"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("sslcert", "PGSSLCERT"),
    ("sslcompression", "PGSSLCOMPRESSION"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("sslkey", "PGSSLKEY"),
    ("sslmode", "PGSSLMODE"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslpassword", ""),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslsni", "PGSSLSNI"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("tcp_user_timeout", ""),
    ("user", "PGUSER"),
];

/// Settings of libpq that pgio does not support. They are refused, except with the listed values, which switch them off.
const UNSUPPORTED: &[(&str, &[&str])] = &[
    ("gssencmode", &["disable", "prefer"]),
    ("replication", &["false", "off", "no", "0"]),
    ("requirepeer", &[]),
    ("sslcompression", &["0"]),
    ("sslcrl", &[]),
    ("sslcrldir", &[]),
];

/// The settings, each with its source.
#[derive(Debug, Default)]
pub(super) struct RawSettings(HashMap<&'static str, Value>);

#[derive(Debug)]
struct Value {
    text: String,
    /// The name for errors: `sslmode`, `PGSSLMODE`.
    origin: String,
}

/// The allowed values of a setting, with their meaning.
pub(super) type Choice<T> = &'static [(&'static str, T)];

impl RawSettings {
    /// Sets a setting of the connection string. The last value of a keyword wins.
    pub(super) fn set(&mut self, keyword: &str, text: String) -> Result<()> {
        let known = known(keyword).ok_or_else(|| match is_plain(keyword) {
            true => unknown(keyword, "no such setting"),
            // It may be part of a password.
            false => unknown("the connection string", "it contains a keyword that is no setting; quote or percent-encode the special characters of a password"),
        })?;
        self.0.insert(known, Value { text, origin: known.to_owned() });
        Ok(())
    }

    /// Sets a setting unless it is set.
    pub(super) fn set_default(&mut self, keyword: &str, text: &str, origin: String) -> Result<()> {
        let known = known(keyword).ok_or_else(|| unknown(&origin, "no such setting"))?;
        self.0.entry(known).or_insert(Value { text: text.to_owned(), origin });
        Ok(())
    }

    /// Fills missing settings from libpq's variables.
    pub(super) fn add_environment(&mut self, environment: &Environment) {
        for &(keyword, variable) in SETTINGS {
            if let Some(text) = environment.variable(variable) {
                let value = Value { text: text.to_owned(), origin: variable.to_owned() };
                self.0.entry(keyword).or_insert(value);
            }
        }
    }

    /// The value of a setting; an empty one counts as not set.
    pub(super) fn text(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The value of a setting that is a path.
    pub(super) fn path(&self, keyword: &str) -> Option<PathBuf> {
        self.text(keyword).map(PathBuf::from)
    }

    /// The value of a numeric setting.
    pub(super) fn number<T: FromStr>(&self, keyword: &str) -> Result<Option<T>> {
        self.text(keyword)
            .map(|text| {
                text.trim()
                    .parse()
                    .map_err(|_| self.wrong(keyword, format!("{text:?} is not a valid number")))
            })
            .transpose()
    }

    /// The value of an enumerated setting.
    pub(super) fn choice<T: Copy>(&self, keyword: &str, choice: Choice<T>) -> Result<Option<T>> {
        let Some(text) = self.text(keyword) else { return Ok(None) };
        match choice.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<_> = choice.iter().map(|(word, _)| *word).collect();
                Err(self.wrong(keyword, format!("{text:?} is not one of {}", words.join(", "))))
            }
        }
    }

    /// The error of an invalid setting, with the name that the user has used.
    pub(super) fn wrong(&self, keyword: &str, reason: String) -> Error {
        let setting = self.0.get(keyword).map_or(keyword, |value| &value.origin).to_owned();
        Error::Setting { setting, reason }
    }

    /// Refuses a `require_auth` that cannot be enforced. The driver accepts any authentication method that the server
    /// requests, except with `channel_binding=require`, which enforces SCRAM.
    pub(super) fn check_require_auth(&self, channel_binding: ChannelBinding) -> Result<()> {
        let Some(text) = self.text("require_auth") else { return Ok(()) };
        let methods: Vec<_> = text.split(',').map(str::trim).collect();
        let allows_scram = match methods.iter().any(|method| method.starts_with('!')) {
            true => !methods.contains(&"!scram-sha-256"),
            false => methods.contains(&"scram-sha-256"),
        };
        if allows_scram && channel_binding == ChannelBinding::Require {
            return Ok(());
        }
        let reason = "only scram-sha-256 can be required, together with channel_binding=require".into();
        Err(self.wrong("require_auth", reason))
    }

    /// Refuses settings that would be silently ignored.
    pub(super) fn refuse_unsupported(&self) -> Result<()> {
        for (keyword, harmless) in UNSUPPORTED {
            if self.text(keyword).is_some_and(|text| !harmless.contains(&text)) {
                return Err(self.wrong(keyword, "not supported".into()));
            }
        }
        match self.text("client_encoding") {
            Some(text) if !["utf8", "utf-8", "unicode", "auto"].contains(&&*text.to_lowercase()) => {
                Err(self.wrong("client_encoding", format!("{text:?} is not supported, only UTF8")))
            }
            _ => Ok(()),
        }
    }
}

fn known(keyword: &str) -> Option<&'static str> {
    SETTINGS.iter().map(|(known, _)| *known).find(|known| *known == keyword)
}

/// Whether the text looks like a keyword.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

pub(super) fn unknown(setting: &str, reason: &str) -> Error {
    Error::Setting { setting: setting.to_owned(), reason: reason.to_owned() }
}
