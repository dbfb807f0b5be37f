//! The groups that a track keeps, in order of sequence and of arrival, and which of them are given
//! up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::budget::Account;
use super::cached_subgroups::CachedSubgroups;
use crate::census::census;
use crate::model::cache::group::CachedGroup;
use crate::{Error, Instant, Timescale, Timestamp};

/// Groups that were given up, with the reason. They are evicted after the lock is released.
pub(crate) type Evictions = SmallVec<[(Arc<CachedGroup>, Error); 2]>;

/// How long groups are kept.
pub(crate) struct RetentionRules {
    pub(crate) max_age: Duration,
    pub(crate) timescale: Timescale,
    /// Why no group is kept, not even while it is read.
    pub(crate) void: Option<Error>,
    /// Whether the newest group stays whatever its age.
    pub(crate) is_live: bool,
}

impl RetentionRules {
    /// Why a group is not kept any longer.
    pub(super) fn reason(&self) -> Error {
        self.void.clone().unwrap_or(Error::Old)
    }
}

#[derive(Debug, Default)]
pub(crate) struct CachedGroups {
    by_sequence: VecDeque<Arc<CachedGroup>>,
    by_arrival: VecDeque<Arc<CachedGroup>>,
    /// Groups that were fetched by number. They are in neither order: no cursor meets them, and
    /// none of them is the latest.
    fetched: BTreeMap<u64, Arc<CachedGroup>>,
    /// No fetched group was written before this time.
    oldest_fetched: Option<Instant>,
    arrivals: u64,
    /// One past the highest sequence that the track ever had.
    next_sequence: u64,
    /// Groups below this sequence were given up.
    floor: u64,
    /// Other subgroups than 0 of these groups, once a session reads them.
    subgroups: Option<Box<CachedSubgroups>>,
}

