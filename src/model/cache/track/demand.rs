//! The combined subscription of the readers of a track.
//!
//! No operation visits all readers. A change adds or removes one value in each of a few ordered
//! multisets, and the combined subscription consists of their ends.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::census::census;
#[cfg(test)]
use crate::model::base::count_step;
use crate::model::base::{DeferredWakes, Horizon, Route, SessionId, Wakers};
use crate::{Hop, Subscription};

/// The wishes of all readers of a track together. A reader keeps what it wants itself, and names it when
/// it leaves.
#[derive(Default)]
pub(crate) struct Demand {
    /// How many readers there are, including those that only query the properties.
    readers: usize,
    wants: CombinedWants,
    horizons: HorizonCounts,
    combined: Option<Subscription>,
    new_group: Option<RequestedGroup>,
    changes: DemandVersion,
    /// Producers that wait for a change.
    pub(crate) producer_waiters: Wakers,
}

/// A subscription without its request for a new group, which takes effect once. There may be thousands of readers, so each
/// keeps no more.
#[derive(Clone)]
pub(crate) struct LastingWant {
    pub(crate) priority: u8,
    pub(crate) ordered: bool,
    pub(crate) max_age: Duration,
    pub(crate) start: Option<u64>,
    pub(crate) end: Option<u64>,
}

impl From<Subscription> for LastingWant {
    fn from(want: Subscription) -> Self {
        let Subscription { priority, ordered, max_age, start, end, new_group: _ } = want;
        Self { priority, ordered, max_age, start, end }
    }
}

impl From<LastingWant> for Subscription {
    fn from(want: LastingWant) -> Self {
        let LastingWant { priority, ordered, max_age, start, end } = want;
        Self { priority, ordered, max_age, start, end, new_group: None }
    }
}

/// One reader of a track.
#[derive(Clone, Copy)]
pub(crate) struct DemandReader<'a> {
    /// `None` if it only queries the properties of the track.
    pub(crate) want: Option<&'a LastingWant>,
    /// Limits the routes by which a peer may be given the track.
    pub(crate) horizon: Option<Horizon>,
}

/// The new group that readers asked for.
struct RequestedGroup {
    sequence: u64,
    /// One past the highest sequence at that time. The request is over when the track has a higher one.
    next_sequence: u64,
}

/// Counts the changes of the combined subscription, and of whether there are readers, and the requests for a new group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DemandVersion {
    pub(crate) want: u64,
    pub(crate) interest: u64,
    pub(crate) new_group: u64,
}

impl Demand {
    /// Whether there are readers, including those that only query the properties.
    pub(crate) fn has_readers(&self) -> bool {
        self.readers > 0
    }

    /// The wishes of the subscribed readers together; `None` if there is none.
    pub(crate) fn combined(&self) -> Option<&Subscription> {
        self.combined.as_ref()
    }

    pub(crate) fn changes(&self) -> DemandVersion {
        self.changes
    }

    /// Adds the reader `added`, and removes the reader `removed`, which was added before; both if a
    /// reader wants something else. `next_sequence` is one past the highest sequence that the track
    /// ever had.
    pub(crate) fn change(
        &mut self,
        removed: Option<DemandReader<'_>>,
        added: Option<DemandReader<'_>>,
        next_sequence: u64,
        wakes: &mut DeferredWakes,
    ) {
        #[cfg(test)]
        count_step();
        let was_asked = self.has_readers();
        for (reader, is_added) in [(added, true), (removed, false)] {
            let Some(DemandReader { want, horizon }) = reader else { continue };
            self.readers = if is_added { self.readers + 1 } else { self.readers - 1 };
            self.wants.count(want, is_added);
            self.horizons.count(horizon, is_added);
        }
        let combined = self.wants.combined(next_sequence);
        let (other_want, other_interest) =
            (combined != self.combined, self.has_readers() != was_asked);
        self.combined = combined;
        if self.combined.is_none() {
            self.new_group = None;
        }
        self.changes.want += u64::from(other_want);
        if other_want || other_interest {
            self.notify_producers(wakes);
        }
    }

    /// A reader asks for the group `sequence` or a later one; 0 stands for any new one. One request is open at a time:
    /// another one replaces it if it asks for more (moq-transport-22, 9.20.19).
    pub(crate) fn request_group(
        &mut self,
        sequence: u64,
        next_sequence: u64,
        wakes: &mut DeferredWakes,
    ) {
        let exists = (1..next_sequence).contains(&sequence);
        let sequence = sequence.max(next_sequence);
        if exists || self.requested_group(next_sequence).is_some_and(|open| open >= sequence) {
            return;
        }
        self.new_group = Some(RequestedGroup { sequence, next_sequence });
        self.changes.new_group += 1;
        self.producer_waiters.take(wakes);
    }

    /// The new group that readers wait for.
    pub(crate) fn requested_group(&self, next_sequence: u64) -> Option<u64> {
        let requested = self.new_group.as_ref();
        requested.filter(|it| it.next_sequence == next_sequence).map(|it| it.sequence)
    }

