//! Announcements for the peer: a reader for each of its requests.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Poll, Waker};

use crate::Instant;
use crate::census::census;
use crate::machine::{Announcement, Command, RequestKey, Token};
use crate::model::routing::{AnnounceQuota, AnnounceReader, PeerTracks};

/// The requests of the peer for announcements, by slot.
#[derive(Default)]
pub(crate) struct AnnounceSenders {
    /// Visited one at a time, by [`Self::visit`]: a peer decides how many there are.
    readers: BTreeMap<usize, AnnounceSender>,
    /// When readers are to be read again, with their slots.
    due: BTreeSet<(Instant, usize)>,
    /// The slots of readers that left out broadcasts for lack of quota.
    short: BTreeSet<usize>,
    /// Counts the broadcasts announced to the peer by all of them, and limits that number.
    announced: usize,
    max_announced: usize,
    /// Whether a broadcast was left out, and that was not reported yet.
    left_out: bool,
}

/// The answer to one request.
struct AnnounceSender {
    request: RequestKey,
    reader: AnnounceReader,
    waker: Waker,
    state: AnnouncePhase,
    /// When to read again even if nothing changes. `None` also after that was reported.
    deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnnouncePhase {
    /// It counts the broadcasts, because the peer is told the number first.
    Counting,
    /// It need not count, or has counted, and the machine does not read it yet.
    Starting,
    /// The machine reads it.
    Reading,
}

impl AnnounceSenders {
    pub(crate) fn new(max_announced: usize) -> Self {
        Self { max_announced, ..Self::default() }
    }

    /// Adds a request of the peer. If `is_counted`, the peer is told the number of broadcasts
    /// first.
    pub(crate) fn add(
        &mut self,
        request: RequestKey,
        reader: AnnounceReader,
        waker: Waker,
        is_counted: bool,
    ) {
        let state = if is_counted { AnnouncePhase::Counting } else { AnnouncePhase::Starting };
        let slot = request.slot();
        self.readers.insert(slot, AnnounceSender { request, reader, waker, state, deadline: None });
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        self.set_deadline(slot, None);
        self.short.remove(&slot);
        if let Some(reader) = self.readers.remove(&slot) {
            self.count_announced(reader.reader.announced(), 0);
        }
    }

    fn visit(&mut self, slot: usize) -> Option<&mut AnnounceSender> {
        #[cfg(test)]
        crate::model::base::count_step();
        self.readers.get_mut(&slot)
    }

    /// The command for a reader that may have something new.
    pub(crate) fn next_command(&mut self, slot: usize) -> Option<Command> {
        let quota = self.quota();
        let AnnounceSender { request, reader, waker, state, .. } = self.visit(slot)?;
        // Used if the peer is not told the number.
        let mut active = u64::MAX;
        if *state == AnnouncePhase::Counting {
            let Some(count) = reader.promise(quota.left) else {
                waker.wake_by_ref();
                return None;
            };
            (active, *state) = (count, AnnouncePhase::Starting);
        }
        let request = *request;
        if std::mem::replace(state, AnnouncePhase::Reading) == AnnouncePhase::Reading {
            return Some(Command::AnnouncementsReady { request });
        }
        // There is one reader for each request, so the slot identifies it.
        let reader = Token { slot: slot as u32, generation: 0 };
        Some(Command::AcceptAnnounce { request, reader, active })
    }

    /// The next announcement of a reader, for a peer that `has` these tracks.
    pub(crate) fn next(&mut self, reader: Token, has: &PeerTracks) -> Option<Announcement> {
        let (quota, slot) = (self.quota(), reader.slot as usize);
        let AnnounceSender { reader, waker, .. } = self.visit(slot)?;
        let before = reader.announced();
        let next = reader.poll_next(Some(waker), quota, has);
        let (after, deadline) = (reader.announced(), reader.deadline());
        match reader.is_over_quota() {
            true => self.left_out |= self.short.insert(slot),
            false => _ = self.short.remove(&slot),
        }
        self.set_deadline(slot, deadline);
        self.count_announced(before, after);
        match next {
            Poll::Ready(announcement) => Some(announcement),
            Poll::Pending => None,
        }
    }

    /// Whether a broadcast was left out for lack of quota since the last call.
    pub(crate) fn take_left_out(&mut self) -> bool {
        std::mem::take(&mut self.left_out)
    }

    fn quota(&self) -> AnnounceQuota {
        AnnounceQuota {
            left: self.max_announced.saturating_sub(self.announced),
            all: self.max_announced,
        }
    }

    /// The number of broadcasts that a reader announced changed from `before` to `after`. If there
    /// is room again, readers that left out broadcasts are woken.
    fn count_announced(&mut self, before: usize, after: usize) {
        let had_headroom = self.quota().has_headroom();
        self.announced = self.announced + after - before;
        if !had_headroom && self.quota().has_headroom() {
            for slot in self.short.clone() {
                self.visit(slot).inspect(|reader| reader.waker.wake_by_ref());
            }
        }
    }

    /// When a held announcement is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A request with held announcements that are due. Each is returned once.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<RequestKey> {
        let (_, slot) = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.set_deadline(slot, None);
        self.readers.get(&slot).map(|reader| reader.request)
    }

    /// Sets when a reader is to be read again.
    fn set_deadline(&mut self, slot: usize, deadline: Option<Instant>) {
        let Some(reader) = self.visit(slot) else { return };
        let before = std::mem::replace(&mut reader.deadline, deadline);
        if before != deadline {
            before.map(|at| self.due.remove(&(at, slot)));
            self.due.extend(deadline.map(|at| (at, slot)));
        }
    }
}

census! { each AnnounceSender { counts: deadline; within: reader; plain: request, waker, state; } }

census! { AnnounceSenders {
    counts: due, short, announced;
    within: readers;
    plain: max_announced, left_out;
} }
