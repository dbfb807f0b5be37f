//! Routes: the ways to one broadcast, and which of them is the best.

use std::time::Duration;

use crate::{Cost, Hop, Hops};

/// How long peers are not told of a route that is no better than the one they know: what lost its way
/// may lose the next one too, or find the old one again.
pub(crate) const HOLD_TIME: Duration = Duration::from_millis(300);

/// How long peers are not told of a route through somebody who said that it has none. By then whoever
/// told of it has said so too, or did not hear of it because it is wrong.
pub(crate) const SUSPECT_TIME: Duration = Duration::from_secs(2);

/// Names one session among all of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// How the content of a broadcast comes here. The default is a broadcast of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Who it came through, the nearest last.
    pub(crate) hops: Hops,
    /// What it costs, the last link included.
    pub(crate) cost: Cost,
    /// The session that announced it, if it came from a peer.
    pub(crate) session: Option<SessionId>,
    /// Whether the peer dialed that session, as a publisher does that was started again.
    pub(crate) accepted: bool,
    pub(crate) reach: Reach,
}

/// What a route leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The broadcast at its path.
    #[default]
    Exact,
    /// That, and whatever is asked for below.
    Prefix,
    /// Nothing but what is asked for, there and below.
    OnDemand,
}

/// What is known of where a route leads. Better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RouteClass {
    /// To a broadcast of this process, which lives.
    Local,
    /// Through peers that all say who they are, so that it does not lead back here.
    Known,
    /// To a peer that does not say who it is, and not further, as far as is known.
    Near,
    /// Through somebody who does not say who it is: it may be anything that is known here, on its way around.
    Far,
    /// Through a session that is about to end.
    Drained,
}

impl RouteClass {
    /// Whether a newer broadcast is better than an older one of the same standing, whatever the routes cost.
    pub(crate) fn counts_age(self) -> bool {
        matches!(self, Self::Known | Self::Near)
    }
}

/// Smaller is better.
pub(crate) type Rank = (bool, Cost, bool, usize, bool);

impl Route {
    /// Smaller is better: identified before anonymous, lower cost, local first, fewer hops. Between
    /// equals the newest is best, which only the table knows.
    pub(crate) fn rank(&self) -> Rank {
        let is_empty = self.reach == Reach::OnDemand;
        (self.is_anonymous(), self.cost, self.session.is_some(), self.hops.len(), is_empty)
    }

    /// What goes before the rank where routes lead to several broadcasts.
    pub(crate) fn status(&self) -> RouteClass {
        if self.session.is_none() {
            RouteClass::Local
        } else if self.cost == Cost::DRAINED {
            RouteClass::Drained
        } else if !self.is_anonymous() {
            RouteClass::Known
        } else if self.hops.len() <= 1 {
            RouteClass::Near
        } else {
            RouteClass::Far
        }
    }

    /// Whether the peer that announced it is its publisher, as far as the route tells.
    pub(crate) fn is_direct(&self) -> bool {
        self.session.is_some() && self.hops.len() == 1
    }

    /// Whether `other` brings what this brings, if the peer that had this has `other` now and did not say
    /// that anything ended: only the price changed, or both are known to come from the same.
    pub(crate) fn continues(&self, other: &Self) -> bool {
        self.hops == other.hops || self.content().is_some() && self.content() == other.content()
    }

    /// Whether this may be what `gone` brought, on its way around: it says nothing that excludes it, and
    /// came further.
    pub(crate) fn may_echo(&self, gone: &Self) -> bool {
        let is_further = self.hops.len() > gone.hops.len();
        self.is_anonymous() && (is_further || !gone.is_anonymous())
    }

    /// What tells that two routes bring the same: where both come from, if everybody on the way says who
    /// it is.
    pub(crate) fn content(&self) -> Option<Hop> {
        self.hops.as_slice().first().copied().filter(|_| !self.is_anonymous())
    }

    /// Whether somebody on the way did not say who it is, so that a loop can't be excluded.
    pub(crate) fn is_anonymous(&self) -> bool {
        let silent_peer = self.session.is_some() && self.hops.is_empty();
        silent_peer || self.hops.as_slice().iter().any(|hop| !hop.is_known())
    }
}

/// Which routes a reader may be given (split horizon): none that leads back through `exclude`, none
/// that `session` announced itself. The default is all that lead to a broadcast.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Horizon {
    pub(crate) exclude: Hop,
    pub(crate) session: Option<SessionId>,
    /// Whether it knows that a route may lead to what is below its path and to nothing at it.
    pub(crate) on_demand: bool,
}

impl Horizon {
    pub(crate) fn shows(&self, route: &Route) -> bool {
        #[cfg(test)]
        super::steps::count_step();
        let own = self.session.is_some() && self.session == route.session;
        self.understands(route) && !own && !route.hops.contains(self.exclude)
    }

    pub(crate) fn understands(&self, route: &Route) -> bool {
        self.on_demand || route.reach != Reach::OnDemand
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hops: &[u64], cost: u64, session: Option<u64>) -> Route {
        Route {
            hops: hops.iter().copied().map(Hop::new).collect(),
            cost: Cost { warm: cost, cold: cost },
            session: session.map(SessionId),
            ..Route::default()
        }
    }

    #[test]
    fn rank_follows_the_rules_in_order() {
        let best_first = [
            route(&[], 0, None),
            route(&[7], 0, Some(1)),
            route(&[7, 8], 0, Some(1)),
            route(&[], 1, None),
            route(&[7], 1, Some(1)),
            Route { cost: Cost { warm: 1, cold: 9 }, ..route(&[7], 0, Some(1)) },
            route(&[], 0, Some(1)),
            route(&[0], 0, Some(1)),
            route(&[7, 0], 0, Some(1)),
            route(&[7, 0], 1, Some(1)),
        ];
        for pair in best_first.windows(2) {
            assert!(pair[0].rank() < pair[1].rank(), "{:?} before {:?}", pair[0], pair[1]);
        }
    }

    #[test]
    fn horizon_hides_own_routes_and_the_excluded_hop() {
        let session = Some(SessionId(1));
        let horizon = Horizon { exclude: Hop::new(8), session, on_demand: false };
        assert!(horizon.shows(&route(&[], 0, None)));
        assert!(horizon.shows(&route(&[7], 0, Some(2))));
        assert!(!horizon.shows(&route(&[7], 0, Some(1))));
        assert!(!horizon.shows(&route(&[8, 7], 0, Some(2))));
        assert!(Horizon::default().shows(&route(&[0], 0, Some(1))), "unknown excludes nothing");
        let empty = Route { reach: Reach::OnDemand, ..route(&[], 0, None) };
        assert!(!horizon.shows(&empty), "there is no broadcast at its path");
        assert!(Horizon { on_demand: true, ..horizon }.shows(&empty));
    }
}
