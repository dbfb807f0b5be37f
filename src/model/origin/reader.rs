//! What a peer is told of the broadcasts of an origin.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};
use std::vec;

use super::super::broadcast::BroadcastConsumer;
use super::super::table::{Change, Reader, Table};
use super::super::wakers::{WaitSlot, lock};
use super::{Shared, State};
use crate::census::census;
use crate::machine::Announcement;
use crate::{Instant, Path};

/// What one ANNOUNCE request of a peer is answered with.
pub(crate) struct AnnounceReader {
    shared: Arc<Shared>,
    reader: Reader,
    hidden: bool,
    slot: WaitSlot,
    /// What there was when the reader was made.
    initial: vec::IntoIter<Announcement>,
    active: u64,
}

impl AnnounceReader {
    pub(super) fn new(shared: Arc<Shared>, mut reader: Reader, hidden: bool) -> Self {
        let (mut initial, now) = (Vec::new(), shared.cache.now());
        let mut state = lock(&shared.state);
        while let Some((suffix, change)) = next_shown(&mut reader, &mut state.table, hidden, now) {
            initial.push(announcement(suffix, change));
        }
        drop(state);
        let active = initial.len() as u64;
        let (slot, initial) = (WaitSlot::default(), initial.into_iter());
        Self { shared, reader, hidden, slot, initial, active }
    }

    /// How many broadcasts there were when the reader was made.
    pub(crate) fn active(&self) -> u64 {
        self.active
    }

    /// First exactly as many active ones as [`active`](Self::active) says, even if they went
    /// meanwhile; then what changed, coalesced. Active for one that is active: its hops or cost
    /// changed.
    pub(crate) fn poll_next(&mut self, waker: Option<&Waker>) -> Poll<Announcement> {
        if let Some(announcement) = self.initial.next() {
            return Poll::Ready(announcement);
        }
        let Self { shared, reader, hidden, slot, .. } = self;
        let now = shared.cache.now();
        let next = |state: &mut State| next_shown(reader, &mut state.table, *hidden, now);
        let (suffix, change) = ready!(shared.wait(slot, waker, next));
        Poll::Ready(announcement(suffix, change))
    }

    /// When to ask again, although nobody wakes: a change is held until then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.reader.deadline()
    }
}

/// The next change that is not hidden, or is wanted all the same.
fn next_shown<B: Clone>(
    reader: &mut Reader,
    table: &mut Table<B>,
    hidden: bool,
    now: Instant,
) -> Option<(Path, Change<B>)> {
    let is_shown = |path: &Path| hidden || !path.segments().any(|it| it.starts_with('.'));
    loop {
        let next = reader.next(table, now)?;
        if is_shown(&next.0) {
            return Some(next);
        }
    }
}

impl fmt::Debug for AnnounceReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnounceReader").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Drop for AnnounceReader {
    fn drop(&mut self) {
        self.shared.forget(&mut self.reader, &mut self.slot);
    }
}

fn announcement(suffix: Path, change: Change<BroadcastConsumer>) -> Announcement {
    match change {
        Change::Announced(way) | Change::Rerouted(way) => {
            Announcement::Active { suffix, hops: way.route.hops, cost: way.route.cost }
        }
        Change::Gone => Announcement::Ended { suffix },
    }
}

