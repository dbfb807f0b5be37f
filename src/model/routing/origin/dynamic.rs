//! Who answers for broadcasts below a prefix that nobody announced.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::producer::OriginProducer;
use crate::model::Result;
use crate::model::base::{Reach, Route, WaitSlot, lock, wait};
use crate::model::routing::broadcast::BroadcastConsumer;
use crate::model::routing::broadcast::BroadcastProducer;
use crate::model::routing::registration::{Registration, RegistrationGuard, RegistrationKind};
use crate::{Error, Path};

impl OriginProducer {
    /// A handle that answers for broadcasts at `prefix` and below that nobody announced. While there is
    /// one they can be asked for: by [`OriginConsumer::request_broadcast`](super::OriginConsumer), and by
    /// peers, who simply subscribe. Where several prefixes cover a path the longest is asked, of several
    /// handles for the same one the newest.
    ///
    /// Peers are told of the prefix where the version has a way to say it, which are moq-lite 06 and later
    /// and moq-transport; on others they have to know. The broadcasts themselves are not announced.
    ///
    /// `prefix` is relative to [`root`](Self::root). Outside of [`allowed`](Self::allowed):
    /// [`Error::Unauthorized`]; [`Error::Limit`] past [`Limits::path_bytes`](crate::Limits::path_bytes).
    ///
    /// ```
    /// use std::task::Poll;
    ///
    /// use smoq::{Origin, Subscription};
    ///
    /// let origin = Origin::default().produce();
    /// let mut store = origin.dynamic("archive")?;
    ///
    /// // Somebody asks, here or at the other end of a session.
    /// let mut reader = origin.consume();
    /// assert!(reader.try_request_broadcast("archive/1969").is_pending());
    ///
    /// // `requested_broadcast().await`, in a task of the store.
    /// let Poll::Ready(request) = store.try_requested_broadcast() else { panic!("it was asked") };
    /// assert_eq!(request.path().as_str(), "archive/1969");
    /// let mut broadcast = request.accept()?;
    /// let _video = broadcast.create_track("video")?;
    ///
    /// let Poll::Ready(found) = reader.try_request_broadcast("archive/1969") else { panic!() };
    /// let _video = found?.subscribe_track("video", Subscription::default())?;
    /// # Ok::<(), smoq::Error>(())
    /// ```
    pub fn dynamic(&self, prefix: impl Into<Path>) -> Result<OriginDynamic> {
        let prefix = self.absolute(&prefix.into())?;
        let route = Route { reach: Reach::OnDemand, ..Route::default() };
        // It only stands for the route: nobody finds it.
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

/// Answers for broadcasts that are asked for and that nobody announced.
///
/// When the last clone is dropped, requests that still wait go to whoever else answers for them, or are
/// refused with [`Error::Unroutable`], and so are new ones. What was accepted stays.
pub struct OriginDynamic {
    origin: OriginProducer,
    /// The whole path.
    prefix: Path,
    handler: u64,
    slot: WaitSlot,
}

impl OriginDynamic {
    wait! {
        /// The next broadcast that somebody wants, first come first served. All who want it share one
        /// request; one that nobody wants any more is not given. It is to be answered within
        /// [`Limits::answer_time`](crate::Limits::answer_time).
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
            // What comes back is dropped after the unlock.
            drop(origin.shared.change(|state| {
                let removed = state.table.remove(prefix, *handler);
                (removed, state.requests.close_handler(prefix, *handler))
            }));
        }
    }
}

impl fmt::Debug for OriginDynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginDynamic").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A broadcast that somebody wants. Dropped without an answer it is refused with [`Error::Dropped`].
pub struct BroadcastRequest {
    origin: OriginProducer,
    /// The whole path.
    whole: Path,
    path: Path,
    /// Tells it from others for the path.
    number: u64,
    slot: WaitSlot,
    is_answered: bool,
}

impl BroadcastRequest {
    fn new(origin: OriginProducer, whole: Path, number: u64) -> Self {
        // It is below a prefix that was allowed.
        let path = origin.scope.relative(&whole).unwrap_or_default();
        Self { origin, whole, path, number, slot: WaitSlot::default(), is_answered: false }
    }

    /// What is asked for, relative to the root of the producer that [`OriginProducer::dynamic`] was called
    /// on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    wait! {
        /// Until all who want it went away, or ask somebody else: a handle with a longer prefix that came
        /// later, or nobody, because it took too long.
        wait_unused => poll_unused, unused, try_unused() -> ()
    }

    fn wait_unused(&mut self, waker: Option<&Waker>) -> Poll<()> {
        let waker = waker.cloned();
        let mut state = lock(&self.origin.shared.state);
        let Some(asked) = state.requests.wanted(&self.whole, self.number) else {
            return Poll::Ready(());
        };
        let unused = waker.and_then(|waker| asked.unused.register(&mut self.slot, waker));
        drop(state);
        drop(unused);
        Poll::Pending
    }

    /// Begins the broadcast, unannounced: who asked gets it, and who asks as long as it lives. When nobody
    /// reads it any more ([`BroadcastProducer::unused`]) it can be finished, and is asked for anew.
    ///
    /// If the request is no longer wanted, because somebody else was asked for the path instead, nobody
    /// finds the broadcast.
    pub fn accept(mut self) -> Result<BroadcastProducer> {
        self.is_answered = true;
        let (origin, path, number) = (&self.origin, &self.whole, self.number);
        let cache = origin.cache().clone();
        let broadcast = BroadcastProducer::new(path.clone(), cache, Route::default());
        let consumer = broadcast.consume();
        let result: Result<_> = origin.shared.change_requests(|state| {
            if !state.requests.may_answer(path, number) {
                return Ok(None);
            }
            let (id, requester) = (state.table.next_id(), state.requests.requester(path));
            consumer.register(|_| Ok(registration(origin, path, id)))?;
            let displaced = state.requests.serve(path, None, [id, 0], requester, &consumer, None);
            Ok(Some((state.requests.answer(path, number, Ok(consumer.clone())), displaced)))
        });
        result.map(|_| broadcast)
    }

    /// Answers with a broadcast from elsewhere: of another origin, or one that
    /// [`Session::request_broadcast`](crate::Session::request_broadcast) gives, which is how a relay asks
    /// upstream. It is found under this path as long as somebody has a handle to it, or to a track, that
    /// came by this path; then it is asked for anew. One that comes through a session goes when nobody reads
    /// it.
    ///
    /// Upstream must have an end. Relays in a ring that all answer by asking the next one wait for each
    /// other until [`Limits::answer_time`](crate::Limits::answer_time) is over: no version says by whom a
    /// request came. A prefix that is announced is asked for on the way back to who announced it, which is no
    /// ring.
    ///
    /// Errors, which those who asked get too: [`Error::Unroutable`] if it came through this very origin by
    /// way of a peer; why it ended if it did, [`Error::Closed`] for a clean end.
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
        // Declared before the answer is given: the last handle that came by this path forgets it, after the
        // unlock.
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

    /// Refuses the broadcast: all who asked get `error`.
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

impl fmt::Debug for BroadcastRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastRequest").field("path", &self.whole).finish_non_exhaustive()
    }
}

fn registration(origin: &OriginProducer, path: &Path, id: u64) -> Registration {
    let (origin, kind) = (Arc::downgrade(&origin.shared), RegistrationKind::Requested(None));
    Registration { origin, path: path.clone(), id, kind }
}