    /// No new group will be begun on request.
    pub(crate) fn refuse_group(&mut self) {
        self.new_group = None;
    }

    /// Whether all readers may be given what comes by this route.
    pub(crate) fn allows_all(&self, route: &Route) -> bool {
        self.horizons.shown(route) == self.horizons.len
    }

    /// Whether any reader may be given what comes by this route.
    pub(crate) fn allows_any(&self, route: &Route) -> bool {
        self.readers > self.horizons.len || self.horizons.shown(route) > 0
    }

    /// Wakes the producers even if the combined subscription did not change.
    pub(crate) fn notify_producers(&mut self, wakes: &mut DeferredWakes) {
        self.changes.interest += 1;
        self.producer_waiters.take(wakes);
    }
}

/// Counts how often each value occurs.
struct Multiset<T>(BTreeMap<T, usize>);

impl<T> Default for Multiset<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Multiset<T> {
    fn count(&mut self, value: T, is_added: bool) {
        #[cfg(test)]
        count_step();
        if is_added {
            *self.0.entry(value).or_default() += 1;
        } else if let Some(times) = self.0.get_mut(&value) {
            *times -= 1;
            if *times == 0 {
                self.0.remove(&value);
            }
        }
    }

    fn times(&self, value: &T) -> usize {
        #[cfg(test)]
        count_step();
        self.0.get(value).copied().unwrap_or(0)
    }

    fn least(&self) -> Option<&T> {
        self.0.first_key_value().map(|(value, _)| value)
    }

    fn greatest(&self) -> Option<&T> {
        self.0.last_key_value().map(|(value, _)| value)
    }
}

/// The fields of all subscriptions.
#[derive(Default)]
struct CombinedWants {
    len: usize,
    priority: Multiset<u8>,
    ordered: usize,
    max_age: Multiset<Duration>,
    start: Multiset<u64>,
    /// How many begin at the latest group.
    latest: usize,
    end: Multiset<u64>,
    /// How many have no end.
    endless: usize,
}

impl CombinedWants {
    fn count(&mut self, want: Option<&LastingWant>, is_added: bool) {
        let Some(want) = want else { return };
        let add = |number: &mut usize, counts: bool| match (counts, is_added) {
            (true, true) => *number += 1,
            (true, false) => *number -= 1,
            (false, _) => {}
        };
        add(&mut self.len, true);
        add(&mut self.ordered, want.ordered);
        add(&mut self.latest, want.start.is_none());
        add(&mut self.endless, want.end.is_none());
        self.priority.count(want.priority, is_added);
        self.max_age.count(want.max_age, is_added);
        want.start.inspect(|start| self.start.count(*start, is_added));
        want.end.inspect(|end| self.end.count(*end, is_added));
    }

    /// The highest priority, the greatest age, the widest bounds.
    fn combined(&self, next_sequence: u64) -> Option<Subscription> {
        // A subscription from the latest group on begins after `start`, unless no group has got
        // that far.
        let passed = |start: &u64| self.latest == 0 || *start <= next_sequence.saturating_sub(1);
        Some(Subscription {
            priority: *self.priority.greatest()?,
            ordered: self.ordered == self.len,
            max_age: *self.max_age.greatest()?,
            start: self.start.least().copied().filter(passed),
            end: self.end.greatest().copied().filter(|_| self.endless == 0),
            new_group: None,
        })
    }
}

/// The horizons of all peers that read a track, counted such that those that hide a route are found
/// by what they hide.
#[derive(Default)]
struct HorizonCounts {
    len: usize,
    /// By whether they understand routes that lead to no broadcast.
    kinds: [PeerCounts; 2],
}

#[derive(Default)]
struct PeerCounts {
    len: usize,
    by_hop: Multiset<Hop>,
    by_session: BTreeMap<SessionId, Multiset<Hop>>,
}

impl HorizonCounts {
    fn count(&mut self, horizon: Option<Horizon>, is_added: bool) {
        let Some(horizon) = horizon else { return };
        let kind = &mut self.kinds[usize::from(horizon.on_demand)];
        for len in [&mut self.len, &mut kind.len] {
            *len = if is_added { *len + 1 } else { *len - 1 };
        }
        kind.by_hop.count(horizon.exclude, is_added);
        let Some(session) = horizon.session else { return };
        let hops = kind.by_session.entry(session).or_default();
        hops.count(horizon.exclude, is_added);
        if hops.0.is_empty() {
            kind.by_session.remove(&session);
        }
    }

    /// How many of them allow the route.
    fn shown(&self, route: &Route) -> usize {
        let understand = |on_demand| Horizon { on_demand, ..Horizon::default() }.understands(route);
        let kinds = [false, true].into_iter().zip(&self.kinds);
        kinds.filter(|(kind, _)| understand(*kind)).map(|(_, peers)| peers.shown(route)).sum()
    }
}

