//! Answering requests for broadcasts below a prefix that are not announced.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::producer::OriginProducer;
use crate::model::base::{Reach, Result, Route, WaitSlot, impl_debug, lock, wait};
use crate::model::routing::broadcast::{BroadcastConsumer, BroadcastProducer};
use crate::model::routing::registration::{Registration, RegistrationGuard, RegistrationKind};
use crate::{Error, Path};

impl OriginProducer {
    /// A handle that answers requests for broadcasts at `prefix` and below that are not announced. They
    /// are requested by [`OriginConsumer::request_broadcast`](super::OriginConsumer), and by peers,
    /// which subscribe to them like to any other. If several prefixes cover a path, the longest
    /// decides. Of several handles for the same prefix the newest is asked.
    ///
    /// The prefix is announced to peers on moq-lite 06 and later and on moq-transport. On other
    /// versions peers have to know it. The broadcasts themselves are not announced.
    ///
    /// `prefix` is relative to [`root`](Self::root).
    ///
    /// # Errors
    ///
    /// [`Error::Unauthorized`] outside of [`allowed`](Self::allowed); [`Error::Limit`] past
    /// [`Limits::path_bytes`](crate::Limits::path_bytes). The origin stays as it is.
    ///
    /// ```
    /// use std::task::Poll;
    ///
    /// use smoq::{Origin, Subscription};
    ///
    /// let origin = Origin::default().produce();
    /// let mut store = origin.dynamic("archive")?;
    ///
    /// // A request, here or from a peer.
    /// let mut reader = origin.consume();
    /// assert!(reader.try_request_broadcast("archive/1969").is_pending());
    ///
    /// // `requested_broadcast().await`, in a task of the store.
    /// let Poll::Ready(request) = store.try_requested_broadcast() else { panic!("it was asked") };
    /// assert_eq!(request.path().as_str(), "archive/1969");
    /// let mut broadcast = request.accept();
    /// let _video = broadcast.create_track("video")?;
    ///
    /// let Poll::Ready(found) = reader.try_request_broadcast("archive/1969") else { panic!() };
    /// let _video = found?.subscribe_track("video", Subscription::default())?;
    /// # Ok::<(), smoq::Error>(())
    /// ```
    pub fn dynamic(&self, prefix: impl Into<Path>) -> Result<OriginDynamic> {
        let prefix = self.absolute(&prefix.into())?;
        let route = Route { reach: Reach::OnDemand, ..Route::default() };
        // It only holds the route. No lookup returns it.
        let nothing = BroadcastProducer::new(prefix.clone(), self.cache().clone(), route.clone());
        let handler = self.shared.change(|state| {
            let id = state.table.insert(&prefix, route, nothing.consume());
            state.requests.open_handler(&prefix, id);
            state.requests.recheck(&prefix, Reach::OnDemand);
            id
        });
        Ok(OriginDynamic { origin: self.clone(), prefix, handler, slot: WaitSlot::default() })
    }
}

/// Answers requests for broadcasts that are not announced.
///
/// When the last clone is dropped, waiting requests go to the next handler. Without one they fail
/// with [`Error::Unroutable`], and so do new requests. Broadcasts that were accepted stay.
pub struct OriginDynamic {
    origin: OriginProducer,
    /// The whole path.
    prefix: Path,
    handler: u64,
    slot: WaitSlot,
}

impl OriginDynamic {
    wait! {
        /// The next requested broadcast, in order of request. All requesters of a broadcast share
        /// one request. A request that nobody wants any more is not returned. It must be answered
        /// within [`Limits::answer_timeout`](crate::Limits::answer_timeout).
        next_request => poll_requested_broadcast, requested_broadcast, try_requested_broadcast()
            -> BroadcastRequest
    }

    fn next_request(&mut self, waker: Option<&Waker>) -> Poll<BroadcastRequest> {
        let waker = waker.cloned();
        let mut state = lock(&self.origin.shared.state);
        if let Some((path, number)) = state.requests.hand_out(self.handler) {
            drop(state);
            return Poll::Ready(BroadcastRequest::new(self.origin.clone(), path, number));
        }
        let unused = waker.and_then(|waker| {
            state.requests.handler(self.handler)?.waiters.register(&mut self.slot, waker)
        });
        drop(state);
        drop(unused);
        Poll::Pending
    }
}

impl Clone for OriginDynamic {
    fn clone(&self) -> Self {
        if let Some(handler) = lock(&self.origin.shared.state).requests.handler(self.handler) {
            handler.handles += 1;
        }
        let (origin, prefix) = (self.origin.clone(), self.prefix.clone());
        Self { origin, prefix, handler: self.handler, slot: WaitSlot::default() }
    }
}

impl Drop for OriginDynamic {
    fn drop(&mut self) {
        let Self { origin, prefix, handler, slot } = self;
        let mut state = lock(&origin.shared.state);
        let Some(found) = state.requests.handler(*handler) else { return };
        let waker = found.waiters.free(slot);
        found.handles -= 1;
        let is_last = found.handles == 0;
        drop(state);
        drop(waker);
        if is_last {
            // The returned values are dropped after the lock is released.
            drop(origin.shared.change(|state| {
                let removed = state.table.remove(prefix, *handler);
                (removed, state.requests.close_handler(prefix, *handler))
            }));
        }
    }
}

impl_debug! { OriginDynamic, it => prefix: &it.prefix }

