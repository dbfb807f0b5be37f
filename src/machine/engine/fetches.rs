//! FETCH in both directions, as every dialect keeps it: single groups, each on the stream of its
//! own request. The answer is sent and read like any other group.

use alloc::collections::BTreeMap;

use super::schedule::GroupRef;
use crate::census::census;
use crate::machine::run::FrameRange;
use crate::machine::source::Token;
use crate::slab::Key;

/// A FETCH of the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingFetch {
    pub(crate) priority: u8,
    pub(crate) sequence: u64,
    pub(crate) range: FrameRange,
    /// Its track in the schedule, once it was accepted.
    pub(crate) track: Option<Key>,
}

impl IncomingFetch {
    pub(crate) fn new(priority: u8, sequence: u64, range: FrameRange) -> Self {
        Self { priority, sequence, range, track: None }
    }
}

/// A FETCH of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingFetch {
    pub(crate) request: Key,
    pub(crate) priority: u8,
    pub(crate) range: FrameRange,
    /// The group stream, once the answer begins.
    pub(crate) group: Option<Key>,
}

/// All FETCHes of a session.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    /// By request.
    incoming: BTreeMap<Key, IncomingFetch>,
    by_track: BTreeMap<Key, Key>,
    outgoing: BTreeMap<Token, OutgoingFetch>,
}

impl Fetches {
    pub(crate) fn insert_incoming(&mut self, request: Key, fetch: IncomingFetch) {
        self.incoming.insert(request, fetch);
    }

    pub(crate) fn incoming(&self, request: Key) -> Option<IncomingFetch> {
        self.incoming.get(&request).copied()
    }

    /// The answer to this FETCH of the peer is the scheduled track `track`.
    pub(crate) fn bind(&mut self, request: Key, track: Key) {
        if let Some(fetch) = self.incoming.get_mut(&request) {
            fetch.track = Some(track);
            self.by_track.insert(track, request);
        }
    }

    /// The scheduled group that answers this FETCH of the peer.
    pub(crate) fn scheduled(&self, request: Key) -> Option<GroupRef> {
        let fetch = self.incoming.get(&request)?;
        Some(GroupRef { track: fetch.track?, sequence: fetch.sequence })
    }

    /// The request that this scheduled track answers.
    pub(crate) fn by_track(&self, track: Key) -> Option<Key> {
        self.by_track.get(&track).copied()
    }

    /// Forgets a FETCH of the peer. Returns its scheduled track.
    pub(crate) fn remove_incoming(&mut self, request: Key) -> Option<Key> {
        let track = self.incoming.remove(&request)?.track?;
        self.by_track.remove(&track);
        Some(track)
    }

    /// Whether the peer waits for a group.
    pub(crate) fn has_incoming(&self) -> bool {
        !self.incoming.is_empty()
    }

    pub(crate) fn insert_outgoing(&mut self, token: Token, fetch: OutgoingFetch) {
        self.outgoing.insert(token, fetch);
    }

    pub(crate) fn outgoing(&mut self, token: Token) -> Option<&mut OutgoingFetch> {
        self.outgoing.get_mut(&token)
    }

    pub(crate) fn remove_outgoing(&mut self, token: Token) -> Option<OutgoingFetch> {
        self.outgoing.remove(&token)
    }

    pub(crate) fn has_outgoing(&self, token: Token) -> bool {
        self.outgoing.contains_key(&token)
    }

    pub(crate) fn outgoing_len(&self) -> usize {
        self.outgoing.len()
    }

    /// All FETCHes of ours, each with its request.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (Token, Key)> + '_ {
        self.outgoing.iter().map(|(token, fetch)| (*token, fetch.request))
    }

    /// The number of remembered entries.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.incoming.len() + self.by_track.len() + self.outgoing.len()
    }
}

census! { Fetches { counts: incoming, by_track, outgoing; } }
