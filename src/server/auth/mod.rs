//! Authentication of clients.

mod fingerprint;
mod jwt;
mod key_text;
mod keys;
pub(super) mod refusal_delay;
mod signature;
mod signed_token;
mod tokens;

use std::fmt;
use std::path::Path;

use serde::Deserialize;

use fingerprint::Fingerprint;
pub use jwt::Jwt;
pub use keys::JwtKey;
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
    /// Clients that send a JSON Web Token that is valid by these rules.
    Jwt(Jwt),
}

/// The `auth` object that a client sends when it connects to a namespace.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Credentials {
    #[serde(default)]
    token: Option<String>,
}

/// The data of a client that may connect.
#[derive(Debug)]
pub(super) struct Admitted {
    /// For `socket.data`.
    pub data: Value,
    /// The rooms that the client joins at once.
    pub rooms: Vec<String>,
    /// When the token expires, in seconds since 1970.
    pub expires: Option<u64>,
    /// The token or key that admitted the client. `None` if every client may connect.
    pub credential: Option<Credential>,
}

/// The token or the key that admitted a client. After a reload of the file, the server checks with it whether the
/// client would still be admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A token of a list.
    Token(Fingerprint),
    /// The key that signed a JSON Web Token.
    Key {
        fingerprint: Fingerprint,
        /// As the token names it.
        id: Option<Box<str>>,
    },
}

/// The reason why a client may not connect: the message of its `connect_error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    NoToken,
    WrongToken,
    Expired,
    NotYetValid,
    BadSignature,
    Algorithm,
    Malformed,
    UnknownKey,
    Audience,
    Issuer,
    OtherNamespace,
    Claims(&'static str),
    /// The namespace cannot be served.
    Namespace(String),
    /// The namespace is not hosted. The message is that of Node.
    UnknownNamespace,
    /// The client has joined as many namespaces as it may.
    TooManyNamespaces(usize),
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
            Self::UnknownKey => "unknown_key",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::OtherNamespace => "other_namespace",
            Self::Claims(_) => "claims",
            Self::Namespace(_) | Self::UnknownNamespace => "namespace",
            Self::TooManyNamespaces(_) => "too_many_namespaces",
        }
    }
}

impl Refusal {
    /// Whether the client may be guessing tokens.
    pub(super) fn may_be_a_guess(&self) -> bool {
        use Refusal::{Algorithm, BadSignature, Malformed, UnknownKey, WrongToken};
        matches!(self, WrongToken | BadSignature | Algorithm | Malformed | UnknownKey)
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
            Self::UnknownKey => "unauthorized: the key of the token is not known here",
            Self::Audience => "unauthorized: the token is for another audience",
            Self::Issuer => "unauthorized: the token is of another issuer",
            Self::OtherNamespace => "unauthorized: the token is not for this namespace",
            Self::Namespace(reason) => reason,
            Self::UnknownNamespace => "Invalid namespace",
            Self::TooManyNamespaces(max) => return write!(f, "a client may join at most {max} namespaces"),
            Self::Claims(what) => return write!(f, "unauthorized: {what}"),
        })
    }
}

impl Authentication {
    /// Authenticates a client of a namespace. `None` stands for an `auth` object that cannot be read.
    pub(super) fn admit(&self, credentials: Option<Credentials>, nsp: &str) -> Result<Admitted, Refusal> {
        let token = credentials.and_then(|credentials| credentials.token);
        let shown = || token.as_deref().filter(|token| !token.is_empty()).ok_or(Refusal::NoToken);
        match self {
            Self::Anyone => Ok(Admitted::plain()),
            Self::Tokens(tokens) => {
                let credential = tokens.find(shown()?).ok_or(Refusal::WrongToken)?;
                Ok(Admitted { credential: Some(credential), ..Admitted::plain() })
            }
            Self::Jwt(jwt) => jwt.admit(shown()?, nsp),
        }
    }

    /// Whether a client that was admitted before would still be admitted by the same token or key.
    pub(super) fn accepts(&self, credential: &Credential) -> bool {
        match self {
            Self::Anyone => true,
            Self::Tokens(tokens) => tokens.accepts(credential),
            Self::Jwt(jwt) => jwt.accepts(credential),
        }
    }

    /// Reads the file of the keys or tokens again. After an error they stay as they are. This disconnects no client;
    /// [`Server::reload`](super::Server::reload) does.
    ///
    /// # Errors
    /// Those of [`JwtKey::read`] and [`Tokens::read`].
    pub fn reload(&self) -> Result<()> {
        match self {
            Self::Anyone => Ok(()),
            Self::Tokens(tokens) => tokens.reload(),
            Self::Jwt(jwt) => jwt.key().reload(),
        }
    }

    /// The file of the keys or tokens.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Anyone => None,
            Self::Tokens(tokens) => Some(tokens.path()),
            Self::Jwt(jwt) => Some(jwt.key().path()),
        }
    }
}

impl Admitted {
    fn plain() -> Self {
        Self { data: Value::Object(Object::new()), rooms: Vec::new(), expires: None, credential: None }
    }
}

/// Reads a file of secrets.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::file(path, &error))
}
