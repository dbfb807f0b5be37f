//! The entry of a broadcast in an origin.

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
    /// It is in the routing table.
    Announced,
    /// It was requested, from a session or from a handler of this process.
    Requested(Option<SessionId>),
}

/// An origin, as a broadcast that is registered in it sees it.
pub(crate) trait Registry: Send + Sync {
    /// Removes the broadcast from the origin.
    fn leave(self: Arc<Self>, at: &Registration);

    /// Removes a route that its peer withdrew.
    fn withdraw(self: Arc<Self>, at: &Registration);

    /// The broadcast comes by another route now.
    fn reroute(self: Arc<Self>, at: &Registration, route: Route);
}

impl Registration {
    /// Whether the origin still exists.
    pub(crate) fn exists(&self) -> bool {
        self.origin.strong_count() > 0
    }

    /// Removes the broadcast from the origin.
    pub(crate) fn leave(&self) {
        if let Some(origin) = self.origin.upgrade() {
            origin.leave(self);
        }
    }

    /// Removes a route that its peer withdrew.
    pub(crate) fn withdraw(&self) {
        if let Some(origin) = self.origin.upgrade() {
            origin.withdraw(self);
        }
    }

    /// The broadcast comes by another route now.
    pub(crate) fn reroute(&self, route: Route) {
        if let Some(origin) = self.origin.upgrade() {
            origin.reroute(self, route);
        }
    }
}

/// Keeps a broadcast under the path by which it was requested. All handles that were found by that
/// path share it. When the last of them is dropped, which never happens under a lock, the path is
/// removed.
pub(crate) struct RegistrationGuard {
    registration: Registration,
    /// Keeps the path by which the answer itself was requested.
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
