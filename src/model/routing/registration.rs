//! Where an origin has a broadcast.

use std::sync::{Arc, Weak};

use crate::Path;
use crate::model::base::{Route, SessionId};
use crate::model::cache::KeepAlive;

/// Where an origin has a broadcast.
#[derive(Clone)]
pub(crate) struct Registration {
    pub(super) origin: Weak<dyn Registry>,
    pub(super) path: Path,
    pub(super) id: u64,
    pub(super) kind: RegistrationKind,
}

/// How a broadcast came to its [`Registration`].
#[derive(Clone, Copy)]
pub(super) enum RegistrationKind {
    /// It stands in the table.
    Announced,
    /// It was asked for, of a session or of somebody here.
    Requested(Option<SessionId>),
}

/// An origin, as the registrations in it see it.
pub(crate) trait Registry: Send + Sync {
    /// Takes the broadcast out of the origin.
    fn leave(self: Arc<Self>, at: &Registration);

    /// Takes the route out of the table whose peer says that it has none any more.
    fn withdraw(self: Arc<Self>, at: &Registration);

    /// The broadcast comes by another route.
    fn reroute(self: Arc<Self>, at: &Registration, route: Route);
}

impl Registration {
    /// Whether the origin is still there.
    pub(crate) fn exists(&self) -> bool {
        self.origin.strong_count() > 0
    }

    /// Takes the broadcast out of the origin.
    pub(crate) fn leave(&self) {
        if let Some(origin) = self.origin.upgrade() {
            origin.leave(self);
        }
    }

    /// Takes the route out of the table whose peer says that it has none any more.
    pub(crate) fn withdraw(&self) {
        if let Some(origin) = self.origin.upgrade() {
            origin.withdraw(self);
        }
    }

    /// The broadcast comes by another route.
    pub(crate) fn reroute(&self, route: Route) {
        if let Some(origin) = self.origin.upgrade() {
            origin.reroute(self, route);
        }
    }
}

/// Keeps a broadcast under the path that it was asked for by. All handles that came by that path share it;
/// with the last of them, which is never dropped under a lock, the path is forgotten.
pub(crate) struct RegistrationGuard {
    registration: Registration,
    /// Of the path by which the answer was asked for itself.
    _within: Option<KeepAlive>,
}

impl RegistrationGuard {
    pub(crate) fn new(registration: Registration, within: Option<&KeepAlive>) -> Arc<Self> {
        Arc::new(Self { registration, _within: within.cloned() })
    }
}

impl Drop for RegistrationGuard {
    fn drop(&mut self) {
        self.registration.leave();
    }
}
