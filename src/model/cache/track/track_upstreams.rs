//! Where the groups of a track come from when sessions supply it: one source, or two of the same
//! content while the track moves from one to the other.

use std::ops::Range;

use smallvec::SmallVec;

use crate::census::census;
use crate::model::base::{Horizon, Route};

/// So many ranges of lost groups are remembered, the newest.
const MAX_LOST: usize = 16;

/// The sources of a track. The application's own producer is none of them.
#[derive(Default)]
pub(crate) struct TrackUpstreams {
    /// Who was asked last stands last.
    attached: SmallVec<[AttachedUpstream; 2]>,
    last: u64,
    /// The newest source that brought a group, and that group: older sources are not needed from there
    /// on.
    lead: Option<(u64, u64)>,
    /// Groups that no later source had.
    lost: SmallVec<[Range<u64>; 1]>,
}

struct AttachedUpstream {
    id: u64,
    supplier: u64,
    /// Whether its session knows of it.
    met: bool,
    /// By which it was asked for.
    route: Box<Route>,
}

impl TrackUpstreams {
    /// Adds one, and gives its id, which is never 0.
    pub(crate) fn attach(&mut self, supplier: u64, route: &Route) -> u64 {
        self.last += 1;
        let route = Box::new(route.clone());
        self.attached.push(AttachedUpstream { id: self.last, supplier, met: false, route });
        self.last
    }

    /// Asks a supplier again that was asked and brought nothing yet. `false` if there is none.
    pub(crate) fn prefer(&mut self, supplier: u64, route: &Route) -> bool {
        let lead = self.lead.map_or(0, |(lead, _)| lead);
        let mut sources = self.attached.iter();
        let at = sources.position(|source| source.supplier == supplier && source.id > lead);
        let Some(mut source) = at.map(|at| self.attached.remove(at)) else { return false };
        (*source.route).clone_from(route);
        self.attached.push(source);
        true
    }

    /// The session of this one knows of it.
    pub(crate) fn meet(&mut self, id: u64) {
        if let Some(source) = self.attached.iter_mut().find(|source| source.id == id) {
            source.met = true;
        }
    }

    /// Whether there is one of which nobody knows yet what it can do.
    pub(crate) fn any_unmet(&self) -> bool {
        self.attached.iter().any(|source| !source.met)
    }

    pub(crate) fn detach(&mut self, id: u64) {
        self.attached.retain(|source| source.id != id);
        // Whoever is left may go on.
        self.lead = self.lead.filter(|(lead, _)| *lead != id);
    }

    /// Who was asked last of those that are still attached.
    pub(crate) fn supplier(&self) -> Option<u64> {
        self.attached.last().map(|source| source.supplier)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// By which route this one was asked for.
    pub(crate) fn route(&self, id: u64) -> Option<&Route> {
        self.attached.iter().find(|source| source.id == id).map(|source| &*source.route)
    }

    /// Those of all.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.attached.iter().map(|source| &*source.route)
    }

    /// Whether nobody but this one is attached.
    pub(crate) fn is_only(&self, id: u64) -> bool {
        self.attached.iter().all(|source| source.id == id)
    }

    /// Whether some of it comes by a route beyond the horizon.
    pub(crate) fn any_beyond(&self, horizon: &Horizon) -> bool {
        self.attached.iter().any(|source| !horizon.shows(&source.route))
    }

    /// Whether a newer source has taken over.
    pub(crate) fn is_superseded(&self, id: u64) -> bool {
        self.lead.is_some_and(|(lead, _)| lead > id)
    }

    /// Whether this source may bring the group: not if a newer one has it or will have it.
    pub(crate) fn admits(&self, id: u64, sequence: u64) -> bool {
        self.lead.is_none_or(|(lead, from)| lead <= id || sequence < from)
    }

    /// This source brought a group. `true`: it took over from older ones.
    pub(crate) fn brought(&mut self, id: u64, sequence: u64) -> bool {
        if self.lead.is_some_and(|(lead, _)| lead >= id) {
            return false;
        }
        self.lead = Some((id, sequence));
        !self.is_only(id)
    }

    pub(crate) fn lose(&mut self, groups: Range<u64>) {
        if self.lost.len() == MAX_LOST {
            self.lost.remove(0);
        }
        self.lost.push(groups);
    }

    /// How many of these groups, none of which is here, were lost.
    pub(crate) fn lost_of(&self, groups: Range<u64>) -> u64 {
        let common = |lost: &Range<u64>| {
            lost.end.min(groups.end).saturating_sub(lost.start.max(groups.start))
        };
        self.lost.iter().map(common).sum()
    }
}

census! { TrackUpstreams { counts: attached; plain: last, lead, lost; } }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_source_that_brings_a_group_leads() {
        let mut sources = TrackUpstreams::default();
        let route = Route::default();
        let (old, new) = (sources.attach(7, &route), sources.attach(8, &route));
        assert_eq!(sources.supplier(), Some(8));
        assert!(sources.brought(old, 3));
        assert!(sources.admits(new, 3) && sources.admits(old, 4));
        assert!(!sources.is_superseded(old) && !sources.is_superseded(new), "nothing new came yet");
        assert!(sources.brought(new, 5));
        assert!(sources.is_superseded(old) && !sources.is_superseded(new));
        assert!(sources.admits(old, 4) && !sources.admits(old, 5), "what began may end");
        sources.detach(new);
        assert!(sources.admits(old, 5) && sources.is_only(old), "it goes on alone");
        assert_eq!(sources.supplier(), Some(7));
    }

    #[test]
    fn lost_groups_are_counted_where_they_are_passed() {
        let mut sources = TrackUpstreams::default();
        sources.lose(3..6);
        assert_eq!(
            [sources.lost_of(0..3), sources.lost_of(0..5), sources.lost_of(5..9)],
            [0, 2, 1]
        );
        for n in 0..100 {
            sources.lose(n * 10..n * 10 + 1);
        }
        assert_eq!(sources.lost_of(0..u64::MAX), MAX_LOST as u64);
    }
}
