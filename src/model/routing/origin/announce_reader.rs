//! The announcements for one request of a peer.

use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use super::peer_tracks::PeerTracks;
use super::shared::OriginShared;
use super::track_watch::TrackWatch;
use crate::census::census;
use crate::machine::Announcement;
use crate::model::base::{Horizon, Route, impl_debug, lock};
use crate::model::routing::broadcast::BroadcastConsumer;
use crate::model::routing::table::{AnnounceQuota, RouteChange, TableReader};
use crate::{Cost, Hop, Hops, Instant, Path};

/// Reads the answer to one ANNOUNCE request of a peer.
///
/// The peer is first told how many broadcasts there are, and waits for that many. They are read
/// when they can be sent, and some may be gone by then. In their place it announces a broadcast
/// that no peer can use, because its chain of hops has no room for one more, and that ends at once.
pub(crate) struct AnnounceReader {
    shared: Arc<OriginShared>,
    reader: TableReader,
    /// How many active announcements the peer still waits for.
    promised: u64,
    /// How many names were tried for such placeholders, and for their ends.
    stand_ins: (u64, u64),
    /// Set if the tracks of the broadcasts are announced.
    tracks: Option<Box<TrackWatch>>,
}

impl AnnounceReader {
    pub(super) fn new(shared: Arc<OriginShared>, reader: TableReader) -> Self {
        Self { shared, reader, promised: 0, stand_ins: (0, 0), tracks: None }
    }

    /// From now on the tracks of the broadcasts below `prefix` are announced to a peer with this horizon, and the
    /// broadcasts themselves only if it wants their `names` too.
    pub(crate) fn announce_tracks(&mut self, prefix: &Path, horizon: Horizon, names: bool) {
        self.tracks = Some(Box::new(TrackWatch::new(prefix.clone(), horizon, names)));
    }

    /// Counts the broadcasts, up to `most`, and promises that many announcements. `None` means to
    /// call again, so that other threads can take the lock in between.
    pub(crate) fn promise(&mut self, most: usize) -> Option<u64> {
        let now = self.shared.cache.now();
        self.promised = self.reader.count(&mut lock(&self.shared.state).table, now, most)?;
        Some(self.promised)
    }

    /// The next announcement: first as many active ones as were promised, then coalesced changes.
    /// An active announcement for an active path is a change of its hops or cost. When the `quota`
    /// is used up, only announced broadcasts change. Tracks that the peer `has` are left out.
    pub(crate) fn poll_next(
        &mut self,
        waker: Option<&Waker>,
        quota: AnnounceQuota,
        has: &PeerTracks,
    ) -> Poll<Announcement> {
        if let Some(announcement) = self.stand_in() {
            return Poll::Ready(announcement);
        }
        let Self { shared, reader, promised, tracks, .. } = self;
        let now = shared.cache.now();
        if let (Some(tracks), Some(waker)) = (tracks, waker) {
            return tracks.poll_next(waker, has, || {
                shared.read(reader, Some(waker), |reader, state| {
                    reader.next(&mut state.table, now, quota)
                })
            });
        }
        let next = ready!(shared.read(reader, waker, |reader, state| {
            match reader.next(&mut state.table, now, quota) {
                Some((suffix, change)) => Some(Some(announcement(suffix, &change))),
                // All was read, and some broadcasts were gone.
                None => (*promised > 0 && reader.is_caught_up()).then_some(None),
            }
        }));
        match next {
            Some(announcement) => {
                let is_active = matches!(announcement, Announcement::Active { .. });
                self.promised -= u64::from(is_active && self.promised > 0);
                Poll::Ready(announcement)
            }
            None => self.poll_next(waker, quota, has),
        }
    }

    /// A placeholder for a broadcast that is gone, or the end of one.
    fn stand_in(&mut self) -> Option<Announcement> {
        let is_missing = self.promised > 0 && self.reader.is_caught_up();
        loop {
            let (begun, ended) = self.stand_ins;
            let number = match is_missing {
                true => begun,
                false if ended < begun => ended,
                false => return None,
            };
            let suffix = Path::new(&format!("gone/{number}"));
            match is_missing {
                true => self.stand_ins.0 += 1,
                false => self.stand_ins.1 += 1,
            }
            if self.reader.has_announced(&suffix) {
                continue;
            }
            return Some(match is_missing {
                true => {
                    self.promised -= 1;
                    let hops = [Hop::UNKNOWN; Hops::MAX].into_iter().collect();
                    Announcement::Active { suffix, hops, cost: Cost::UNKNOWN }
                }
                false => Announcement::Ended { suffix },
            });
        }
    }

    /// When to read again even if no waker is woken: a change is held until then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.reader.deadline()
    }

    /// Counts the broadcasts that were announced to the peer and not ended.
    pub(crate) fn announced(&self) -> usize {
        self.reader.announced()
    }

    /// Whether a broadcast was left out because the quota was used up.
    pub(crate) fn is_over_quota(&self) -> bool {
        self.reader.is_over_quota()
    }
}

impl_debug! { AnnounceReader, it => promised: &it.promised }

impl Drop for AnnounceReader {
    fn drop(&mut self) {
        self.shared.forget(&mut self.reader);
    }
}

pub(super) fn announcement(suffix: Path, change: &RouteChange<BroadcastConsumer>) -> Announcement {
    match change {
        RouteChange::Announced(entry) | RouteChange::Rerouted(entry) => {
            let Route { hops, cost, .. } = &entry.route;
            Announcement::Active { suffix, hops: hops.clone(), cost: *cost }
        }
        RouteChange::Gone => Announcement::Ended { suffix },
    }
}

census! { AnnounceReader { within: reader, tracks; plain: shared, promised, stand_ins; } }

#[cfg(test)]
mod tests;
