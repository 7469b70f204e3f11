//! What other servers get that ask this one for an answer.

use crate::adapter::PostgresAdapterCtr;
use crate::protocol::{Object, Value};

/// What other servers get that ask for an answer (`serverSideEmitWithAck`), whatever the event.
#[derive(Debug, Clone, Default)]
pub enum Answers {
    /// `{"node": "<uid>", "pgio": "<version>"}`.
    #[default]
    Identity,
    /// Always this.
    Value(Value),
    /// None: whoever asks waits in vain.
    None,
}

impl Answers {
    pub(super) fn install(self, adapter: &PostgresAdapterCtr) {
        match self {
            Self::Identity => adapter.answer_with(|uid| {
                let version = Value::from(env!("CARGO_PKG_VERSION"));
                let identity = [("node".into(), Value::from(uid.to_string())), ("pgio".into(), version)];
                Some(Value::Object(Object::from(identity)))
            }),
            Self::Value(value) => adapter.answer_with(move |_| Some(value.clone())),
            Self::None => {}
        }
    }
}
