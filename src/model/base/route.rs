//! Routes to a broadcast, and how they are ranked.

use std::time::Duration;

use crate::{Cost, Hop, Hops};

/// How long a route that is no better than the known one is withheld from peers. A route that
/// replaces a lost one may be lost soon itself, or the lost one may come back.
pub(crate) const HOLD_TIME: Duration = Duration::from_millis(300);

/// How long peers are not told of a route through a hop that withdrew the broadcast. By then the
/// neighbors that announced such a route have withdrawn it as well, or the withdrawal did not
/// concern them.
pub(crate) const SUSPECT_TIME: Duration = Duration::from_secs(2);

/// Identifies a session within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// How the content of a broadcast reaches this process. The default is a broadcast of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// The hops that it came through, the nearest last.
    pub(crate) hops: Hops,
    /// The cost, including that of the last link.
    pub(crate) cost: Cost,
    /// The session that announced it; `None` for a broadcast of this process.
    pub(crate) session: Option<SessionId>,
    /// Whether the peer dialed that session. A publisher that was restarted dials again.
    pub(crate) accepted: bool,
    pub(crate) reach: Reach,
}

/// The destination of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The broadcast at its path.
    #[default]
    Exact,
    /// The broadcast at its path, and broadcasts below it on request.
    Prefix,
    /// Only broadcasts on request, at its path and below.
    OnDemand,
}

/// The knowledge of a route's destination. Better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RouteClass {
    /// A live broadcast of this process.
    Local,
    /// Reached through peers that all identify themselves, so the route does not lead back here.
    Known,
    /// Announced by a peer that does not identify itself and that is the only hop, as far as is
    /// known.
    Near,
    /// Came through several hops, one of which does not identify itself. It may be any known
    /// broadcast that went around a loop.
    Far,
    /// Comes through a session that is about to end.
    Drained,
}

impl RouteClass {
    /// Whether a newer broadcast is better than an older one of the same class, whatever the routes
    /// cost.
    pub(crate) fn counts_age(self) -> bool {
        matches!(self, Self::Known | Self::Near)
    }
}

/// Smaller is better.
pub(crate) type Rank = (bool, Cost, bool, usize, bool);

impl Route {
    /// Smaller is better: identified before anonymous, lower cost, local first, fewer hops. Among
    /// equals the newest is best, which only the routing table knows.
    pub(crate) fn rank(&self) -> Rank {
        let is_empty = self.reach == Reach::OnDemand;
        (self.is_anonymous(), self.cost, self.session.is_some(), self.hops.len(), is_empty)
    }

    /// The class, which is compared before the rank if the routes lead to different broadcasts.
    pub(crate) fn class(&self) -> RouteClass {
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

    /// Whether `other` leads to the same content, given that a peer replaced this route by `other`
    /// without ending the broadcast. It does if only the cost changed, or if both are known to have
    /// the same first hop.
    pub(crate) fn continues(&self, other: &Self) -> bool {
        self.hops == other.hops || self.content().is_some() && self.content() == other.content()
    }

    /// Whether this route may be an echo of `gone`: nothing in it excludes that, and it came
    /// through more hops.
    pub(crate) fn may_echo(&self, gone: &Self) -> bool {
        let is_further = self.hops.len() > gone.hops.len();
        self.is_anonymous() && (is_further || !gone.is_anonymous())
    }

    /// Identifies the content: routes with the same first hop lead to the same content if all hops
    /// identify themselves.
    pub(crate) fn content(&self) -> Option<Hop> {
        self.hops.as_slice().first().copied().filter(|_| !self.is_anonymous())
    }

    /// Whether a hop did not identify itself, so that a loop can't be excluded.
    pub(crate) fn is_anonymous(&self) -> bool {
        let silent_peer = self.session.is_some() && self.hops.is_empty();
        silent_peer || self.hops.as_slice().iter().any(|hop| !hop.is_known())
    }
}

/// Which routes a reader may be given (split horizon): none that passes through `exclude`, and none
/// that `session` announced itself. The default allows all routes that lead to a broadcast.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Horizon {
    pub(crate) exclude: Hop,
    pub(crate) session: Option<SessionId>,
    /// Whether the reader understands routes that lead to broadcasts below their path and to none
    /// at it.
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
