//! The settings with an enumerated value.

use tokio_postgres::config::ChannelBinding;

use super::raw::Choice;

/// Whether the connection is encrypted and the server verified. Source: libpq's table of sslmode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum SslMode {
    Disable,
    /// Plain text; TLS if the server requires it.
    Allow,
    /// TLS; plain text if the server has no TLS.
    Prefer,
    /// TLS, without verification of the server.
    Require,
    /// TLS, with verification of the certificate chain.
    VerifyCa,
    /// TLS, with verification of the certificate chain and the host name.
    VerifyFull,
}

/// The required role of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum TargetSession {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby, or any server if no host is a standby.
    PreferStandby,
}

impl TargetSession {
    /// The default. Among several hosts a standby may come first after a failover, and it accepts no `NOTIFY`. A single
    /// host is not checked, which saves a query.
    pub(super) fn default_for(several_hosts: bool) -> Self {
        if several_hosts { Self::ReadWrite } else { Self::Any }
    }
}

pub(super) const SSL_MODE: Choice<SslMode> = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

pub(super) const TARGET_SESSION: Choice<TargetSession> = &[
    ("any", TargetSession::Any),
    ("read-write", TargetSession::ReadWrite),
    ("read-only", TargetSession::ReadOnly),
    ("primary", TargetSession::Primary),
    ("standby", TargetSession::Standby),
    ("prefer-standby", TargetSession::PreferStandby),
];

pub(super) const CHANNEL_BINDING: Choice<ChannelBinding> = &[
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

/// Whether to try the hosts in random order.
pub(super) const SHUFFLE_HOSTS: Choice<bool> = &[("disable", false), ("random", true)];
