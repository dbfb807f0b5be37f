//! What a peer is told of the broadcasts of an origin.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use super::shared::OriginShared;
use crate::census::census;
use crate::machine::Announcement;
use crate::model::base::lock;
use crate::model::routing::broadcast::BroadcastConsumer;
use crate::model::routing::table::{AnnounceQuota, RouteChange, TableReader};
use crate::{Cost, Hop, Hops, Instant, Path};

/// What one ANNOUNCE request of a peer is answered with.
///
/// The peer is told at first how many broadcasts there are, and waits for that many. They are read when they
/// can go out, and by then some may be gone. Then something else takes their place that no peer can use: a
/// broadcast whose chain has no room for the peer that would have to be in it, and which ends at once.
pub(crate) struct AnnounceReader {
    shared: Arc<OriginShared>,
    reader: TableReader,
    /// How many active ones the peer still waits for.
    promised: u64,
    /// Names that were looked at for those that take the place of others, and for their ends.
    stand_ins: (u64, u64),
}

impl AnnounceReader {
    pub(super) fn new(shared: Arc<OriginShared>, reader: TableReader) -> Self {
        Self { shared, reader, promised: 0, stand_ins: (0, 0) }
    }

    /// How many broadcasts there are, at most `most`: from now on that many are promised. `None`: it is to be
    /// asked again, and others may have the lock by then.
    pub(crate) fn promise(&mut self, most: usize) -> Option<u64> {
        let now = self.shared.cache.now();
        self.promised = self.reader.count(&mut lock(&self.shared.state).table, now, most)?;
        Some(self.promised)
    }

    /// First as many active ones as were promised, then what changed, coalesced. Active for one that is
    /// active: its hops or cost changed. Without `quota` there are no others than those that the peer knows.
    pub(crate) fn poll_next(
        &mut self,
        waker: Option<&Waker>,
        quota: AnnounceQuota,
    ) -> Poll<Announcement> {
        if let Some(announcement) = self.stand_in() {
            return Poll::Ready(announcement);
        }
        let Self { shared, reader, promised, .. } = self;
        let now = shared.cache.now();
        let next = ready!(shared.read(reader, waker, |reader, state| {
            match reader.next(&mut state.table, now, quota) {
                Some((suffix, change)) => Some(Some(announcement(suffix, change))),
                // All was read, and some of it was gone.
                None => (*promised > 0 && reader.is_caught_up()).then_some(None),
            }
        }));
        match next {
            Some(announcement) => {
                let is_active = matches!(announcement, Announcement::Active { .. });
                self.promised -= u64::from(is_active && self.promised > 0);
                Poll::Ready(announcement)
            }
            None => self.poll_next(waker, quota),
        }
    }

    /// One in the place of one that is gone, or its end.
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

    /// When to ask again, although nobody wakes: a change is held until then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.reader.deadline()
    }

    /// How many broadcasts the peer was told of that it does not know to be gone.
    pub(crate) fn announced(&self) -> usize {
        self.reader.announced()
    }

    /// Whether there was no room for something.
    pub(crate) fn is_over_quota(&self) -> bool {
        self.reader.is_over_quota()
    }
}

impl fmt::Debug for AnnounceReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnounceReader").field("promised", &self.promised).finish_non_exhaustive()
    }
}

impl Drop for AnnounceReader {
    fn drop(&mut self) {
        self.shared.forget(&mut self.reader);
    }
}

fn announcement(suffix: Path, change: RouteChange<BroadcastConsumer>) -> Announcement {
    match change {
        RouteChange::Announced(entry) | RouteChange::Rerouted(entry) => {
            Announcement::Active { suffix, hops: entry.route.hops, cost: entry.route.cost }
        }
        RouteChange::Gone => Announcement::Ended { suffix },
    }
}

census! { AnnounceReader { within: reader; plain: shared, promised, stand_ins; } }

#[cfg(test)]
mod tests;
