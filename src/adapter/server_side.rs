//! Events that servers send each other, and the application's handlers for them.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::protocol::{EventArgs, Namespace, Uid, Value, server_event};
use crate::{Error, Result};

/// The return value of a handler: the answer for a server that wants one, or none.
pub type Answer = Option<Value>;

/// An event that another server sent with `serverSideEmit`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServerSideEvent {
    /// The sender: the uid of its adapter, or [`Uid::emitter`].
    pub from: Uid,
    /// The namespace.
    pub namespace: Namespace,
    /// The name of the event.
    pub event: String,
    /// Its arguments.
    pub args: Vec<Value>,
    /// Whether the sender waits for an answer.
    pub wants_answer: bool,
}

type Handler = Arc<dyn Fn(ServerSideEvent) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The handlers, by namespace and event.
#[derive(Default)]
pub(super) struct Handlers {
    by_event: RwLock<HashMap<(Namespace, String), Handler>>,
    any: RwLock<Option<Handler>>,
}

impl Handlers {
    pub(super) fn insert<F, Fut>(&self, nsp: Namespace, event: &str, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let mut handlers = self.by_event.write().unwrap_or_else(PoisonError::into_inner);
        let former = handlers.insert((nsp, event.to_owned()), boxed(handler));
        // The former handler is dropped outside of the lock, since its destructor is application code.
        drop(handlers);
        drop(former);
    }

    /// Removes a handler. Returns false if there is none.
    pub(super) fn remove(&self, nsp: Namespace, event: &str) -> bool {
        let mut handlers = self.by_event.write().unwrap_or_else(PoisonError::into_inner);
        let former = handlers.remove(&(nsp, event.to_owned()));
        drop(handlers);
        former.is_some()
    }

    /// Sets the handler of all events without their own handler.
    pub(super) fn set_any<F, Fut>(&self, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let mut any = self.any.write().unwrap_or_else(PoisonError::into_inner);
        let former = any.replace(boxed(handler));
        drop(any);
        drop(former);
    }

    /// Removes that handler. Returns false if there is none.
    pub(super) fn remove_any(&self) -> bool {
        let former = self.any.write().unwrap_or_else(PoisonError::into_inner).take();
        former.is_some()
    }

    pub(super) fn clear(&self) {
        let former = std::mem::take(&mut *self.by_event.write().unwrap_or_else(PoisonError::into_inner));
        drop(former);
        self.remove_any();
    }

    /// The handler of an event.
    pub(super) fn find(&self, nsp: &Namespace, event: &str) -> Option<Handler> {
        let key = (nsp.clone(), event.to_owned());
        let own = self.by_event.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        own.or_else(|| self.any.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn boxed<F, Fut>(handler: F) -> Handler
where
    F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    Arc::new(move |event| handler(event).boxed())
}

/// Calls a handler.
///
/// # Errors
/// [`Error::Panicked`](crate::Error::Panicked).
pub(super) async fn call(handler: Handler, event: ServerSideEvent) -> Result<Answer> {
    let name = event.event.clone();
    let answer = AssertUnwindSafe(async move { handler(event).await }).catch_unwind().await;
    answer.map_err(|panic| Error::panicked(format!("the handler of the server-side event {name:?}"), &*panic))
}

/// An event for servers.
pub(super) fn event(name: &str, args: &impl Serialize) -> Result<EventArgs> {
    server_event(name, Value::args_from_rust(args)?)
}
