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
    taker: Option<u64>,
}

impl TrackDynamic {
    pub(crate) fn new(shared: Arc<TrackShared>) -> Self {
        lock(&shared.state).fetches.dynamics += 1;
        Self { shared, slot: WaitSlot::default(), taker: None }
    }

    /// For a session: it can be asked for the rest of groups too, which not all can.
    pub(crate) fn take_rests(&mut self) {
        let taker = || lock(&self.shared.state).rests.open_taker();
        self.taker = Some(self.taker.unwrap_or_else(taker));
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
            _displaced =
                waker.and_then(|waker| state.fetches.handlers.register(&mut self.slot, waker));
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
            if let Some(part) = this.taker.and_then(|taker| state.rests.take(taker)) {
                let rest = PartialGroup { track: WeakTrack::new(&this.shared), part };
                let priority = state.demand.all().map_or(0, |want| want.priority);
                return Poll::Ready(Some((UpstreamFetch::PartialGroup(rest), priority)));
            }
            // Not by a session that would refuse it, if there is another one.
            let takes = this.taker.is_some() || !state.rests.has_takers();
            if let Some(request) = takes.then(|| this.pop(state)).flatten() {
                let priority = request.priority();
                return Poll::Ready(Some((UpstreamFetch::Group(request), priority)));
            }
            let left = state.end.is_some() && !state.demand.is_asked();
            if left || state.abort.is_some() { Poll::Ready(None) } else { Poll::Pending }
        })
    }

    /// Refuses what waits.
    pub(crate) fn refuse(&mut self, error: &Error) {
        self.shared.change(&mut DeferredWakes::default(), |state, woken| {
            state.fetches.refuse_queued(error, woken);
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
        let _freed = self.shared.change(&mut DeferredWakes::default(), |state, woken| {
            state.fetches.dynamics -= 1;
            if let Some(taker) = self.taker {
                state.rests.close_taker(taker);
                state.settle_rests();
                state.fetches.handlers.take(woken);
            }
            if state.fetches.dynamics == 0 {
                state.fetches.refuse_queued(&Error::NotFound, woken);
            }
            state.fetches.handlers.free(&mut self.slot)
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
        shared.change(&mut DeferredWakes::default(), |state, woken| {
            if let Some(error) = &state.abort {
                return Err(error.clone());
            }
            _freed = state.fetches.open(*sequence, answer).and_then(|open| open.taker.free(slot));
            if let Some(group) = state.shelf.find(*sequence).filter(|group| !group.is_broken()) {
                let _ = answer.set(Ok(GroupConsumer::new(group.clone())));
                state.fetches.close(*sequence, answer, woken);
                return Err(Error::Duplicate);
            }
            let account = shared.account.clone();
            let group = CachedGroup::new(*sequence, u64::MAX, shared.member(), account, false);
            _replaced = state.shelf.insert_fetched(group.clone());
            let _ = answer.set(Ok(GroupConsumer::new(group.clone())));
            state.fetches.close(*sequence, answer, woken);
            count(&shared.account.tally().groups);
            Ok(GroupProducer::new(group))
        })
    }

    /// Refuses it: all who asked get `error`.
    pub fn reject(mut self, error: Error) {
        self.refuse(error);
    }

    fn refuse(&mut self, error: Error) {
        let Self { shared, sequence, answer, slot, .. } = self;
        let _freed = shared.change(&mut DeferredWakes::default(), |state, woken| {
            answer.set(Err(error)).ok()?;
            let freed = state.fetches.open(*sequence, answer)?.taker.free(slot);
            state.fetches.close(*sequence, answer, woken);
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
        _displaced = waker.and_then(|waker| open.taker.register(&mut self.slot, waker));
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
        Self { track, part: OpenPart { group, frame, error, tried: SmallVec::new() } }.leave();
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
    pub(crate) fn leave(self) {
        let Self { track, part } = self;
        let Some(shared) = track.upgrade() else { return part.give_up() };
        shared.change(&mut DeferredWakes::default(), |state, woken| {
            state.rests.open.push(part);
            state.settle_rests();
            state.fetches.handlers.take(woken);
        });
    }
}