impl PeerCounts {
    fn shown(&self, route: &Route) -> usize {
        let hops = route.hops.as_slice();
        let first = hops.iter().enumerate().filter(|(at, hop)| !hops[..*at].contains(hop));
        let known = first.map(|(_, hop)| hop).filter(|hop| hop.is_known());
        let through: usize = known.map(|hop| self.by_hop.times(hop)).sum();
        // The readers of the session that announced the route. A session has one hop, or a few that
        // it named one after the other.
        let own = route.session.and_then(|session| self.by_session.get(&session));
        let others = own.into_iter().flat_map(|hops| &hops.0);
        #[cfg(test)]
        let others = others.inspect(|_| count_step());
        let others = others.filter(|(hop, _)| !route.hops.contains(**hop));
        self.len - through - others.map(|(_, times)| times).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::base::Reach;

    /// The same rules as a fold over all readers.
    fn fold(wants: &[Option<LastingWant>], next_sequence: u64) -> Option<Subscription> {
        let wants = || wants.iter().flatten();
        let all_start = wants().all(|want| want.start.is_some());
        let passed = |start: &u64| all_start || *start < next_sequence.max(1);
        Some(Subscription {
            priority: wants().map(|want| want.priority).max()?,
            ordered: wants().all(|want| want.ordered),
            max_age: wants().map(|want| want.max_age).max()?,
            start: wants().filter_map(|want| want.start).min().filter(passed),
            end: wants()
                .map(|want| want.end.unwrap_or(u64::MAX))
                .max()
                .filter(|end| *end < u64::MAX),
            new_group: None,
        })
    }

    fn random(seed: &mut u64, below: u64) -> u64 {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    }

    #[test]
    fn the_counts_agree_with_a_fold_over_all_readers() {
        let (mut seed, mut demand) = (1, Demand::default());
        let mut readers: Vec<(Option<LastingWant>, Option<Horizon>)> = Vec::new();
        fn reader(of: &(Option<LastingWant>, Option<Horizon>)) -> Option<DemandReader<'_>> {
            Some(DemandReader { want: of.0.as_ref(), horizon: of.1 })
        }
        for _ in 0..3_000 {
            let seed = &mut seed;
            let mut maybe = |below| random(seed, 2).checked_sub(1).map(|_| random(seed, below));
            let (start, end) = (maybe(9), maybe(9));
            let horizon = maybe(2).map(|on_demand| Horizon {
                exclude: Hop::new(random(seed, 4)),
                session: random(seed, 4).checked_sub(1).map(SessionId),
                on_demand: on_demand == 1,
            });
            let want = LastingWant {
                priority: random(seed, 3) as u8,
                ordered: random(seed, 4) > 0,
                max_age: Duration::from_secs(random(seed, 3)),
                start,
                end,
            };
            let next_sequence = random(seed, 9);
            let wakes = &mut DeferredWakes::default();
            let at = random(seed, readers.len().max(1) as u64) as usize;
            match random(seed, 5) {
                0 | 1 if readers.len() < 8 => {
                    let added = (Some(want).filter(|_| random(seed, 4) > 0), horizon);
                    demand.change(None, reader(&added), next_sequence, wakes);
                    readers.push(added);
                }
                2 if at < readers.len() => {
                    let added = (Some(want), readers[at].1);
                    demand.change(reader(&readers[at]), reader(&added), next_sequence, wakes);
                    readers[at] = added;
                }
                3 if at < readers.len() => {
                    let removed = readers.swap_remove(at);
                    demand.change(reader(&removed), None, next_sequence, wakes);
                }
                _ => continue,
            }
            let wants: Vec<_> = readers.iter().map(|(want, _)| want.clone()).collect();
            assert_eq!(demand.combined(), fold(&wants, next_sequence).as_ref());
            let route = Route {
                hops: (0..random(seed, 4)).map(|_| Hop::new(random(seed, 4))).collect(),
                session: random(seed, 4).checked_sub(1).map(SessionId),
                reach: if random(seed, 3) == 0 { Reach::OnDemand } else { Reach::Exact },
                ..Route::default()
            };
            let shows = |horizon: &Option<Horizon>| horizon.is_none_or(|it| it.shows(&route));
            assert_eq!(demand.allows_all(&route), readers.iter().all(|(_, it)| shows(it)));
            assert_eq!(demand.allows_any(&route), readers.iter().any(|(_, it)| shows(it)));
        }
    }
}

census! { Demand {
    counts: readers, producer_waiters;
    within: wants, horizons;
    plain: combined, new_group, changes;
} }

census! { CombinedWants {
    counts: len, priority, ordered, max_age, start, latest, end, endless;
} }

census! { HorizonCounts { counts: len; within: kinds; } }

census! { PeerCounts { counts: len, by_hop, by_session; } }

#[cfg(any(test, feature = "sim"))]
impl<T> crate::census::Entries for Multiset<T> {
    fn entries(&self) -> usize {
        self.0.len()
    }
}
