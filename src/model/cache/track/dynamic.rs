//! Answering requests for groups by number (FETCH).

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::partial_groups::OpenPart;
use super::pending_fetches::FetchAnswer;
use super::state::{TrackShared, TrackState};
use super::weak::WeakTrack;
use crate::Error;
use crate::model::Result;
use crate::model::base::{DeferredWakes, WaitSlot, count, lock, wait};
use crate::model::cache::group::CachedGroup;
use crate::model::cache::group::FrameProducer;
use crate::model::cache::group::GroupConsumer;
use crate::model::cache::group::GroupProducer;
use smallvec::SmallVec;

/// Answers for groups of a track that are asked for by number and that are not in its cache. It does not
/// count as a producer: it goes on behind the end of the track.
///
/// When the last clone is dropped, requests that still wait are refused with [`Error::NotFound`].
pub struct TrackDynamic {
    shared: Arc<TrackShared>,
    slot: WaitSlot,
    /// If it is a session's that can be asked for the rest of a group.
    session: Option<u64>,
}

impl TrackDynamic {
    pub(crate) fn new(shared: Arc<TrackShared>) -> Self {
        lock(&shared.state).fetches.dynamics += 1;
        Self { shared, slot: WaitSlot::default(), session: None }
    }

    /// For a session: it can be asked for the rest of groups too, which not all can.
    pub(crate) fn accept_partials(&mut self) {
        let session = || lock(&self.shared.state).partials.add_session();
        self.session = Some(self.session.unwrap_or_else(session));
    }

    /// The track's name in its broadcast.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Another one than that of any other track, as long as the handle lives.
    pub(crate) fn track_id(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    fn pop(&self, state: &mut TrackState) -> Option<GroupRequest> {
        let (sequence, open) = state.fetches.pop()?;
        let (shared, answer) = (self.shared.clone(), open.answer.clone());
        let (priority, slot) = (open.priority, WaitSlot::default());
        Some(GroupRequest { shared, sequence, priority, answer, slot })
    }

    /// What `next` finds, now or when there is something new.
    fn wait<T>(
        &mut self,
        waker: Option<&Waker>,
        next: impl FnOnce(&Self, &mut TrackState) -> Poll<T>,
    ) -> Poll<T> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
        let _displaced;
        let mut state = lock(&self.shared.state);
        let next = next(self, &mut state);
        if next.is_pending() {
            _displaced = waker
                .and_then(|waker| state.fetches.handler_waiters.register(&mut self.slot, waker));
        }
        next
    }

    fn request(&mut self, waker: Option<&Waker>) -> Poll<Result<GroupRequest>> {
        self.wait(waker, |this, state| match (this.pop(state), &state.abort) {
            (Some(request), _) => Poll::Ready(Ok(request)),
            (None, Some(error)) => Poll::Ready(Err(error.clone())),
            (None, None) => Poll::Pending,
        })
    }

    wait! {
        /// The next group that somebody wants and that is not here, first come first served. All who
        /// want a group share one request.
        ///
        /// Errors: why the track was aborted, if it was.
        request => poll_requested_group, requested_group, try_requested_group()
            -> Result<GroupRequest>
    }

    /// For a session: what is wanted of it, and how important it is; `None` when no more can come.
    pub(crate) fn poll_supply(
        &mut self,
        waker: Option<&Waker>,
    ) -> Poll<Option<(UpstreamFetch, u8)>> {
        self.wait(waker, |this, state| {
            if let Some(part) = this.session.and_then(|session| state.partials.take(session)) {
                let partial = PartialGroup { track: WeakTrack::new(&this.shared), part };
                let priority = state.demand.combined().map_or(0, |want| want.priority);
                return Poll::Ready(Some((UpstreamFetch::PartialGroup(partial), priority)));
            }
            // Not by a session that would refuse it, if there is another one.
            let takes = this.session.is_some() || !state.partials.has_sessions();
            if let Some(request) = takes.then(|| this.pop(state)).flatten() {
                let priority = request.priority();
                return Poll::Ready(Some((UpstreamFetch::Group(request), priority)));
            }
            let left = state.end.is_some() && !state.demand.has_readers();
            if left || state.abort.is_some() { Poll::Ready(None) } else { Poll::Pending }
        })
    }

