//! The groups that a track keeps, in both orders, and which of them it gives up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::budget::Account;
use super::group::Kept;
use crate::error::Error;
use crate::time::{Instant, Timescale, Timestamp};

/// Groups that are given up, to be evicted after the unlock, and why.
pub(super) type Dead = SmallVec<[(Arc<Kept>, Error); 2]>;

/// How long groups are kept.
pub(super) struct Rules {
    pub(super) max_age: Duration,
    pub(super) timescale: Timescale,
    /// Whether the newest group stays whatever its age.
    pub(super) is_live: bool,
}

#[derive(Debug, Default)]
pub(super) struct Shelf {
    by_sequence: VecDeque<Arc<Kept>>,
    by_arrival: VecDeque<Arc<Kept>>,
    arrivals: u64,
    /// One past the highest sequence that ever was.
    edge: u64,
    /// Groups below it were given up.
    floor: u64,
}

impl Shelf {
    /// One past the highest sequence that ever was.
    pub(super) fn edge(&self) -> u64 {
        self.edge
    }

    /// Groups below it were given up; they don't come back.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn by_sequence(&self) -> &VecDeque<Arc<Kept>> {
        &self.by_sequence
    }

    /// The number that the next group gets in order of arrival.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// The group with the highest sequence.
    pub(super) fn latest(&self) -> Option<&Arc<Kept>> {
        self.by_sequence.back()
    }

    pub(super) fn find(&self, sequence: u64) -> Option<&Arc<Kept>> {
        let group = self.by_sequence.get(self.position(sequence))?;
        (group.sequence() == sequence).then_some(group)
    }

    /// Where the first group at or behind `sequence` is.
    pub(super) fn position(&self, sequence: u64) -> usize {
        match self.latest() {
            Some(latest) if latest.sequence() < sequence => self.by_sequence.len(),
            _ => self.by_sequence.partition_point(|group| group.sequence() < sequence),
        }
    }

    /// Groups in the order in which they came, from the `arrival`-th on.
    pub(super) fn arrived(&self, arrival: u64) -> impl Iterator<Item = &Arc<Kept>> {
        let at = match self.by_arrival.back() {
            Some(last) if last.arrival() < arrival => self.by_arrival.len(),
            _ => self.by_arrival.partition_point(|group| group.arrival() < arrival),
        };
        self.by_arrival.range(at..)
    }

    /// Adds a group that is not there yet, made by `make` from its number in order of arrival.
    pub(super) fn insert(
        &mut self,
        sequence: u64,
        make: impl FnOnce(u64) -> Arc<Kept>,
    ) -> &Arc<Kept> {
        let group = make(self.arrivals);
        self.arrivals += 1;
        self.edge = self.edge.max(sequence + 1);
        self.by_arrival.push_back(group.clone());
        let at = self.position(sequence);
        self.by_sequence.insert(at, group);
        &self.by_sequence[at]
    }

    fn remove(&mut self, at: usize) -> Option<Arc<Kept>> {
        let group = self.by_sequence.remove(at)?;
        self.floor = self.floor.max(group.sequence() + 1);
        if let Ok(at) = self.by_arrival.binary_search_by_key(&group.arrival(), |g| g.arrival()) {
            self.by_arrival.remove(at);
        }
        Some(group)
    }

    /// Whether the group at `at` is older in media time than `max_age`: it ended when the next one
    /// began.
    pub(super) fn is_old(&self, at: usize, max_age: Duration, timescale: Timescale) -> bool {
        let (Some(newest), Some(end)) = (self.newest(), self.end_of(at)) else { return false };
        let age = timescale.to_micros(newest.units().saturating_sub(end.units()));
        Duration::from_micros(age) >= max_age
    }

    /// The newest timestamp of the latest group that has one.
    fn newest(&self) -> Option<Timestamp> {
        self.by_sequence.iter().rev().find_map(|group| group.newest())
    }

    /// The first timestamp behind the group at `at`.
    fn end_of(&self, at: usize) -> Option<Timestamp> {
        self.by_sequence.iter().skip(at + 1).find_map(|group| group.first())
    }

    /// Takes out what is too old, oldest first, and then the oldest until the rest fits the limits;
    /// groups that an application reads only if nothing else is left. When the next one gets too old
    /// by the clock is the answer.
    pub(super) fn sweep(
        &mut self,
        rules: &Rules,
        account: &Account,
        dead: &mut Dead,
    ) -> Option<Instant> {
        let kept = usize::from(rules.is_live);
        let now = account.cache().now();
        let mut at = 0;
        let mut next = None;
        while at + kept < self.by_sequence.len() {
            let group = &self.by_sequence[at];
            let deadline = group.written() + rules.max_age;
            if deadline > now && !self.is_old(at, rules.max_age, rules.timescale) {
                next =
                    Some(deadline).filter(|deadline| *deadline != Instant::from_micros(u64::MAX));
                break;
            }
            if group.outlives_its_time() {
                at += 1;
            } else {
                dead.extend(self.remove(at).map(|group| (group, Error::Old)));
            }
        }
        let max_age = u64::try_from(rules.max_age.as_micros()).unwrap_or(u64::MAX);
        let due = self.end_of(at).filter(|_| next.is_some()).map(|end| {
            Timestamp::new(end.units().saturating_add(rules.timescale.of_micros(max_age)))
        });
        account.set_media_due(due);

        let mut freed = dead.iter().map(|(group, _)| group.used()).sum();
        while self.by_sequence.len() > kept && self.is_past(account, kept, freed) {
            let candidates = self.by_sequence.iter().take(self.by_sequence.len() - kept);
            let at = candidates.clone().position(|group| !group.is_pinned()).unwrap_or(0);
            let Some(group) = self.remove(at) else { break };
            freed += group.used();
            dead.push((group, Error::Evicted));
        }
        next
    }

    /// Whether a limit is still passed once `freed` bytes are gone.
    fn is_past(&self, account: &Account, kept: usize, freed: u64) -> bool {
        let limits = account.limits();
        let (track, cache) = (account.used(), account.cache().used());
        let newest = || match kept {
            0 => 0,
            _ => self.latest().map_or(0, |group| group.used()),
        };
        self.by_sequence.len() > limits.track_groups
            || cache.saturating_sub(freed) > limits.cache_bytes
            || track.saturating_sub(freed) > limits.track_bytes
                && track.saturating_sub(freed).saturating_sub(newest()) > limits.track_bytes
    }
}
