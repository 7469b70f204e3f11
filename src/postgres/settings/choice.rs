//! The settings with an enumerated value.

use tokio_postgres::config::ChannelBinding;

use super::given::Choice;

/// Whether the connection is encrypted, and what is checked. Source: libpq's table of sslmode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum SslMode {
    Disable,
    /// Plain; TLS where the server insists on it.
    Allow,
    /// TLS; plain where the server has none.
    Prefer,
    /// TLS, to whomever it is.
    Require,
    /// TLS to a server whose certificate the roots vouch for.
    VerifyCa,
    /// TLS to exactly the host that was asked for.
    VerifyFull,
}

/// What the server must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum TargetSession {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby, or whatever there is where none of the hosts is one.
    PreferStandby,
}

impl TargetSession {
    /// Where nothing is set. Among several hosts a standby may come first after a failover, and it takes no `NOTIFY`.
    /// A single host is taken as it is, without a query that looks at it.
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