impl CachedGroups {
    /// One past the highest sequence that the track ever had.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Groups below this sequence were given up. They come back only if they are fetched by number.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) fn by_sequence(&self) -> &VecDeque<Arc<CachedGroup>> {
        &self.by_sequence
    }

    /// All groups, including fetched ones.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<CachedGroup>> {
        let subgroups = self.subgroups.iter().flat_map(|subgroups| subgroups.groups());
        self.by_sequence.iter().chain(self.fetched.values()).chain(subgroups)
    }

    /// Other subgroups than 0, which are in none of the orders. `None` if no session ever read them.
    pub(crate) fn subgroups(&mut self) -> &mut Option<Box<CachedSubgroups>> {
        &mut self.subgroups
    }

    /// The arrival number of the next group.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// The group with the highest sequence.
    pub(crate) fn latest(&self) -> Option<&Arc<CachedGroup>> {
        self.by_sequence.back()
    }

    /// The group with this sequence, fetched or not.
    pub(crate) fn find(&self, sequence: u64) -> Option<&Arc<CachedGroup>> {
        self.fetched.get(&sequence).or_else(|| self.find_live(sequence))
    }

    /// The group with this sequence, unless it was only fetched.
    pub(crate) fn find_live(&self, sequence: u64) -> Option<&Arc<CachedGroup>> {
        let group = self.by_sequence.get(self.position(sequence))?;
        (group.sequence() == sequence).then_some(group)
    }

    /// Whether this group, or this subgroup of it, came by subscription.
    pub(crate) fn has_live(&self, sequence: u64, part: Option<u64>) -> bool {
        match (part, &self.subgroups) {
            (None, _) => self.find_live(sequence).is_some(),
            (Some(number), Some(subgroups)) => subgroups.find(sequence, number).is_some(),
            (Some(_), None) => false,
        }
    }

    /// The index of the first group at or after `sequence`.
    pub(crate) fn position(&self, sequence: u64) -> usize {
        match self.latest() {
            Some(latest) if latest.sequence() < sequence => self.by_sequence.len(),
            _ => self.by_sequence.partition_point(|group| group.sequence() < sequence),
        }
    }

    /// Groups in order of arrival, starting with number `arrival`.
    pub(crate) fn arrived(&self, arrival: u64) -> impl Iterator<Item = &Arc<CachedGroup>> {
        let at = match self.by_arrival.back() {
            Some(last) if last.arrival() < arrival => self.by_arrival.len(),
            _ => self.by_arrival.partition_point(|group| group.arrival() < arrival),
        };
        self.by_arrival.range(at..)
    }

    /// Adds a new group. `make` creates it from its arrival number.
    pub(crate) fn insert(
        &mut self,
        sequence: u64,
        make: impl FnOnce(u64) -> Arc<CachedGroup>,
    ) -> &Arc<CachedGroup> {
        let group = make(self.arrivals);
        let at = self.place_in_order(group);
        debug_assert_eq!(self.by_sequence[at].sequence(), sequence);
        &self.by_sequence[at]
    }

    fn place_in_order(&mut self, group: Arc<CachedGroup>) -> usize {
        let sequence = group.sequence();
        self.arrivals += 1;
        self.next_sequence = self.next_sequence.max(sequence + 1);
        self.by_arrival.push_back(group.clone());
        let at = self.position(sequence);
        self.by_sequence.insert(at, group);
        at
    }

    /// Adds a fetched group, and returns the one that it replaces.
    pub(crate) fn insert_fetched(&mut self, group: Arc<CachedGroup>) -> Option<Arc<CachedGroup>> {
        let written = group.written();
        self.oldest_fetched =
            Some(self.oldest_fetched.map_or(written, |oldest| oldest.min(written)));
        self.fetched.insert(group.sequence(), group)
    }

    /// Removes a fetched group.
    pub(crate) fn remove_fetched(&mut self, sequence: u64) -> Option<Arc<CachedGroup>> {
        self.fetched.remove(&sequence)
    }

    /// Moves a fetched group that now arrived by subscription as well into the two orders.
    pub(crate) fn promote(&mut self, sequence: u64) {
        if let Some(group) = self.fetched.remove(&sequence) {
            group.set_arrival(self.arrivals);
            self.place_in_order(group);
        }
    }

    fn remove(&mut self, at: usize) -> Option<Arc<CachedGroup>> {
        let group = self.by_sequence.remove(at)?;
        self.floor = self.floor.max(group.sequence() + 1);
        if let Ok(at) = self.by_arrival.binary_search_by_key(&group.arrival(), |g| g.arrival()) {
            self.by_arrival.remove(at);
        }
        Some(group)
    }

    /// Whether the group at index `at` is older in media time than `max_age`. A group ended when
    /// the next one began.
    pub(crate) fn is_old(&self, at: usize, max_age: Duration, timescale: Timescale) -> bool {
        let (Some(newest), Some(end)) = (self.newest(), self.end_of(at)) else { return false };
        let age = timescale.to_micros(newest.units().saturating_sub(end.units()));
        Duration::from_micros(age) >= max_age
    }

    /// The newest timestamp of the track, if there is a group after `sequence`.
    pub(crate) fn newest_after(&self, sequence: u64) -> Option<Timestamp> {
        self.by_sequence.back().filter(|latest| latest.sequence() > sequence)?;
        self.newest()
    }

    /// The newest timestamp of the latest group that has one.
    fn newest(&self) -> Option<Timestamp> {
        self.by_sequence.iter().rev().find_map(|group| group.newest())
    }

    /// The first timestamp after the group at index `at`.
    fn end_of(&self, at: usize) -> Option<Timestamp> {
        self.by_sequence.iter().skip(at + 1).find_map(|group| group.first())
    }

    /// Removes groups that are too old, oldest first, and then the oldest until the rest fits the
    /// limits. Groups that an application is reading go last. Returns when the next group becomes
    /// too old by the clock.
    pub(crate) fn sweep(
        &mut self,
        rules: &RetentionRules,
        account: &Account,
        evictions: &mut Evictions,
    ) -> Option<Instant> {
        let protected = usize::from(rules.is_live);
        let now = account.cache().now();
        let mut at = 0;
        let mut next = None;
        while at + protected < self.by_sequence.len() {
            let group = &self.by_sequence[at];
            let deadline = group.written() + rules.max_age;
            if deadline > now && !self.is_old(at, rules.max_age, rules.timescale) {
                next =
                    Some(deadline).filter(|deadline| *deadline != Instant::from_micros(u64::MAX));
                break;
            }
            if rules.void.is_none() && group.mark_overdue() {
                at += 1;
            } else {
                evictions.extend(self.remove(at).map(|group| (group, rules.reason())));
            }
        }
        let max_age = u64::try_from(rules.max_age.as_micros()).unwrap_or(u64::MAX);
        let due = self.end_of(at).filter(|_| next.is_some()).map(|end| {
            Timestamp::new(end.units().saturating_add(rules.timescale.from_micros(max_age)))
        });
        account.set_media_due(due);

        let fetched_next = self.sweep_fetched(rules, now, evictions);
        let latest = self.latest().filter(|_| rules.is_live).map(|latest| latest.sequence());
        let subgroups = self.subgroups.as_mut();
        let subgroups_next =
            subgroups.and_then(|it| it.sweep(self.floor, latest, rules, now, evictions));

        let mut freed = evictions.iter().map(|(group, _)| group.used()).sum();
        while self.exceeds_limits(account, protected, freed) {
            let Some(group) = self.remove_least_useful(protected) else { break };
            freed += group.used();
            evictions.push((group, Error::Evicted));
        }
        let next = [next, fetched_next, subgroups_next].into_iter().flatten().min();
        next.filter(|next| *next != Instant::from_micros(u64::MAX))
    }

    /// Removes fetched groups that are too old by the clock. Media time does not count: a fetched
    /// group was known to be old. Returns when the next one becomes too old.
    fn sweep_fetched(
        &mut self,
        rules: &RetentionRules,
        now: Instant,
        evictions: &mut Evictions,
    ) -> Option<Instant> {
        if self.fetched.is_empty() {
            self.oldest_fetched = None;
        }
        let oldest = self.oldest_fetched?;
        if oldest + rules.max_age > now {
            return Some(oldest + rules.max_age);
        }
        let (mut next, mut oldest) = (None::<Instant>, None::<Instant>);
        let earlier = |of: &mut Option<Instant>, at| *of = Some(of.map_or(at, |of| of.min(at)));
        self.fetched.retain(|_, group| {
            let deadline = group.written() + rules.max_age;
            let stays = deadline > now || rules.void.is_none() && group.mark_overdue();
            if !stays {
                evictions.push((group.clone(), rules.reason()));
                return false;
            }
            earlier(&mut oldest, group.written());
            if deadline > now {
                earlier(&mut next, deadline);
            }
            true
        });
        self.oldest_fetched = oldest;
        next
    }

    /// Removes the least useful group, but none of the newest `protected` ones. Groups that can be
    /// fetched again go first, groups that an application is reading last. A group goes after its subgroups.
    fn remove_least_useful(&mut self, protected: usize) -> Option<Arc<CachedGroup>> {
        let idle = self.fetched.iter().find(|(_, group)| !group.is_pinned());
        if let Some(sequence) = idle.map(|(sequence, _)| *sequence) {
            return self.fetched.remove(&sequence);
        }
        let count = self.by_sequence.len().saturating_sub(protected);
        let idle = self.by_sequence.iter().take(count).position(|group| !group.is_pinned());
        let last = idle.map_or(u64::MAX, |at| self.by_sequence[at].sequence());
        if let Some(part) = self.subgroups.as_mut().and_then(|it| it.pop_first(last)) {
            return Some(part);
        }
        match idle {
            Some(at) => self.remove(at),
            None if self.fetched.is_empty() && count > 0 => self.remove(0),
            None => self.fetched.pop_first().map(|(_, group)| group),
        }
    }

    /// Whether a limit is still exceeded once `freed` bytes are gone.
    fn exceeds_limits(&self, account: &Account, protected: usize, freed: u64) -> bool {
        let limits = account.limits();
        let (track, cache) = (account.used(), account.cache().used());
        let newest = || match protected {
            0 => 0,
            _ => self.latest().map_or(0, |group| group.used()),
        };
        let subgroups = self.subgroups.as_ref().map_or(0, |subgroups| subgroups.len());
        self.by_sequence.len() + self.fetched.len() + subgroups > limits.track_groups
            || cache.saturating_sub(freed) > limits.cache_bytes
            || track.saturating_sub(freed) > limits.track_bytes
                && track.saturating_sub(freed).saturating_sub(newest()) > limits.track_bytes
    }
}

census! { CachedGroups {
    counts: by_arrival;
    within: by_sequence, fetched, subgroups;
    plain: oldest_fetched, arrivals, next_sequence, floor;
} }