/// A broadcast that was requested. If it is dropped without an answer, the request fails with
/// [`Error::Dropped`].
pub struct BroadcastRequest {
    origin: OriginProducer,
    /// The whole path.
    whole: Path,
    path: Path,
    /// Distinguishes it from other requests for the path.
    number: u64,
    slot: WaitSlot,
    is_answered: bool,
}

impl BroadcastRequest {
    fn new(origin: OriginProducer, whole: Path, number: u64) -> Self {
        // The path is below an allowed prefix.
        let path = origin.scope.relative(&whole).unwrap_or_default();
        Self { origin, whole, path, number, slot: WaitSlot::default(), is_answered: false }
    }

    /// The requested path, relative to the root of the producer that [`OriginProducer::dynamic`]
    /// was called on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    wait! {
        /// Waits until the answer is no longer wanted: all requesters left, a handler with a longer
        /// prefix was asked instead, or the request timed out.
        wait_unused => poll_unused, unused, try_unused() -> ()
    }

    fn wait_unused(&mut self, waker: Option<&Waker>) -> Poll<()> {
        let waker = waker.cloned();
        let mut state = lock(&self.origin.shared.state);
        let Some(pending) = state.requests.wanted(&self.whole, self.number) else {
            return Poll::Ready(());
        };
        let unused = waker.and_then(|waker| pending.unused.register(&mut self.slot, waker));
        drop(state);
        drop(unused);
        Poll::Pending
    }

    /// Creates the broadcast without announcing it. All requesters get it, and so do later ones as
    /// long as it is live. When it has no readers any more ([`BroadcastProducer::unused`]) it can
    /// be finished. The next request for the path then reaches a handler again.
    ///
    /// If another handler was asked for the path meanwhile, the broadcast is created, but no
    /// request finds it.
    pub fn accept(mut self) -> BroadcastProducer {
        self.is_answered = true;
        let (origin, path, number) = (&self.origin, &self.whole, self.number);
        let cache = origin.cache().clone();
        let broadcast = BroadcastProducer::new(path.clone(), cache, Route::default());
        let consumer = broadcast.consume();
        // Declared before the answer is given, so that what it displaces is dropped after the lock is released.
        let _answered = origin.shared.change_requests(|state| {
            if !state.requests.may_answer(path, number) {
                return None;
            }
            let (id, requester) = (state.table.next_id(), state.requests.requester(path));
            // It fails only for a broadcast that ended.
            consumer.register(|_| Ok(registration(origin, path, id))).ok()?;
            let displaced = state.requests.serve(path, None, [id, 0], requester, &consumer, None);
            Some((state.requests.answer(path, number, Ok(consumer.clone())), displaced))
        });
        broadcast
    }

    /// Answers with an existing broadcast: one of another origin, or one that
    /// [`Session::request_broadcast`](crate::Session::request_broadcast) returned, which is how a
    /// relay asks upstream. It can be found under this path as long as there is a handle to it, or
    /// to one of its tracks, that was found by this path. Afterwards the path is requested anew. A
    /// broadcast that comes through a session ends when it has no readers.
    ///
    /// The chain of relays must end somewhere. Relays in a ring that all ask the next one wait for
    /// each other until [`Limits::answer_timeout`](crate::Limits::answer_timeout) has passed, because no
    /// version tells who made a request. A request below an announced prefix goes back along the
    /// announcement, which is no ring.
    ///
    /// # Errors
    ///
    /// [`Error::Unroutable`] if the broadcast passed through this origin before; [`Error::Closed`]
    /// if it ended cleanly, or the reason for another end. The requesters get the same error.
    pub fn accept_broadcast(mut self, broadcast: &BroadcastConsumer) -> Result<()> {
        let (origin, path, number) = (&self.origin, &self.whole, self.number);
        let checked = broadcast.open_route().and_then(|route| {
            let came_from_here = route.hops.contains(origin.hop());
            if came_from_here { Err(Error::Unroutable) } else { Ok(()) }
        });
        if let Err(error) = checked {
            self.refuse(error.clone());
            return Err(error);
        }
        // Declared before the answer is given. The last handle that was found by this path removes
        // the path, after the lock is released.
        let _answered = origin.shared.change_requests(|state| {
            let (id, requester) = (state.table.next_id(), state.requests.requester(path));
            let keep_alive =
                RegistrationGuard::new(registration(origin, path, id), broadcast.keep_alive());
            let given = broadcast.clone().with_keep_alive(Some(keep_alive.clone()));
            let displaced = state.requests.may_answer(path, number).then(|| {
                let keep_alive = Some(Arc::downgrade(&keep_alive));
                state.requests.serve(path, None, [id, 0], requester, broadcast, keep_alive)
            });
            (state.requests.answer(path, number, Ok(given)), displaced, keep_alive)
        });
        self.is_answered = true;
        Ok(())
    }

    /// Refuses the broadcast: all requesters get `error`.
    pub fn reject(mut self, error: Error) {
        self.refuse(error);
    }

    fn refuse(&mut self, error: Error) {
        self.is_answered = true;
        let (path, number) = (&self.whole, self.number);
        drop(
            self.origin
                .shared
                .change_requests(|state| state.requests.answer(path, number, Err(error))),
        );
    }
}

impl Drop for BroadcastRequest {
    fn drop(&mut self) {
        if !self.is_answered {
            self.refuse(Error::Dropped);
        }
    }
}

impl_debug! { BroadcastRequest, it => path: &it.whole }

fn registration(origin: &OriginProducer, path: &Path, id: u64) -> Registration {
    let (origin, kind) = (Arc::downgrade(&origin.shared), RegistrationKind::Requested(None));
    Registration { origin, path: path.clone(), id, kind }
}