    /// Refuses what waits.
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
                state.settle_partials();
                state.fetches.handler_waiters.take(wakes);
            }
            if state.fetches.dynamics == 0 {
                state.fetches.refuse_queued(&Error::NotFound, wakes);
            }
            state.fetches.handler_waiters.free(&mut self.slot)
        });
    }
}

impl fmt::Debug for TrackDynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackDynamic").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// What a session is asked for beside what it brings by itself.
pub(crate) enum UpstreamFetch {
    /// That somebody asked for.
    Group(GroupRequest),
    /// That another session began.
    PartialGroup(PartialGroup),
}

/// A group that somebody asked for by number. Dropped without an answer it is refused with
/// [`Error::Dropped`].
pub struct GroupRequest {
    shared: Arc<TrackShared>,
    sequence: u64,
    priority: u8,
    answer: Arc<FetchAnswer>,
    slot: WaitSlot,
}

impl GroupRequest {
    /// The track that the group is of.
    pub(crate) fn track(&self) -> WeakTrack {
        WeakTrack::new(&self.shared)
    }

    /// Number of the group in the track.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How important it was to those who asked before it was handed out; higher is more.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Begins the group, which all who asked read. It is kept as other groups are, but for its media
    /// time, which does not count, and no reader of the track comes across it.
    ///
    /// Fails if it came by another way meanwhile ([`Error::Duplicate`]), which answers as well, and if
    /// the track was aborted.
    pub fn accept(mut self) -> Result<GroupProducer> {
        let Self { shared, sequence, answer, slot, .. } = &mut self;
        let (shared, sequence, answer) = (&*shared, &*sequence, &*answer);
        // Both outlive the lock.
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
            let group = CachedGroup::new(*sequence, u64::MAX, shared.member(), account, false);
            _replaced = state.cached.insert_fetched(group.clone());
            let _ = answer.set(Ok(GroupConsumer::new(group.clone())));
            state.fetches.close(*sequence, answer, wakes);
            count(&shared.account.counters().groups);
            Ok(GroupProducer::new(group))
        })
    }

    /// Refuses it: all who asked get `error`.
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
        /// Until all who asked for it went away.
        wait_unused => poll_unused, unused, try_unused() -> ()
    }

    fn wait_unused(&mut self, waker: Option<&Waker>) -> Poll<()> {
        let waker = waker.cloned();
        // Declared before the guard: dropped after the unlock.
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

impl fmt::Debug for GroupRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupRequest").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// The part of a group that is missing because its session went away. Another session that has the track is
/// asked for it.
pub(crate) struct PartialGroup {
    track: WeakTrack,
    part: OpenPart,
}

impl PartialGroup {
    /// The session that brings a group of `track` went away. Another session that has the track is asked for
    /// the rest; without one the group is aborted with `error`.
    pub(crate) fn cut_off(
        track: WeakTrack,
        group: GroupProducer,
        frame: Option<FrameProducer>,
        error: Error,
    ) {
        Self { track, part: OpenPart { group, frame, error, failed: SmallVec::new() } }.hand_back();
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.part.group.sequence()
    }

    /// Index of the first frame that is not here whole.
    pub(crate) fn first_frame(&self) -> u64 {
        self.part.group.frame_count()
    }

    /// The track, the group, and the frame of which a part is here: to be written on.
    pub(crate) fn into_parts(self) -> (WeakTrack, GroupProducer, Option<FrameProducer>) {
        (self.track, self.part.group, self.part.frame)
    }

    /// Whoever was to bring it does not: somebody else is asked who can be.
    pub(crate) fn hand_back(self) {
        let Self { track, part } = self;
        let Some(shared) = track.upgrade() else { return part.abort() };
        shared.change(&mut DeferredWakes::default(), |state, wakes| {
            state.partials.open.push(part);
            state.settle_partials();
            state.fetches.handler_waiters.take(wakes);
        });
    }
}
