//! Answering requests for groups by number (FETCH).

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::partial_groups::OpenPart;
use super::pending_fetches::FetchAnswer;
use super::state::{TrackShared, TrackState};
use super::weak::WeakTrack;
use crate::Error;
use crate::model::base::{DeferredWakes, Result, WaitSlot, count, impl_debug, lock, wait, wait_on};
use crate::model::cache::group::{
    CachedGroup, FrameProducer, GroupConsumer, GroupForm, GroupProducer,
};
use smallvec::SmallVec;

/// Answers requests for groups of a track that are not in its cache. It does not count as a
/// producer: it keeps working after the end of the track.
///
/// When the last clone is dropped, waiting requests fail with [`Error::NotFound`].
pub struct TrackDynamic {
    shared: Arc<TrackShared>,
    slot: WaitSlot,
    /// The number of the session, if the session can be asked for the missing part of a group.
    session: Option<u64>,
}

impl TrackDynamic {
    pub(crate) fn new(shared: Arc<TrackShared>) -> Self {
        lock(&shared.state).fetches.dynamics += 1;
        Self { shared, slot: WaitSlot::default(), session: None }
    }

    /// Registers a session that can be asked for the missing part of a group. Not all versions can.
    pub(crate) fn accept_partials(&mut self) {
        let session = || lock(&self.shared.state).partials.add_session();
        self.session = Some(self.session.unwrap_or_else(session));
    }

    /// The name of the track in its broadcast.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Differs from that of any other track, as long as the handle lives.
    pub(crate) fn track_id(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    /// Returns what `next` finds, now or when something new arrives.
    fn wait<T>(
        &mut self,
        waker: Option<&Waker>,
        next: impl FnOnce(&Arc<TrackShared>, &mut TrackState) -> Poll<T>,
    ) -> Poll<T> {
        let Self { shared, slot, .. } = self;
        wait_on(
            &shared.state,
            waker,
            slot,
            |state| &mut state.fetches.handler_waiters,
            |state| next(shared, state),
        )
    }

    fn request(&mut self, waker: Option<&Waker>) -> Poll<Result<GroupRequest>> {
        self.wait(waker, |shared, state| match (GroupRequest::next(shared, state), &state.abort) {
            (Some(request), _) => Poll::Ready(Ok(request)),
            (None, Some(error)) => Poll::Ready(Err(error.clone())),
            (None, None) => Poll::Pending,
        })
    }

    wait! {
        /// The next group that a reader requested and that is not in the cache, in order of
        /// request. All readers that request the same group share one request.
        ///
        /// # Errors
        ///
        /// The reason if the track was aborted.
        request => poll_requested_group, requested_group, try_requested_group()
            -> Result<GroupRequest>
    }

    /// For a session: the next group to fetch and its priority; `None` when no more can come.
    pub(crate) fn poll_fetch_request(
        &mut self,
        waker: Option<&Waker>,
    ) -> Poll<Option<(UpstreamFetch, u8)>> {
        let session = self.session;
        self.wait(waker, |shared, state| {
            if let Some(part) = session.and_then(|session| state.partials.take(session)) {
                let partial = PartialGroup { track: WeakTrack::new(shared), part };
                let priority = state.demand.combined().map_or(0, |want| want.priority);
                return Poll::Ready(Some((UpstreamFetch::PartialGroup(partial), priority)));
            }
            // A session that can't fetch refuses the request. So it does not take one that another
            // session can serve.
            let takes = session.is_some() || !state.partials.has_sessions();
            if let Some(request) = takes.then(|| GroupRequest::next(shared, state)).flatten() {
                let priority = request.priority();
                return Poll::Ready(Some((UpstreamFetch::Group(request), priority)));
            }
            let left = state.end.is_some() && !state.demand.has_readers();
            if left || state.abort.is_some() { Poll::Ready(None) } else { Poll::Pending }
        })
    }

    /// Refuses all waiting requests.
    pub(crate) fn refuse(&mut self, error: &Error) {
        self.shared.change(&mut DeferredWakes::default(), |state, wakes| {
            state.fetches.refuse_queued(error, wakes);
        });
    }
}

impl Clone for TrackDynamic {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Drop for TrackDynamic {
    fn drop(&mut self) {
        let _freed = self.shared.change(&mut DeferredWakes::default(), |state, wakes| {
            state.fetches.dynamics -= 1;
            if let Some(session) = self.session {
                state.partials.remove_session(session);
                state.recheck_partials();
                state.fetches.handler_waiters.take(wakes);
            }
            if state.fetches.dynamics == 0 {
                state.fetches.refuse_queued(&Error::NotFound, wakes);
            }
            state.fetches.handler_waiters.free(&mut self.slot)
        });
    }
}

impl_debug! { TrackDynamic, it => name: &it.name() }

/// A group that a session is asked to fetch.
pub(crate) enum UpstreamFetch {
    /// A group that a reader requested.
    Group(GroupRequest),
    /// The missing part of a group that another session began.
    PartialGroup(PartialGroup),
}

/// A group that a reader requested by number. If it is dropped without an answer, the request fails
/// with [`Error::Dropped`].
pub struct GroupRequest {
    shared: Arc<TrackShared>,
    sequence: u64,
    priority: u8,
    answer: Arc<FetchAnswer>,
    slot: WaitSlot,
}

impl GroupRequest {
    /// The oldest request that was not handed out.
    fn next(shared: &Arc<TrackShared>, state: &mut TrackState) -> Option<Self> {
        let (sequence, open) = state.fetches.pop()?;
        let (shared, answer) = (shared.clone(), open.answer.clone());
        Some(Self { shared, sequence, priority: open.priority, answer, slot: WaitSlot::default() })
    }

