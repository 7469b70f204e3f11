//! The ids of nodes and requests: 8 random bytes in hex.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

/// The sender that no node counts as a peer (`EMITTER_UID` in every version of the Node adapter).
const EMITTER: &str = "emitter";

/// The uid of emitters. It is shared, since most messages of a flood have it.
static EMITTER_UID: LazyLock<Uid> = LazyLock::new(|| Uid(EMITTER.into()));

/// The sender of a message: one adapter, which is one namespace of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(Arc<str>);

impl Uid {
    /// A new random uid. Each adapter has its own.
    pub fn random() -> Self {
        Self(random_hex().into())
    }

    /// The uid of emitters and tools. Nodes answer it, and no node counts it as a peer.
    pub fn emitter() -> Self {
        EMITTER_UID.clone()
    }

    /// Whether this is the uid of emitters, not of a node.
    pub fn is_emitter(&self) -> bool {
        &*self.0 == EMITTER
    }

    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id that a request and its answers share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new random request id.
    pub fn random() -> Self {
        Self(random_hex().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn random_hex() -> String {
    format!("{:016x}", fastrand::u64(..))
}

macro_rules! plain_text {
    ($($name:ident),+) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        )+
    };
}

plain_text!(Uid, RequestId);

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        if text == EMITTER { Self::emitter() } else { Self(text.into()) }
    }
}

impl std::borrow::Borrow<str> for RequestId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RequestId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}
