//! FETCH in both directions, as every dialect keeps it: single groups, each on the stream of its own
//! request. The answer is sent and read as any other group is.

use alloc::collections::BTreeMap;

use super::Core;
use super::io::Token;
use super::schedule::{Pick, Range};
use crate::census::census;
use crate::error::Error;
use crate::slab::Key;
use crate::subscription::TrackInfo;

/// A FETCH of the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Supply {
    pub(super) priority: u8,
    pub(super) sequence: u64,
    pub(super) range: Range,
    /// Where the schedule has its group, once it was accepted.
    track: Option<Key>,
}

impl Supply {
    pub(super) fn new(priority: u8, sequence: u64, range: Range) -> Self {
        Self { priority, sequence, range, track: None }
    }
}

/// A FETCH of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetch {
    pub(super) request: Key,
    pub(super) priority: u8,
    pub(super) range: Range,
    /// The group that comes, once it does.
    pub(super) group: Option<Key>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    /// By request.
    theirs: BTreeMap<Key, Supply>,
    by_track: BTreeMap<Key, Key>,
    ours: BTreeMap<Token, Fetch>,
}

impl Fetches {
    pub(super) fn insert_theirs(&mut self, request: Key, supply: Supply) {
        self.theirs.insert(request, supply);
    }

    /// The request whose answer the schedule keeps so.
    pub(super) fn by_track(&self, track: Key) -> Option<Key> {
        self.by_track.get(&track).copied()
    }

    pub(super) fn insert_ours(&mut self, token: Token, fetch: Fetch) {
        self.ours.insert(token, fetch);
    }

    pub(super) fn ours(&mut self, token: Token) -> Option<&mut Fetch> {
        self.ours.get_mut(&token)
    }

    pub(super) fn remove_ours(&mut self, token: Token) -> Option<Fetch> {
        self.ours.remove(&token)
    }

    /// Whether the peer waits for one.
    pub(super) fn has_theirs(&self) -> bool {
        !self.theirs.is_empty()
    }

    /// All of ours.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (Token, Key)> + '_ {
        self.ours.iter().map(|(token, fetch)| (*token, fetch.request))
    }

    /// Everything that is remembered.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.theirs.len() + self.by_track.len() + self.ours.len()
    }
}

impl Core {
    /// Why a FETCH of ours can't be made now.
    pub(super) fn admit_fetch(&self, token: Token) -> Result<(), Error> {
        if self.going_away || self.state.is_ending() {
            return Err(Error::GoingAway);
        }
        if self.fetches.ours.len() >= self.limits.requests {
            return Err(Error::Limit("requests"));
        }
        if self.fetches.ours.contains_key(&token) {
            return Err(Error::Duplicate);
        }
        Ok(())
    }

    /// Gives the group `token` as the answer to a FETCH of the peer, on the stream that brought it.
    pub(super) fn supply(&mut self, request: Key, token: Token, info: &TrackInfo) -> bool {
        let Some(supply) = self.fetches.theirs.get_mut(&request) else { return false };
        if supply.track.is_some() {
            return false;
        }
        let Some(stream) = self.requests.lend_send(request) else { return false };
        let track = self.schedule.add_track(supply.priority, info.priority, false);
        supply.track = Some(track);
        self.fetches.by_track.insert(track, request);
        let pick = Pick { track, sequence: supply.sequence };
        self.schedule.push_on(pick, token, supply.range, stream);
        let priority = self.schedule.quic_priority(track);
        self.actions.push_back(super::Action::SetPriority { id: stream, priority });
        true
    }

    /// Abandons what is left of the answer to a FETCH of the peer.
    pub(super) fn end_supply(&mut self, request: Key, error: &Error) {
        let Some(supply) = self.fetches.theirs.remove(&request) else { return };
        if let Some(track) = supply.track {
            self.fetches.by_track.remove(&track);
            self.schedule.remove_track(track, error.stream_code(), &mut self.actions);
        }
    }

    /// The cache has more of the group that answers a FETCH of the peer.
    pub(super) fn supply_ready(&mut self, request: Key) {
        let Some(supply) = self.fetches.theirs.get(&request) else { return };
        if let Some(track) = supply.track {
            self.schedule.ready(Pick { track, sequence: supply.sequence });
        }
    }
}

census! { Fetches { counts: theirs, by_track, ours; } }
