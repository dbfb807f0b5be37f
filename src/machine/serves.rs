//! What the peer asks of our tracks, as every dialect keeps it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Core;
use super::schedule::Pick;
use crate::census::census;
use crate::error::Error;
use crate::slab::Key;
use crate::subscription::Subscription;
use crate::time::Instant;

/// A subscription of the peer.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    request: Key,
    /// What its groups name it by: the subscribe id (moq-lite), the track alias (moq-transport).
    pub(super) number: u64,
    pub(super) want: Subscription,
    /// Priority of the track, once it was accepted.
    pub(super) publisher: u8,
    /// Its groups, once it was accepted.
    pub(super) track: Option<Key>,
    /// The first group that was promised.
    pub(super) start: Option<u64>,
    /// All groups are given: those from this one on do not exist.
    pub(super) ending: Option<u64>,
}

/// All of them, by slot of the request.
#[derive(Debug, Default)]
pub(super) struct Serves {
    by_slot: Vec<Option<Serving>>,
    by_track: BTreeMap<Key, Key>,
    len: usize,
    /// Those that we ended cleanly and the peer has not confirmed.
    pub(super) unconfirmed: usize,
    /// Until when the peer may read what it can't confirm: some throw away what they have not read when
    /// the session closes.
    pub(super) unread_until: Option<Instant>,
}

impl Serves {
    pub(super) fn insert(&mut self, request: Key, number: u64, want: Subscription) {
        let slot = request.0 as usize;
        if slot >= self.by_slot.len() {
            self.by_slot.resize_with(slot + 1, || None);
        }
        let (track, start, ending) = Default::default();
        let serving = Serving { request, number, want, publisher: 0, track, start, ending };
        self.len += usize::from(self.by_slot[slot].replace(serving).is_none());
    }

    pub(super) fn get_mut(&mut self, request: Key) -> Option<&mut Serving> {
        let serving = self.by_slot.get_mut(request.0 as usize)?.as_mut();
        serving.filter(|serving| serving.request == request)
    }

    pub(super) fn bind(&mut self, track: Key, request: Key) {
        self.by_track.insert(track, request);
    }

    pub(super) fn by_track(&self, track: Key) -> Option<Key> {
        self.by_track.get(&track).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn remove(&mut self, request: Key) -> Option<Serving> {
        self.get_mut(request)?;
        self.len -= 1;
        let serving = self.by_slot[request.0 as usize].take()?;
        if let Some(track) = serving.track {
            self.by_track.remove(&track);
        }
        Some(serving)
    }

    /// Everything that is remembered.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.by_track.len() + self.len + self.unconfirmed
    }
}

impl Core {
    /// Abandons what is left of a subscription of the peer.
    pub(super) fn end_serving(&mut self, request: Key, error: &Error) {
        let Some(serving) = self.serves.remove(request) else { return };
        if let Some(track) = serving.track {
            self.schedule.remove_track(track, error.stream_code(), &mut self.actions);
        }
    }

    /// All is said, and FIN with it: the request stays until the peer ends its half.
    pub(super) fn await_confirmation(&mut self, request: Key) {
        self.serves.unconfirmed += 1;
        self.requests.finish(request);
        self.requests.queue_in(request);
    }

    /// Whether the peer now ended its half.
    pub(super) fn is_confirmed(&mut self, request: Key) -> bool {
        let Some(request) = self.requests.get(request) else { return false };
        request.recv.discard();
        let confirmed = request.recv.is_over() || request.given_up().is_some();
        self.serves.unconfirmed -= usize::from(confirmed);
        confirmed
    }

    /// The cache has more of a group than it had.
    pub(super) fn group_ready(&mut self, request: Key, sequence: u64) {
        if let Some(track) = self.serves.get_mut(request).and_then(|serving| serving.track) {
            self.schedule.ready(Pick { track, sequence });
        } else {
            self.supply_ready(request);
        }
    }

    /// The peer changed its mind.
    pub(super) fn update_serving(&mut self, request: Key, want: &Subscription) {
        let Some(serving) = self.serves.get_mut(request) else { return };
        serving.want = want.clone();
        if let Some(track) = serving.track {
            let (priority, ordered) = (want.priority, want.ordered);
            self.schedule.update_track(track, priority, ordered, &mut self.actions);
        }
    }
}

census! { each Serving { plain: request, number, want, publisher, track, start, ending; } }
census! { Serves { counts: by_track, unconfirmed; within: by_slot; plain: len, unread_until; } }
