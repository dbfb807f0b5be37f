//! The parts of a track that have no place in a group of an application: other subgroups than 0, the rest of a subgroup 0
//! after a gap or with a status, and objects in datagrams other than the first of a group. Only sessions of moq-transport
//! read them, and they are kept only while one does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::cached_groups::{Evictions, RetentionRules};
use crate::Instant;
use crate::census::census;
use crate::machine::Subgroup;
use crate::model::cache::group::CachedGroup;

/// One of these parts.
#[derive(Clone, Debug)]
pub(crate) struct CachedSubgroup {
    pub(crate) subgroup: Subgroup,
    pub(crate) group: Arc<CachedGroup>,
}

#[derive(Debug, Default)]
pub(crate) struct CachedSubgroups {
    by_arrival: VecDeque<CachedSubgroup>,
    /// By the number of the group, and that of the subgroup or object.
    by_place: BTreeMap<(u64, u64), CachedSubgroup>,
    arrivals: u64,
    /// Each reader has a clone.
    readers: Arc<()>,
}

impl CachedSubgroups {
    /// A count that a reader holds as long as it reads subgroups.
    pub(crate) fn reader(&self) -> Arc<()> {
        self.readers.clone()
    }

    pub(crate) fn have_readers(&self) -> bool {
        Arc::strong_count(&self.readers) > 1
    }

    pub(crate) fn len(&self) -> usize {
        self.by_arrival.len()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<CachedGroup>> {
        self.by_arrival.iter().map(|part| &part.group)
    }

    pub(crate) fn find(&self, sequence: u64, number: u64) -> Option<&Arc<CachedGroup>> {
        self.by_place.get(&(sequence, number)).map(|part| &part.group)
    }

    /// The parts of a group, by the number of their subgroup.
    pub(crate) fn of_group(&self, sequence: u64) -> impl Iterator<Item = &CachedSubgroup> {
        self.by_place.range((sequence, 0)..=(sequence, u64::MAX)).map(|(_, part)| part)
    }

    /// The first group between two numbers that has a part, or the last one.
    pub(crate) fn group_between(&self, low: u64, high: u64, last: bool) -> Option<u64> {
        let mut places = self.by_place.range((low, 0)..=(high, u64::MAX));
        let place = if last { places.next_back() } else { places.next() };
        place.map(|((sequence, _), _)| *sequence)
    }

    /// Adds a subgroup. `make` creates it from its arrival number.
    pub(crate) fn insert(
        &mut self,
        subgroup: Subgroup,
        make: impl FnOnce(u64) -> Arc<CachedGroup>,
    ) -> Arc<CachedGroup> {
        let group = make(self.arrivals);
        self.arrivals += 1;
        let part = CachedSubgroup { subgroup, group: group.clone() };
        self.by_place.insert((group.sequence(), subgroup.number), part.clone());
        self.by_arrival.push_back(part);
        group
    }

    /// Subgroups in order of arrival, starting with number `arrival`.
    pub(crate) fn arrived(&self, arrival: u64) -> impl Iterator<Item = &CachedSubgroup> {
        let at = self.by_arrival.partition_point(|part| part.group.arrival() < arrival);
        self.by_arrival.range(at..)
    }

    /// Removes the subgroup that arrived first, if its group is not above `last`.
    pub(crate) fn pop_first(&mut self, last: u64) -> Option<Arc<CachedGroup>> {
        self.by_arrival.front().filter(|part| part.group.sequence() <= last)?;
        let CachedSubgroup { subgroup, group } = self.by_arrival.pop_front()?;
        self.by_place.remove(&(group.sequence(), subgroup.number));
        Some(group)
    }

    /// Removes subgroups of groups below `floor`, and those that are too old by the clock, but none of the group
    /// `protected` or that arrived after one of it. Returns when the next one becomes too old.
    pub(crate) fn sweep(
        &mut self,
        floor: u64,
        protected: Option<u64>,
        rules: &RetentionRules,
        now: Instant,
        evictions: &mut Evictions,
    ) -> Option<Instant> {
        loop {
            let group = &self.by_arrival.front()?.group;
            let (sequence, deadline) = (group.sequence(), group.written() + rules.max_age);
            if sequence >= floor && (protected == Some(sequence) || deadline > now) {
                return Some(deadline).filter(|_| protected != Some(sequence));
            }
            evictions.extend(self.pop_first(u64::MAX).map(|group| (group, rules.reason())));
        }
    }
}

census! { each CachedSubgroup { within: group; plain: subgroup; } }

census! { CachedSubgroups { counts: by_arrival; within: by_place; plain: arrivals, readers; } }