census! { AnnounceReader { counts: initial; within: reader; plain: shared, hidden, slot, active; } }

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::broadcast::Supplier;
    use super::super::super::route::{HOLD_TIME, Horizon, Reach, Route, SessionId};
    use super::super::{Found, Origin, OriginConsumer, OriginProducer};
    use super::*;
    use crate::hop::Cost;
    use crate::{Error, Hop};

    const HERE: Hop = Hop::new(1);
    const ME: SessionId = SessionId(100);

    fn origin() -> OriginProducer {
        Origin::new(HERE).produce()
    }

    fn through(hops: &[u64], cost: u64, session: u64) -> Route {
        Route {
            hops: hops.iter().copied().map(Hop::new).collect(),
            cost: Cost { warm: cost, cold: cost },
            session: Some(SessionId(session)),
            reach: Reach::Exact,
        }
    }

    fn within(exclude: u64) -> Horizon {
        Horizon { exclude: Hop::new(exclude), session: Some(ME), on_demand: false }
    }

    fn route(
        consumer: &OriginConsumer,
        path: &Path,
        horizon: Horizon,
    ) -> Option<BroadcastConsumer> {
        match consumer.route(path, horizon) {
            Ok(Found::Here(broadcast)) => Some(broadcast),
            _ => None,
        }
    }

    fn behind(session: u64) -> Horizon {
        Horizon { session: Some(SessionId(session)), ..Horizon::default() }
    }

    /// What is read until nothing is left, as text with the cost.
    fn read(reader: &mut AnnounceReader) -> Vec<String> {
        let mut out = Vec::new();
        while let Poll::Ready(announcement) = reader.poll_next(None) {
            out.push(match announcement {
                Announcement::Active { suffix, cost, .. } => format!("+{suffix} {}", cost.warm),
                Announcement::Ended { suffix } => format!("-{suffix}"),
            });
        }
        out
    }

    fn announce(origin: &OriginProducer, path: &str, route: Route) -> Supplier {
        origin.announce_remote(path.into(), route).unwrap()
    }

    fn all(origin: &OriginProducer) -> AnnounceReader {
        origin.consume().reader(&Path::root(), within(0), true)
    }

    #[test]
    fn the_initial_set_is_frozen_and_exact() {
        let origin = origin();
        let first = origin.create_broadcast("room/a").unwrap();
        let _second = origin.create_broadcast("room/b").unwrap();
        let _outside = origin.create_broadcast("hall").unwrap();
        let mut reader = origin.consume().reader(&Path::new("room"), within(0), true);
        drop(first);
        let _third = origin.create_broadcast("room/c").unwrap();
        assert_eq!(reader.active(), 2);
        assert_eq!(read(&mut reader), ["+a 0", "+b 0", "-a", "+c 0"]);
        assert_eq!(reader.active(), 2);
    }

    #[test]
    fn hidden_paths_are_told_to_who_asks_for_them() {
        let origin = origin();
        let reader =
            |prefix: &str, hidden| origin.consume().reader(&Path::new(prefix), within(0), hidden);
        let first = origin.create_broadcast("room/.stats/a").unwrap();
        let _open = origin.create_broadcast("room/b.c").unwrap();
        let (mut shown, mut all) = (reader("room", false), reader("room", true));
        // What is named in the prefix is not hidden below it.
        let mut named = reader("room/.stats", false);
        assert_eq!([&shown, &all, &named].map(AnnounceReader::active), [1, 2, 1]);
        let _second = origin.create_broadcast(".d").unwrap();
        let _third = origin.create_broadcast("room/e").unwrap();
        drop(first);
        assert_eq!(read(&mut shown), ["+b.c 0", "+e 0"]);
        assert_eq!(read(&mut all), ["+.stats/a 0", "+b.c 0", "+e 0", "-.stats/a"]);
        assert_eq!(read(&mut named), ["+a 0", "-a"]);
    }

    #[test]
    fn a_peer_is_not_told_what_it_told_nor_what_came_through_it() {
        let origin = origin();
        let _mine = announce(&origin, "mine", through(&[7], 0, ME.0));
        let _looped = announce(&origin, "looped", through(&[8, 9], 0, 2));
        let worse = announce(&origin, "both", through(&[9], 5, 2));
        let best = announce(&origin, "both", through(&[8], 0, ME.0));
        let consumer = origin.consume();
        let mut reader = consumer.reader(&Path::root(), within(8), true);
        assert_eq!(reader.active(), 1);
        assert_eq!(read(&mut reader), ["+both 5"], "the next best is offered instead");

        let served = |path: &str| route(&consumer, &Path::new(path), within(8));
        assert!(served("mine").is_none() && served("looped").is_none());
        assert!(served("both").unwrap().is_clone(&worse.consume()));
        assert!(consumer.get_broadcast("both").unwrap().is_clone(&best.consume()));

        drop(worse);
        assert_eq!(read(&mut reader), ["-both"]);
        assert_eq!(consumer.reader(&Path::root(), behind(3), true).active(), 3);
    }

    #[test]
    fn a_new_route_is_told_once_and_only_if_it_differs() {
        let origin = origin();
        let mut reader = all(&origin);
        let mut consumer = origin.consume();
        let mut broadcast = announce(&origin, "a", through(&[7], 1, 2));
        assert_eq!(read(&mut reader), ["+a 1"]);
        assert!(consumer.try_announced().is_ready());
        assert!(broadcast.reroute(&through(&[7], 1, 2)));
        assert_eq!(read(&mut reader), [""; 0]);
        assert!(broadcast.reroute(&through(&[7], 3, 2)));
        assert!(broadcast.reroute(&through(&[7], 4, 2)));
        assert_eq!(read(&mut reader), [""; 0], "it is worse, which may pass");
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 4"]);
        assert!(broadcast.reroute(&through(&[7], 2, 2)));
        assert_eq!(read(&mut reader), ["+a 2"], "what is better is told at once");
        assert_eq!(reader.deadline(), None);
        assert!(consumer.try_announced().is_pending(), "it is the same broadcast");
    }

    #[test]
    fn a_newer_broadcast_takes_over_and_the_older_one_comes_back() {
        let origin = origin();
        let mut reader = all(&origin);
        let old = announce(&origin, "a", through(&[7], 1, 2));
        assert_eq!(read(&mut reader), ["+a 1"]);
        let mut new = announce(&origin, "a", through(&[8, 9], 9, 3));
        assert_eq!(read(&mut reader), ["-a", "+a 9"], "whatever it costs");
        assert!(new.reroute(&through(&[8, 9], 20, 3)));
        assert_eq!(read(&mut reader), [""; 0]);
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 20"]);
        new.drain();
        assert_eq!(read(&mut reader), ["-a", "+a 1"], "it is about to end");
        assert!(new.reroute(&through(&[8, 9], 2, 3)));
        assert_eq!(read(&mut reader), ["-a", "+a 2"]);
        // Who does not say who it is may bring the old one on its way around.
        let around = announce(&origin, "a", through(&[0, 6], 0, 4));
        assert_eq!(read(&mut reader), [""; 0]);
        drop(around);
        new.leave(Err(Error::SessionClosed));
        assert_eq!(read(&mut reader), ["-a", "+a 1"]);
        drop(old);
        assert_eq!(read(&mut reader), ["-a"]);
    }

    #[test]
    fn what_is_told_to_be_over_is_not_joined() {
        let origin = origin();
        let mut reader = all(&origin);
        let first = announce(&origin, "a", through(&[7, 8], 1, 2));
        let second = announce(&origin, "a", through(&[7, 9], 2, 3));
        assert!(first.consume().is_clone(&second.consume()));
        assert_eq!(read(&mut reader), ["+a 1"]);
        // 8 says that it is over and that there is one; then 9 says the same.
        let again = |over: Supplier, route: Route| {
            let new = origin.announce_anew("a".into(), route, &over).unwrap();
            over.leave(Ok(()));
            new
        };
        let first = again(first, through(&[7, 8], 1, 2));
        assert_eq!(read(&mut reader), ["-a", "+a 1"]);
        assert!(!first.consume().is_clone(&second.consume()));
        let old = second.consume();
        let second = again(second, through(&[7, 9], 2, 3));
        assert!(first.consume().is_clone(&second.consume()), "both have the new one");
        assert!(old.is_closed());
        assert_eq!(read(&mut reader), [""; 0]);
    }

    #[test]
    fn a_publisher_that_dials_again_was_started_again() {
        let origin = origin();
        let mut reader = all(&origin);
        let old = announce(&origin, "a", through(&[7], 1, 2));
        let through_it = announce(&origin, "a", through(&[7, 9], 2, 3));
        assert!(old.consume().is_clone(&through_it.consume()));
        assert_eq!(read(&mut reader), ["+a 1"]);
        let new = announce(&origin, "a", through(&[7], 1, 4));
        assert!(!new.consume().is_clone(&old.consume()));
        assert_eq!(read(&mut reader), ["-a", "+a 1"]);
        // What comes from elsewhere is of the newest.
        let other = announce(&origin, "a", through(&[7, 6], 2, 5));
        assert!(other.consume().is_clone(&new.consume()));
        old.leave(Err(Error::SessionClosed));
        assert_eq!(read(&mut reader), [""; 0]);
    }

    #[test]
    fn ways_with_the_same_content_are_one_broadcast() {
        let origin = origin();
        let mut reader = all(&origin);
        let mut consumer = origin.consume();
        let far = announce(&origin, "a", through(&[7, 8], 5, 2));
        assert_eq!(read(&mut reader), ["+a 5"]);
        let near = announce(&origin, "a", through(&[7, 9], 1, 3));
        assert!(near.consume().is_clone(&far.consume()));
        assert_eq!(read(&mut reader), ["+a 1"]);
        let anonymous = announce(&origin, "a", through(&[7, 0], 0, 4));
        assert!(!anonymous.consume().is_clone(&far.consume()));
        let seen = consumer.try_announced().map(|it| it.unwrap().broadcast.unwrap());
        assert!(matches!(seen, Poll::Ready(it) if it.is_clone(&far.consume())));

        near.leave(Ok(()));
        assert_eq!(read(&mut reader), [""; 0], "the one that is left is worse");
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 5"]);
        assert!(consumer.try_announced().is_pending(), "nothing happened for who reads");
        let mut last = far.consume();
        assert!(last.try_closed().is_pending());
        far.leave(Err(Error::SessionClosed));
        assert_eq!(last.try_closed(), Poll::Ready(Err(Error::SessionClosed)));
        assert_eq!(read(&mut reader), ["-a"]);
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 0"], "it is another broadcast");
    }

    #[test]
    fn a_route_that_comes_back_in_time_was_never_gone() {
        let origin = origin();
        let mut reader = all(&origin);
        let _far = announce(&origin, "a", through(&[7, 8], 5, 2));
        let mut near = announce(&origin, "a", through(&[7, 9], 1, 3));
        assert_eq!(read(&mut reader), ["+a 1"]);
        let mut now = Instant::ZERO;
        for _ in 0..100 {
            near.leave(Ok(()));
            assert_eq!(read(&mut reader), [""; 0]);
            now = now + Duration::from_millis(20);
            origin.advance(now);
            near = announce(&origin, "a", through(&[7, 9], 1, 3));
            assert_eq!(read(&mut reader), [""; 0]);
            assert_eq!(reader.deadline(), None);
        }
        near.leave(Ok(()));
        assert_eq!(read(&mut reader), [""; 0]);
        let due = now + HOLD_TIME;
        assert_eq!(reader.deadline(), Some(due));
        origin.advance(due);
        assert_eq!(read(&mut reader), ["+a 5"]);
        origin.advance(due + HOLD_TIME);
        assert_eq!(read(&mut reader), [""; 0]);
    }

    #[test]
    fn a_peer_does_not_rely_on_who_relies_on_it() {
        let origin = origin();
        let mut reader = all(&origin);
        let best = announce(&origin, "a", through(&[7, 8], 1, 2));
        assert_eq!(read(&mut reader), ["+a 1"]);
        let _back = announce(&origin, "a", through(&[7, 9], 2, ME.0));
        let _far = announce(&origin, "a", through(&[7, 6], 5, 3));
        assert_eq!(read(&mut reader), [""; 0]);
        best.leave(Err(Error::SessionClosed));
        assert_eq!(read(&mut reader), ["-a"], "the best leads back to the peer");
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 5"], "the next best stood");
    }

    #[test]
    fn what_goes_through_who_withdrew_is_not_told() {
        let origin = origin();
        let mut reader = all(&origin);
        let best = announce(&origin, "a", through(&[7, 8], 1, 2));
        let _around = announce(&origin, "a", through(&[7, 8, 9], 2, 3));
        assert_eq!(read(&mut reader), ["+a 1"]);
        best.leave(Ok(()));
        assert_eq!(read(&mut reader), ["-a"]);
        let seen = origin.consume().get_broadcast("a");
        assert!(seen.is_some(), "who reads here need not know");
        let again = announce(&origin, "a", through(&[7, 8], 1, 2));
        origin.advance(Instant::ZERO + 2 * HOLD_TIME);
        assert_eq!(read(&mut reader), ["+a 1"]);
        again.leave(Err(Error::SessionClosed));
        assert_eq!(read(&mut reader), [""; 0], "it said nothing, so it may have it still");
        origin.advance(reader.deadline().unwrap());
        assert_eq!(read(&mut reader), ["+a 2"]);
    }

    #[test]
    fn own_broadcasts_do_not_come_back() {
        let (here, there) = (origin(), Origin::new(Hop::new(2)).produce());
        let looped = here.announce_remote("a".into(), through(&[1, 7], 0, 2)).map(drop);
        assert_eq!(looped.unwrap_err(), Error::Unroutable);
        let from_here = announce(&there, "a", through(&[1], 0, 2));
        let published = here.publish_broadcast("b", &from_here.consume());
        assert_eq!(published.unwrap_err(), Error::Unroutable);
        assert_eq!(all(&here).active(), 0);
    }

    #[test]
    fn what_is_published_again_keeps_its_route() {
        let (here, there) = (origin(), Origin::new(Hop::new(2)).produce());
        let mut broadcast = announce(&there, "a", through(&[7], 3, ME.0));
        here.publish_broadcast("a", &broadcast.consume()).unwrap();
        assert_eq!(all(&here).active(), 0, "the session that has it is not told");
        let mut reader = here.consume().reader(&Path::root(), behind(2), true);
        assert_eq!(read(&mut reader), ["+a 3"]);
        assert!(broadcast.reroute(&through(&[7], 2, ME.0)));
        assert_eq!(read(&mut reader), ["+a 2"]);
    }

    #[test]
    fn a_prefix_that_is_not_allowed_shows_nothing() {
        let origin = origin();
        let _broadcast = origin.create_broadcast("room/a").unwrap();
        let consumer = origin.consume().scope(&[Path::new("hall")]).unwrap();
        let mut reader = consumer.reader(&Path::new("room"), within(0), true);
        assert_eq!((reader.active(), reader.poll_next(None)), (0, Poll::Pending));
        let above = consumer.reader(&Path::root(), within(0), true);
        assert_eq!(above.active(), 0);
    }

    #[test]
    fn questions_leave_nothing_behind() {
        let origin = origin();
        let mut consumer = origin.consume();
        let kept = origin.create_broadcast("kept").unwrap();
        for n in 0..1_000 {
            let path = Path::new(&format!("room/{n}"));
            assert!(consumer.get_broadcast(&path).is_none());
            assert!(consumer.try_announced_broadcast(path.as_str()).is_pending());
            assert!(route(&consumer, &path, within(0)).is_none());
            assert_eq!(consumer.reader(&path, within(0), true).active(), 0);
            let deeper = consumer.scope(std::slice::from_ref(&path)).unwrap();
            assert!(deeper.with_root(&path).unwrap().clone().try_announced().is_pending());
            assert!(origin.with_root(&path).unwrap().scope(&[path]).is_some());
        }
        let told = all(&origin);
        assert_eq!(lock(&origin.shared.state).table.sizes(), (1, 1));
        drop(kept);
        assert_eq!(lock(&origin.shared.state).table.sizes(), (1, 1), "one reader believes in it");
        drop(told);
        assert_eq!(lock(&origin.shared.state).table.sizes(), (0, 0));
        assert_eq!(lock(&origin.shared.state).producers, 1);
    }

    #[test]
    fn a_panic_inside_a_lock_is_survived() {
        let origin = origin();
        let shared = origin.shared.clone();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            shared.change(|_| panic!("on purpose"));
        }));
        assert!(panicked.is_err() && origin.shared.state.is_poisoned());
        let _broadcast = origin.create_broadcast("a").unwrap();
        assert!(origin.consume().get_broadcast("a").is_some());
    }
}
