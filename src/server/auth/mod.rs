//! Who may connect.

mod jwt;
mod tokens;

use std::fmt;
use std::path::Path;

use serde::Deserialize;

pub use jwt::JwtKey;
pub use tokens::Tokens;

use crate::protocol::{Object, Value};
use crate::{Error, Result};

/// Who may connect. Clients show a token: `io(url, { auth: { token } })`.
#[derive(Debug, Clone, Default)]
pub enum Authentication {
    /// Anyone.
    #[default]
    Anyone,
    /// Who shows one of these tokens.
    Tokens(Tokens),
    /// Who shows a JSON Web Token signed with this key.
    Jwt(JwtKey),
}

/// What a client shows when it connects to a namespace.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Credentials {
    #[serde(default)]
    token: Option<String>,
}

/// What a client that was let in brings with it.
#[derive(Debug)]
pub(super) struct Admission {
    /// For `socket.data`.
    pub data: Value,
    /// Rooms that it joins at once.
    pub rooms: Vec<String>,
}

/// Why a client is not let in: the message of its `connect_error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    NoToken,
    WrongToken,
    Expired,
    NotYetValid,
    BadSignature,
    Algorithm,
    Malformed,
    Claims(&'static str),
}

impl Refusal {
    /// The label of the metric.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::BadSignature => "bad_signature",
            Self::Algorithm => "algorithm",
            Self::Malformed => "malformed",
            Self::Claims(_) => "claims",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoToken => "unauthorized: a token is needed, as auth: { token }",
            Self::WrongToken => "unauthorized: the token is not known here",
            Self::Expired => "unauthorized: the token has expired",
            Self::NotYetValid => "unauthorized: the token is not valid yet",
            Self::BadSignature => "unauthorized: the token's signature does not match",
            Self::Algorithm => "unauthorized: the token's algorithm is not accepted here",
            Self::Malformed => "unauthorized: the token is malformed",
            Self::Claims(what) => return write!(f, "unauthorized: {what}"),
        })
    }
}

impl Authentication {
    /// Decides about a client. `None` for credentials that make no sense.
    pub(super) fn admit(&self, credentials: Option<Credentials>) -> Result<Admission, Refusal> {
        let token = credentials.and_then(|credentials| credentials.token);
        let shown = || token.as_deref().filter(|token| !token.is_empty()).ok_or(Refusal::NoToken);
        match self {
            Self::Anyone => Ok(Admission::plain()),
            Self::Tokens(tokens) => match tokens.contain(shown()?) {
                true => Ok(Admission::plain()),
                false => Err(Refusal::WrongToken),
            },
            Self::Jwt(key) => key.admit(shown()?),
        }
    }
}

impl Admission {
    fn plain() -> Self {
        Self { data: Value::Object(Object::new()), rooms: Vec::new() }
    }
}

/// Reads a file of secrets.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::file(path, &error))
}