    /// The track that the group belongs to.
    pub(crate) fn track(&self) -> WeakTrack {
        WeakTrack::new(&self.shared)
    }

    /// The number of the group in its track.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The highest priority of the readers that had requested the group when this request was
    /// handed out. Higher is more important.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Creates the group for all readers that requested it. It is kept like other groups, except
    /// that media time does not count. Readers that did not request it do not see it.
    ///
    /// # Errors
    ///
    /// [`Error::Duplicate`] if the group arrived otherwise meanwhile, which also answers the
    /// request; the reason if the track was aborted.
    pub fn accept(mut self) -> Result<GroupProducer> {
        let Self { shared, sequence, answer, slot, .. } = &mut self;
        let (shared, sequence, answer) = (&*shared, &*sequence, &*answer);
        // Both are dropped after the lock is released.
        let (mut _replaced, mut _freed) = (None, None);
        shared.change(&mut DeferredWakes::default(), |state, wakes| {
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            _freed = state
                .fetches
                .open(*sequence, answer)
                .and_then(|open| open.handler_waiter.free(slot));
            if let Some(group) = state.cached.find(*sequence).filter(|group| !group.is_broken()) {
                let _ = answer.set(Ok(GroupConsumer::new(group.clone())));
                state.fetches.close(*sequence, answer, wakes);
                return Err(Error::Duplicate);
            }
            let account = shared.account.clone();
            let group = CachedGroup::new(*sequence, u64::MAX, account, GroupForm::Stream, None);
            _replaced = state.cached.insert_fetched(group.clone());
            let _ = answer.set(Ok(GroupConsumer::new(group.clone())));
            state.fetches.close(*sequence, answer, wakes);
            count(&shared.account.counters().groups);
            Ok(GroupProducer::new(group))
        })
    }

    /// Refuses the request: all readers that requested the group get `error`. The track goes on.
    pub fn reject(mut self, error: Error) {
        self.refuse(error);
    }

    fn refuse(&mut self, error: Error) {
        let Self { shared, sequence, answer, slot, .. } = self;
        let _freed = shared.change(&mut DeferredWakes::default(), |state, wakes| {
            answer.set(Err(error)).ok()?;
            let freed = state.fetches.open(*sequence, answer)?.handler_waiter.free(slot);
            state.fetches.close(*sequence, answer, wakes);
            freed
        });
    }

    wait! {
        /// Waits until no reader wants the group any more.
        wait_unused => poll_unused, unused, try_unused() -> ()
    }

    fn wait_unused(&mut self, waker: Option<&Waker>) -> Poll<()> {
        let waker = waker.cloned();
        // Declared before the guard, so that it is dropped after the lock is released.
        let _displaced;
        let mut state = lock(&self.shared.state);
        let Some(open) = state.fetches.open(self.sequence, &self.answer) else {
            return Poll::Ready(());
        };
        _displaced = waker.and_then(|waker| open.handler_waiter.register(&mut self.slot, waker));
        Poll::Pending
    }
}

impl Drop for GroupRequest {
    fn drop(&mut self) {
        if self.answer.get().is_none() {
            self.refuse(Error::Dropped);
        }
    }
}

impl_debug! { GroupRequest, it => sequence: &it.sequence }

/// The missing part of a group whose session went away. Another session that has the track is asked
/// for it.
pub(crate) struct PartialGroup {
    track: WeakTrack,
    part: OpenPart,
}

impl PartialGroup {
    /// The session that delivered a group of `track` went away. Another session that has the track
    /// is asked for the rest. Without one the group is aborted with `error`.
    pub(crate) fn cut_off(
        track: WeakTrack,
        group: GroupProducer,
        frame: Option<FrameProducer>,
        error: Error,
    ) {
        Self { track, part: OpenPart { group, frame, error, asked: SmallVec::new() } }.hand_back();
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.part.group.sequence()
    }

    /// The index of the first frame that is not complete.
    pub(crate) fn first_frame(&self) -> u64 {
        self.part.group.frame_count()
    }

    /// The track, the group, and the open frame, to be continued.
    pub(crate) fn into_parts(self) -> (WeakTrack, GroupProducer, Option<FrameProducer>) {
        (self.track, self.part.group, self.part.frame)
    }

    /// The session that was asked does not deliver it. Another one is asked, if there is one.
    pub(crate) fn hand_back(self) {
        let Self { track, part } = self;
        let Some(shared) = track.upgrade() else { return part.abort() };
        shared.change(&mut DeferredWakes::default(), |state, wakes| {
            state.partials.open.push(part);
            state.recheck_partials();
            state.fetches.handler_waiters.take(wakes);
        });
    }
}
