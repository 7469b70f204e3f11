//! The io and the handlers that the application gives to the adapter.
//!
//! The application's handles own them, and not the adapter. socketioxide keeps a handle in every `SocketIo`, and handlers
//! often capture a `SocketIo`: if the adapter owned them, it would own itself (a reference cycle), and never end. So
//! [`Shared`] holds weak references, and the copy of the handle in socketioxide releases its share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::io_handle::IoHandle;
use super::node::Node;
use super::server_side::{self, Answer, Handlers, ServerSideEvent};
use super::{Shared, Sid};
use crate::{Error, Result};

/// The handler of slow clients: called with the namespace and the id of a client whose buffer was full.
type SlowClient = Arc<dyn Fn(&str, Sid) + Send + Sync>;

#[derive(Default)]
pub(super) struct Application {
    io: Mutex<Option<Arc<IoHandle>>>,
    slow_client: Mutex<Option<SlowClient>>,
    pub(super) handlers: Handlers,
}

impl Application {
    pub(super) fn io(&self) -> Option<Arc<IoHandle>> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn attach(&self, io: impl FnOnce() -> IoHandle) {
        self.io.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| Arc::new(io()));
    }

    pub(super) fn on_slow_client(&self, handler: impl Fn(&str, Sid) + Send + Sync + 'static) {
        let handler: SlowClient = Arc::new(handler);
        let mut slow_client = self.slow_client.lock().unwrap_or_else(PoisonError::into_inner);
        slow_client.get_or_insert_with(|| handler.clone());
        drop(slow_client);
        // An unused handler is dropped outside of the lock, since its destructor is application code.
        drop(handler);
    }

    /// Drops the io and all handlers.
    fn clear(&self) {
        let io = self.io.lock().unwrap_or_else(PoisonError::into_inner).take();
        let slow_client = self.slow_client.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop((io, slow_client));
        self.handlers.clear();
    }
}

/// The owner that all handles of the application share, except the handle in socketioxide.
pub(super) struct Owner(Arc<Application>);

/// A handle's share.
#[derive(Default)]
pub(super) struct Ownership(Mutex<Option<Arc<Owner>>>);

impl Clone for Ownership {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.lock().clone()))
    }
}

impl Ownership {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Owner>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The io and the handlers given so far. From now on this handle keeps them.
    pub(super) fn claim(&self, shared: &Shared) -> Arc<Application> {
        let mut own = self.lock();
        if let Some(owner) = &*own {
            return owner.0.clone();
        }
        let mut weak = shared.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = weak.upgrade().unwrap_or_else(|| Arc::new(Owner(Arc::default())));
        *weak = Arc::downgrade(&owner);
        own.insert(owner).0.clone()
    }

    /// Drops this handle's share, unless it is the last one.
    pub(super) fn release(&self, shared: &Shared) {
        let mut own = self.lock();
        // Temporary references to an owner exist only under this lock, so the count is that of the handles.
        let owner = shared.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let others_own = own.as_ref().is_some_and(|own| Arc::strong_count(own) > 1);
        drop(owner);
        let released = if others_own { own.take() } else { None };
        drop(own);
        drop(released);
    }
}

impl Shared {
    /// The io and the handlers, as long as the application keeps one of its handles.
    pub(super) fn application(&self) -> Option<Arc<Application>> {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let application = owner.upgrade().map(|owner| owner.0.clone());
        drop(owner);
        application
    }

    /// Drops the io and the handlers.
    pub(super) fn drop_application(&self) {
        if let Some(application) = self.application() {
            application.clear();
        }
    }

    /// Calls the handler of a server-side event, if there is one.
    pub(super) async fn answer(&self, node: &Node, event: ServerSideEvent) -> Answer {
        let application = self.application()?;
        let handler = application.handlers.find(&event.namespace, &event.event)?;
        drop(application);
        server_side::call(handler, event).await.unwrap_or_else(|error| {
            node.report(&error, "cannot answer a server-side event");
            None
        })
    }

    /// Calls the handler of slow clients. Returns false if there is none, or if it panics.
    pub(super) fn notify_slow_client(&self, node: &Node, sid: Sid) -> bool {
        let Some(application) = self.application() else { return false };
        let handler = application.slow_client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        drop(application);
        let Some(handler) = handler else { return false };
        let told: Result<()> = catch_unwind(AssertUnwindSafe(|| handler(node.nsp.as_str(), sid)))
            .map_err(|panic| Error::panicked("the handler of slow clients", &*panic));
        if let Err(error) = &told {
            node.report(error, "disconnecting the slow client instead");
        }
        told.is_ok()
    }
}

/// The owner of a handle without io and handlers.
pub(super) fn no_owner() -> Mutex<Weak<Owner>> {
    Mutex::new(Weak::new())
}
