//! The sessions that deliver a track. There is one, or there are two with the same content while
//! the track moves from one to the other.

use std::ops::Range;

use smallvec::SmallVec;

use crate::census::census;
use crate::model::base::{Horizon, Route};

/// How many ranges of lost groups are remembered. The newest ones are kept.
const MAX_LOST: usize = 16;

/// The upstreams of a track. The application's own producer is not among them.
#[derive(Default)]
pub(crate) struct TrackUpstreams {
    /// In the order in which they were asked.
    attached: SmallVec<[AttachedUpstream; 2]>,
    last: u64,
    /// The newest upstream that delivered a group, and the sequence of that group. Older upstreams
    /// are not needed from there on.
    leader: Option<(u64, u64)>,
    /// Groups that no later upstream had.
    lost: SmallVec<[Range<u64>; 1]>,
}

struct AttachedUpstream {
    id: u64,
    upstream_id: u64,
    /// Whether its session knows of the track.
    is_confirmed: bool,
    /// The route by which the track was requested.
    route: Box<Route>,
}

impl TrackUpstreams {
    /// Adds an upstream and returns its id, which is never 0.
    pub(crate) fn attach(&mut self, upstream_id: u64, route: &Route) -> u64 {
        self.last += 1;
        let route = Box::new(route.clone());
        self.attached.push(AttachedUpstream {
            id: self.last,
            upstream_id,
            is_confirmed: false,
            route,
        });
        self.last
    }

    /// Selects again an upstream that was asked before and has delivered nothing yet. Returns
    /// whether there is one.
    pub(crate) fn select_again(&mut self, upstream_id: u64, route: &Route) -> bool {
        let leader = self.leader.map_or(0, |(leader, _)| leader);
        let mut upstreams = self.attached.iter();
        let at = upstreams
            .position(|upstream| upstream.upstream_id == upstream_id && upstream.id > leader);
        let Some(mut upstream) = at.map(|at| self.attached.remove(at)) else { return false };
        (*upstream.route).clone_from(route);
        self.attached.push(upstream);
        true
    }

    /// The session of this upstream knows of the track.
    pub(crate) fn confirm(&mut self, id: u64) {
        if let Some(upstream) = self.attached.iter_mut().find(|upstream| upstream.id == id) {
            upstream.is_confirmed = true;
        }
    }

    /// Whether the abilities of some upstream are not known yet.
    pub(crate) fn any_unconfirmed(&self) -> bool {
        self.attached.iter().any(|upstream| !upstream.is_confirmed)
    }

    pub(crate) fn detach(&mut self, id: u64) {
        self.attached.retain(|upstream| upstream.id != id);
        // An older upstream that is left may go on.
        self.leader = self.leader.filter(|(leader, _)| *leader != id);
    }

    /// The upstream that was asked last and is still attached.
    pub(crate) fn upstream_id(&self) -> Option<u64> {
        self.attached.last().map(|upstream| upstream.upstream_id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// The route by which the track was requested from this upstream.
    pub(crate) fn route(&self, id: u64) -> Option<&Route> {
        self.attached.iter().find(|upstream| upstream.id == id).map(|upstream| &*upstream.route)
    }

    /// The routes of all upstreams.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.attached.iter().map(|upstream| &*upstream.route)
    }

    /// Whether no other upstream is attached.
    pub(crate) fn is_only(&self, id: u64) -> bool {
        self.attached.iter().all(|upstream| upstream.id == id)
    }

    /// Whether the route of some upstream is outside of the horizon.
    pub(crate) fn any_beyond(&self, horizon: &Horizon) -> bool {
        self.attached.iter().any(|upstream| !horizon.shows(&upstream.route))
    }

    /// Whether a newer upstream has taken over.
    pub(crate) fn is_superseded(&self, id: u64) -> bool {
        self.leader.is_some_and(|(leader, _)| leader > id)
    }

    /// Whether this upstream may deliver the group. It may not if a newer one has it or will have
    /// it.
    pub(crate) fn accepts_group(&self, id: u64, sequence: u64) -> bool {
        self.leader.is_none_or(|(leader, from)| leader <= id || sequence < from)
    }

    /// This upstream delivered a group. Returns whether it took over from older ones.
    pub(crate) fn record_group(&mut self, id: u64, sequence: u64) -> bool {
        if self.leader.is_some_and(|(leader, _)| leader >= id) {
            return false;
        }
        self.leader = Some((id, sequence));
        !self.is_only(id)
    }

    pub(crate) fn add_lost(&mut self, groups: Range<u64>) {
        if self.lost.len() == MAX_LOST {
            self.lost.remove(0);
        }
        self.lost.push(groups);
    }

    /// Counts the lost groups in a range of groups none of which is here.
    pub(crate) fn lost_in(&self, groups: Range<u64>) -> u64 {
        let common = |lost: &Range<u64>| {
            lost.end.min(groups.end).saturating_sub(lost.start.max(groups.start))
        };
        self.lost.iter().map(common).sum()
    }
}

census! { TrackUpstreams { counts: attached; plain: last, leader, lost; } }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_upstream_that_delivers_a_group_leads() {
        let mut upstreams = TrackUpstreams::default();
        let route = Route::default();
        let (old, new) = (upstreams.attach(7, &route), upstreams.attach(8, &route));
        assert_eq!(upstreams.upstream_id(), Some(8));
        assert!(upstreams.record_group(old, 3));
        assert!(upstreams.accepts_group(new, 3) && upstreams.accepts_group(old, 4));
        assert!(
            !upstreams.is_superseded(old) && !upstreams.is_superseded(new),
            "nothing new came yet"
        );
        assert!(upstreams.record_group(new, 5));
        assert!(upstreams.is_superseded(old) && !upstreams.is_superseded(new));
        assert!(
            upstreams.accepts_group(old, 4) && !upstreams.accepts_group(old, 5),
            "what began may end"
        );
        upstreams.detach(new);
        assert!(upstreams.accepts_group(old, 5) && upstreams.is_only(old), "it goes on alone");
        assert_eq!(upstreams.upstream_id(), Some(7));
    }

    #[test]
    fn lost_groups_are_counted_when_they_are_skipped() {
        let mut upstreams = TrackUpstreams::default();
        upstreams.add_lost(3..6);
        assert_eq!(
            [upstreams.lost_in(0..3), upstreams.lost_in(0..5), upstreams.lost_in(5..9)],
            [0, 2, 1]
        );
        for n in 0..100 {
            upstreams.add_lost(n * 10..n * 10 + 1);
        }
        assert_eq!(upstreams.lost_in(0..u64::MAX), MAX_LOST as u64);
    }
}
