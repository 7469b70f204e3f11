//! Authentication of clients.

mod jwt;
mod tokens;

use std::fmt;
use std::path::Path;

use serde::Deserialize;

pub use jwt::JwtKey;
pub use tokens::Tokens;

use crate::protocol::{Object, Value};
use crate::{Error, Result};

/// Which clients may connect. A client sends its token as `io(url, { auth: { token } })`.
#[derive(Debug, Clone, Default)]
pub enum Authentication {
    /// Every client.
    #[default]
    Anyone,
    /// Clients that send one of these tokens.
    Tokens(Tokens),
    /// Clients that send a JSON Web Token signed with this key.
    Jwt(JwtKey),
}

/// The `auth` object that a client sends when it connects to a namespace.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Credentials {
    #[serde(default)]
    token: Option<String>,
}

/// What is known about a client that may connect.
#[derive(Debug)]
pub(super) struct Admitted {
    /// For `socket.data`.
    pub data: Value,
    /// The rooms that the client joins at once.
    pub rooms: Vec<String>,
}

/// Why a client may not connect: the message of its `connect_error`.
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
    /// The namespace cannot be served.
    Namespace(String),
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
            Self::Namespace(_) => "namespace",
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
            Self::Namespace(reason) => reason,
            Self::Claims(what) => return write!(f, "unauthorized: {what}"),
        })
    }
}

impl Authentication {
    /// Authenticates a client. `None` stands for an `auth` object that cannot be read.
    pub(super) fn admit(&self, credentials: Option<Credentials>) -> Result<Admitted, Refusal> {
        let token = credentials.and_then(|credentials| credentials.token);
        let shown = || token.as_deref().filter(|token| !token.is_empty()).ok_or(Refusal::NoToken);
        match self {
            Self::Anyone => Ok(Admitted::plain()),
            Self::Tokens(tokens) => match tokens.contain(shown()?) {
                true => Ok(Admitted::plain()),
                false => Err(Refusal::WrongToken),
            },
            Self::Jwt(key) => key.admit(shown()?),
        }
    }
}

impl Admitted {
    fn plain() -> Self {
        Self { data: Value::Object(Object::new()), rooms: Vec::new() }
    }
}

/// Reads a file of secrets.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::file(path, &error))
}
