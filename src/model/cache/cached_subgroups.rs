//! The other subgroups than 0 that a track keeps: parts of its groups that only sessions of moq-transport read, and keeps
//! only while one of them does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cached_groups::{Evictions, RetentionRules};
use crate::Instant;
use crate::census::census;
use crate::machine::Subgroup;
use crate::model::cache::group::CachedGroup;

/// The number of the group, and that of the subgroup.
type Place = (u64, u64);

#[derive(Debug, Default)]
pub(crate) struct CachedSubgroups {
    by_place: BTreeMap<Place, CachedSubgroup>,
    by_arrival: BTreeMap<u64, Place>,
    arrivals: u64,
    /// Each reader has a clone.
    readers: Arc<()>,
}

/// A part of a group, as it arrived.
#[derive(Debug)]
pub(crate) struct CachedSubgroup {
    pub(crate) subgroup: Subgroup,
    /// Index in the group of its first frame.
    pub(crate) first_frame: u64,
    pub(crate) group: Arc<CachedGroup>,
}

impl CachedSubgroups {
    /// What a reader holds as long as it reads subgroups.
    pub(crate) fn reader(&self) -> Arc<()> {
        self.readers.clone()
    }

    pub(crate) fn have_readers(&self) -> bool {
        Arc::strong_count(&self.readers) > 1
    }

    pub(crate) fn len(&self) -> usize {
        self.by_place.len()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<CachedGroup>> {
        self.by_place.values().map(|part| &part.group)
    }

    pub(crate) fn contains(&self, sequence: u64, number: u64) -> bool {
        self.by_place.contains_key(&(sequence, number))
    }

    /// Adds a subgroup. `make` creates it from its arrival number.
    pub(crate) fn insert(
        &mut self,
        sequence: u64,
        first_frame: u64,
        subgroup: Subgroup,
        make: impl FnOnce(u64) -> Arc<CachedGroup>,
    ) -> &Arc<CachedGroup> {
        let place = (sequence, subgroup.number);
        self.by_arrival.insert(self.arrivals, place);
        let group = make(self.arrivals);
        self.arrivals += 1;
        &self.by_place.entry(place).or_insert(CachedSubgroup { subgroup, first_frame, group }).group
    }

    /// Subgroups in order of arrival, starting with number `arrival`.
    pub(crate) fn arrived(&self, arrival: u64) -> impl Iterator<Item = &CachedSubgroup> {
        self.by_arrival.range(arrival..).filter_map(|(_, place)| self.by_place.get(place))
    }

    /// Removes the first subgroup of the lowest group, if that is not above `last`.
    pub(crate) fn pop_first(&mut self, last: u64) -> Option<Arc<CachedGroup>> {
        let first = self.by_place.keys().next().copied();
        first.filter(|place| place.0 <= last).and_then(|place| self.remove(place))
    }

    fn remove(&mut self, place: Place) -> Option<Arc<CachedGroup>> {
        let CachedSubgroup { group, .. } = self.by_place.remove(&place)?;
        self.by_arrival.remove(&group.arrival());
        Some(group)
    }

    /// Removes subgroups of groups below `floor`, and those that are too old by the clock, but none of the group
    /// `protected`. Returns when the next one becomes too old.
    pub(crate) fn sweep(
        &mut self,
        floor: u64,
        protected: Option<u64>,
        rules: &RetentionRules,
        now: Instant,
        evictions: &mut Evictions,
    ) -> Option<Instant> {
        let protected = protected.unwrap_or(u64::MAX);
        let [below, above] = [(protected, 0), (protected, u64::MAX)];
        loop {
            let first = self.by_place.range(..below).next();
            let (place, part) = first.or_else(|| self.by_place.range(above..).next())?;
            let (place, deadline) = (*place, part.group.written() + rules.max_age);
            if place.0 >= floor && deadline > now {
                return Some(deadline).filter(|next| *next != Instant::from_micros(u64::MAX));
            }
            evictions.extend(self.remove(place).map(|group| (group, rules.reason())));
        }
    }
}

census! { each CachedSubgroup { within: group; plain: subgroup, first_frame; } }
census! { CachedSubgroups { counts: by_arrival; within: by_place; plain: arrivals, readers; } }
