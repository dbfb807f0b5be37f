//! FETCH in both directions, as every dialect keeps it: single groups, each on the stream of its
//! own request. The answer is sent and read like any other group.

use alloc::collections::BTreeMap;

use crate::census::census;
use crate::machine::run::FrameRange;
use crate::machine::source::Token;
use crate::slab::Key;

/// A FETCH of the peer. Once it was accepted, the schedule has a track with its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingFetch {
    pub(crate) priority: u8,
    pub(crate) sequence: u64,
    pub(crate) range: FrameRange,
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
    outgoing: BTreeMap<Token, OutgoingFetch>,
}

impl Fetches {
    pub(crate) fn insert_incoming(&mut self, request: Key, fetch: IncomingFetch) {
        self.incoming.insert(request, fetch);
    }

    pub(crate) fn incoming(&self, request: Key) -> Option<IncomingFetch> {
        self.incoming.get(&request).copied()
    }

    /// Forgets a FETCH of the peer.
    pub(crate) fn remove_incoming(&mut self, request: Key) -> Option<IncomingFetch> {
        self.incoming.remove(&request)
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
        self.incoming.len() + self.outgoing.len()
    }
}

census! { Fetches { counts: incoming, outgoing; } }
