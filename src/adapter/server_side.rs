//! Events that servers send each other.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::Result;
use crate::emitter::server_event;
use crate::protocol::{EventArgs, Namespace, Value};

/// What a handler returns: the answer for who wants one, or none.
pub type Answer = Option<Value>;

type Handler = Arc<dyn Fn(Vec<Value>) -> BoxFuture<'static, Answer> + Send + Sync>;
type Fallback = Box<dyn Fn(&Namespace, &str, Vec<Value>) -> Answer + Send + Sync>;

/// Who handles what.
#[derive(Default)]
pub(super) struct Handlers {
    by_event: RwLock<HashMap<(Namespace, String), Handler>>,
    fallback: OnceLock<Fallback>,
}

impl Handlers {
    pub(super) fn insert<F, Fut>(&self, nsp: Namespace, event: &str, handler: F)
    where
        F: Fn(Vec<Value>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |args| handler(args).boxed());
        let mut handlers = self.by_event.write().unwrap_or_else(PoisonError::into_inner);
        handlers.insert((nsp, event.to_owned()), handler);
    }

    pub(super) fn set_fallback<F>(&self, handler: F)
    where
        F: Fn(&Namespace, &str, Vec<Value>) -> Answer + Send + Sync + 'static,
    {
        self.fallback.get_or_init(|| Box::new(handler));
    }

    pub(super) async fn call(&self, nsp: &Namespace, event: &str, args: Vec<Value>) -> Answer {
        let key = (nsp.clone(), event.to_owned());
        let handler = self.by_event.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        match (handler, self.fallback.get()) {
            (Some(handler), _) => handler(args).await,
            (None, Some(fallback)) => fallback(nsp, event, args),
            (None, None) => None,
        }
    }
}

/// An event for servers.
pub(super) fn event(name: &str, args: &impl Serialize) -> Result<EventArgs> {
    server_event(name, Value::args_from_rust(args)?)
}
