//! Requests for broadcasts of one session's peer, whether it announced them or not.

use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

use super::broadcast_requests::PeerQueue;
use super::producer::OriginProducer;
use super::shared::OriginShared;
use crate::model::base::{Result, Route, SessionId, WaitSlot, lock};
use crate::model::routing::broadcast::{BroadcastConsumer, Upstream};
use crate::model::routing::scope::Scope;
use crate::model::routing::table::RouteEntry;
use crate::{Error, Path};

/// Requests broadcasts from the peer of one session. The peer need not have announced them.
#[derive(Clone)]
pub(crate) struct PeerRequester {
    origin: Weak<OriginShared>,
    scope: Scope,
    session: SessionId,
}

impl PeerRequester {
    /// Whether something of the peer can be requested under this path.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let origin = self.origin.upgrade().ok_or(Error::SessionClosed)?;
        origin.cache.limits().check_path(path)?;
        self.scope.absolute(path).map(drop).ok_or(Error::Unauthorized)
    }

    /// # Errors
    ///
    /// [`Error::Unauthorized`], [`Error::SessionClosed`], [`Error::Limit`].
    pub(crate) fn request(&self, path: &Path) -> Result<BroadcastConsumer> {
        let origin = self.origin.upgrade().ok_or(Error::SessionClosed)?;
        origin.cache.limits().check_path(path)?;
        let path = self.scope.absolute(path).ok_or(Error::Unauthorized)?;
        let (broadcast, _displaced) = origin.change_requests(|state| {
            let mut routes = state.table.routes(&path).iter();
            let announced = routes.find(|entry| entry.route.session == Some(self.session));
            if let Some(known) = announced.map(|entry| entry.broadcast.clone()) {
                return (Ok(known), None);
            }
            let session = Some(self.session);
            let is_own = |entry: &&RouteEntry<_>| entry.route.session == session;
            let under = state.table.covering(&path).find(is_own).map_or(0, |entry| entry.first);
            if let Some(known) = state.requests.find_under(&path, session, under) {
                return (Ok(known), None);
            }
            let route = Route { session, ..Route::default() };
            origin.request_from_peer(state, path, (self.session, under), route, None)
        });
        broadcast
    }
}

impl fmt::Debug for PeerRequester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerRequester").field(&self.session).finish()
    }
}

/// Admits requests for broadcasts that the session's peer did not announce. Once it is dropped,
/// there can be no more requests.
pub(crate) struct PeerAdmission {
    name: PeerRequester,
    slot: WaitSlot,
}

impl fmt::Debug for PeerAdmission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerAdmission").field(&self.name.session).finish()
    }
}

impl OriginProducer {
    pub(crate) fn admit_peer(&self, session: SessionId) -> PeerAdmission {
        lock(&self.shared.state).requests.peers.insert(session, PeerQueue::default());
        let origin = Arc::downgrade(&self.shared);
        let name = PeerRequester { origin, scope: self.scope.clone(), session };
        PeerAdmission { name, slot: WaitSlot::default() }
    }
}

impl PeerAdmission {
    pub(crate) fn name(&self) -> &PeerRequester {
        &self.name
    }

    /// The next broadcast that is requested from the peer, with its path relative to the peer's
    /// root.
    pub(crate) fn poll_requested(&mut self, waker: &Waker) -> Poll<(Path, Upstream)> {
        let PeerRequester { origin, scope, session } = &self.name;
        let Some(origin) = origin.upgrade() else { return Poll::Pending };
        let waker = waker.clone();
        // Declared before the guard, so that it is dropped after the lock is released.
        let _displaced;
        let mut state = lock(&origin.state);
        let Some(peer) = state.requests.peers.get_mut(session) else { return Poll::Pending };
        if let Some((path, upstream)) = peer.take() {
            return Poll::Ready((scope.relative(&path).unwrap_or_default(), upstream));
        }
        _displaced = peer.waiters.register(&mut self.slot, waker);
        Poll::Pending
    }
}

impl Drop for PeerAdmission {
    fn drop(&mut self) {
        let Some(origin) = self.name.origin.upgrade() else { return };
        let peer = lock(&origin.state).requests.peers.remove(&self.name.session);
        for (_, upstream, _) in peer.map(|peer| peer.requested).into_iter().flatten() {
            upstream.leave(Err(Error::SessionClosed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hop, Origin, Subscription, TrackInfo};

    const PEER: SessionId = SessionId(7);

    fn requested(admission: &mut PeerAdmission) -> Option<(Path, Upstream)> {
        match admission.poll_requested(Waker::noop()) {
            Poll::Ready(requested) => Some(requested),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_broadcast_of_a_peer_lasts_as_long_as_somebody_reads() {
        let origin = Origin::new(Hop::new(1)).produce().with_root("org").unwrap();
        let mut admission = origin.admit_peer(PEER);
        let peer = admission.name().clone();
        let one = peer.request(&Path::new("a")).unwrap();
        assert!(peer.request(&Path::new("a")).unwrap().is_clone(&one), "there is one for all");
        let (path, mut upstream) = requested(&mut admission).unwrap();
        assert_eq!((path.as_str(), one.path().as_str()), ("a", "org/a"));
        assert!(requested(&mut admission).is_none());
        let mut is_vacant = || upstream.is_vacant(Waker::noop());
        assert!(!is_vacant());
        let reader = one.subscribe_track("video", Subscription::default()).unwrap();
        drop(one);
        assert!(!is_vacant(), "a track is read");
        let again = peer.request(&Path::new("a")).unwrap();
        drop(reader);
        assert!(!is_vacant());
        // Nobody wants the track any more, so it is not asked for.
        assert!(upstream.poll_request(Waker::noop()).is_pending());
        drop(again);
        assert!(upstream.is_vacant(Waker::noop()));
        let other = peer.request(&Path::new("a")).unwrap();
        assert!(!other.is_closed(), "it is another one");
        drop(admission);
        assert_eq!(other.clone().try_closed(), Poll::Ready(Err(Error::SessionClosed)));
        assert_eq!(peer.request(&Path::new("a")).err(), Some(Error::SessionClosed));
    }

    #[test]
    fn a_track_with_a_late_reader_is_not_aborted() {
        let origin = Origin::new(Hop::new(1)).produce();
        let mut admission = origin.admit_peer(PEER);
        let broadcast = admission.name().request(&Path::new("a")).unwrap();
        let (_, mut upstream) = requested(&mut admission).unwrap();
        let read = || broadcast.subscribe_track("video", Subscription::default()).unwrap();
        let first = read();
        let Poll::Ready(mut source) = upstream.poll_request(Waker::noop()) else { panic!() };
        source.accept(TrackInfo::default()).unwrap();
        drop(first);
        // The session has seen that nobody reads, and is about to cancel.
        let mut late = read();
        assert!(!source.abort_if_unread(Error::Cancelled));
        assert!(late.try_recv_group().is_pending());
        drop(late);
        assert!(source.abort_if_unread(Error::Cancelled));
        drop(read());
        assert!(upstream.poll_request(Waker::noop()).is_pending(), "another one that nobody wants");
    }
}
