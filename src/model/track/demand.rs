//! Who wants what of a track.

use std::collections::BTreeMap;

use super::super::route::{Horizon, Route};
use super::super::wakers::{Wakers, Woken};
use crate::census::census;
use crate::subscription::Subscription;

/// What all consumers of a track want together.
#[derive(Default)]
pub(super) struct Demand {
    /// What each wants; `None` if it only asks what the track is.
    wants: BTreeMap<u64, Option<Subscription>>,
    /// Which routes it may not come by, for those who are peers.
    horizons: BTreeMap<u64, Horizon>,
    last: u64,
    all: Option<Subscription>,
    changes: Changes,
    /// Producers who wait for a change.
    pub(super) suppliers: Wakers,
}

/// How often it changed what all want, and whether anybody is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) want: u64,
    pub(super) interest: u64,
}

impl Demand {
    /// Whether anybody wants it or asks about it.
    pub(super) fn is_asked(&self) -> bool {
        !self.wants.is_empty()
    }

    /// What those who read it want; `None` if nobody does.
    pub(super) fn all(&self) -> Option<&Subscription> {
        self.all.as_ref()
    }

    pub(super) fn changes(&self) -> Changes {
        self.changes
    }

    pub(super) fn add(&mut self, want: Option<Subscription>, edge: u64, woken: &mut Woken) -> u64 {
        self.last += 1;
        self.set(self.last, want, edge, woken);
        self.last
    }

    /// `edge` is one past the highest group that there ever was.
    pub(super) fn set(
        &mut self,
        key: u64,
        want: Option<Subscription>,
        edge: u64,
        woken: &mut Woken,
    ) {
        let was_asked = self.is_asked();
        self.wants.insert(key, want);
        self.update(was_asked, edge, woken);
    }

    pub(super) fn remove(&mut self, key: u64, edge: u64, woken: &mut Woken) {
        let was_asked = self.is_asked();
        self.wants.remove(&key);
        self.update(was_asked, edge, woken);
        self.horizons.remove(&key);
        self.look_again(woken);
    }

    /// A peer wants it, and may only be given what comes by a route within its horizon.
    pub(super) fn limit(&mut self, key: u64, horizon: Horizon, woken: &mut Woken) {
        self.horizons.insert(key, horizon);
        self.look_again(woken);
    }

    /// What a peer who wants it is limited to.
    pub(super) fn horizon(&self, key: u64) -> Option<&Horizon> {
        self.horizons.get(&key)
    }

    /// A source may be of use to nobody now, although what all want is the same.
    fn look_again(&mut self, woken: &mut Woken) {
        if !self.horizons.is_empty() {
            self.changes.interest += 1;
            self.suppliers.take(woken);
        }
    }

    /// Whether all may be given what comes by this route.
    pub(super) fn suits_all(&self, route: &Route) -> bool {
        self.horizons.values().all(|horizon| horizon.shows(route))
    }

    /// Whether anybody may.
    pub(super) fn suits_some(&self, route: &Route) -> bool {
        let horizons = &self.horizons;
        self.wants.keys().any(|key| horizons.get(key).is_none_or(|horizon| horizon.shows(route)))
    }

    fn update(&mut self, was_asked: bool, edge: u64, woken: &mut Woken) {
        let all = self.wants.values().flatten().cloned().reduce(|a, b| Subscription {
            priority: a.priority.max(b.priority),
            ordered: a.ordered && b.ordered,
            max_age: a.max_age.max(b.max_age),
            start: match (a.start, b.start) {
                (Some(a), Some(b)) => Some(a.min(b)),
                // The other one wants the latest, which is later unless nobody has got so far.
                (a, b) => a.or(b).filter(|start| *start <= edge.saturating_sub(1)),
            },
            end: a.end.zip(b.end).map(|(a, b)| a.max(b)),
        });
        let (other_want, other_interest) = (all != self.all, self.is_asked() != was_asked);
        self.all = all;
        self.changes.want += u64::from(other_want);
        self.changes.interest += u64::from(other_want || other_interest);
        if other_want || other_interest {
            self.suppliers.take(woken);
        }
    }
}

census! { Demand { counts: wants, horizons, suppliers; plain: last, all, changes; } }
