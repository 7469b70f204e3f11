//! The responses of this server to `serverSideEmitWithAck` of other servers.

use crate::adapter::PostgresAdapterCtr;
use crate::protocol::{Object, Value};

/// The response to every `serverSideEmitWithAck` of another server, whatever the event.
#[derive(Debug, Clone, Default)]
pub enum Answers {
    /// `{"node": "<uid>", "pgio": "<version>"}`.
    #[default]
    Identity,
    /// This value.
    Value(Value),
    /// No response: the request of the other server times out.
    None,
}

impl Answers {
    pub(super) fn install(self, adapter: &PostgresAdapterCtr) {
        match self {
            Self::Identity => adapter.set_default_answer(|uid| {
                let version = Value::from(env!("CARGO_PKG_VERSION"));
                let identity = [("node".into(), Value::from(uid.to_string())), ("pgio".into(), version)];
                Some(Value::Object(Object::from(identity)))
            }),
            Self::Value(value) => adapter.set_default_answer(move |_| Some(value.clone())),
            Self::None => {}
        }
    }
}
