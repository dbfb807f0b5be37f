//! The tracks that a peer subscribed to, which are not announced to it besides (moq-transport-22, 7.6).

use std::collections::{BTreeMap, BTreeSet};

use crate::Path;
use crate::census::census;
use crate::model::cache::TrackConsumer;

/// The tracks that a peer subscribed to. Another track with the name of one of them is not the same.
#[derive(Default)]
pub(crate) struct PeerTracks {
    /// How many subscriptions each track has.
    served: BTreeMap<usize, usize>,
    /// The names of tracks that are not known yet, with the slots of their requests.
    awaited: BTreeSet<(Path, Box<str>, usize)>,
}

impl PeerTracks {
    pub(crate) fn serve(&mut self, track: &TrackConsumer) {
        *self.served.entry(track.id()).or_default() += 1;
    }

    pub(crate) fn end(&mut self, track: &TrackConsumer) {
        let Some(count) = self.served.get_mut(&track.id()) else { return };
        *count -= 1;
        if *count == 0 {
            self.served.remove(&track.id());
        }
    }

    /// A subscription waits until its track is known.
    pub(crate) fn wait(&mut self, broadcast: Path, track: Box<str>, slot: usize) {
        self.awaited.insert((broadcast, track, slot));
    }

    pub(crate) fn stop_waiting(&mut self, broadcast: Path, track: Box<str>, slot: usize) {
        self.awaited.remove(&(broadcast, track, slot));
    }

    pub(super) fn contains(&self, broadcast: &Path, track: &TrackConsumer) -> bool {
        if self.served.contains_key(&track.id()) {
            return true;
        }
        if self.awaited.is_empty() {
            return false;
        }
        let first = (broadcast.clone(), track.name().into(), 0);
        let found = self.awaited.range(&first..).next();
        found.is_some_and(|(path, name, _)| (path, name) == (&first.0, &first.1))
    }
}

census! { PeerTracks { counts: served, awaited; } }
