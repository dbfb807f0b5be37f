//! What the cache may hold, and what it does hold: bytes and time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;
use std::time::Duration;

use super::stats::{TrackCells, TrackStats};
use crate::census::census;
use crate::model::base::{add, lock};
use crate::{Instant, Limits, Timestamp};

/// The time is told at least so often by whoever is busy. After a longer pause, what was written since it
/// was told last is as old as the end of the pause: writing ended it.
const PAUSE: Duration = Duration::from_millis(100);

/// What the clock of a [`Cache`] concerns: a track, or the requests of an origin.
pub(crate) trait CacheMember: Send + Sync {
    /// The time was told late: what is taken to have happened at `before` did so `now`.
    fn restamp(&self, before: Instant, now: Instant);

    /// The deadline that it scheduled has passed, and is forgotten.
    fn expire(self: Arc<Self>);

    /// A group of it was written, or is read no longer: gives up what is too old or too much.
    fn sweep(self: Arc<Self>) {}
}

/// One cache: the bytes and the clock of all tracks of an origin.
///
/// Its locks are the last in the order: nothing is called while one is held.
pub(crate) struct Cache {
    limits: Limits,
    now: AtomicU64,
    /// Counts what empties the list below.
    turn: AtomicU64,
    /// Those that were changed since the time was told and a session had nothing to do, each once.
    fresh: Mutex<Vec<Weak<dyn CacheMember>>>,
    used: AtomicU64,
    /// The last id of a [`CacheMember`].
    last_timed: AtomicU64,
    /// Who could have a timer for the deadlines: the sessions of the origin, and how to wake them. The
    /// first one does, so that not all wake for the same groups.
    minders: Mutex<BTreeMap<u64, Waker>>,
    /// The first of them, for a look without the lock; `u64::MAX` if there is none.
    minder: AtomicU64,
    /// When each [`CacheMember`] has something to give up by the clock, at most one entry for each. It may be
    /// early, never late.
    deadlines: Mutex<BTreeMap<(Instant, u64), Weak<dyn CacheMember>>>,
}

impl Cache {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            now: AtomicU64::new(0),
            turn: AtomicU64::new(1),
            fresh: Mutex::default(),
            used: AtomicU64::new(0),
            last_timed: AtomicU64::new(0),
            minders: Mutex::default(),
            minder: AtomicU64::new(u64::MAX),
            deadlines: Mutex::default(),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The latest time that anybody told.
    pub(crate) fn now(&self) -> Instant {
        Instant::from_micros(self.now.load(Ordering::Relaxed))
    }

    /// Bytes that are held, payload and what it takes to keep it.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        lock(&self.deadlines).first_key_value().map(|((at, _), _)| *at)
    }

    /// `session` can mind the deadlines from now on; `waker` is woken when it has to.
    pub(crate) fn join(&self, session: u64, waker: Waker) {
        let mut minders = lock(&self.minders);
        let displaced = minders.insert(session, waker);
        self.choose(&minders);
        drop(minders);
        drop(displaced);
    }

    /// Whether `session` is the one that minds the deadlines for all.
    pub(crate) fn is_minded_by(&self, session: u64) -> bool {
        self.minder.load(Ordering::Relaxed) == session
    }

    /// `session` minds the deadlines no longer: if it did, another one takes over now.
    pub(crate) fn leave(&self, session: u64) {
        let mut minders = lock(&self.minders);
        let left = minders.remove(&session);
        let was_minded = self.is_minded_by(session);
        self.choose(&minders);
        let heir = minders.values().next().filter(|_| was_minded).cloned();
        drop(minders);
        drop(left);
        if let Some(heir) = heir {
            heir.wake();
        }
    }

    fn choose(&self, minders: &BTreeMap<u64, Waker>) {
        let first = minders.keys().next().copied();
        self.minder.store(first.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Moves the clock forward, never back.
    pub(crate) fn tell(&self, now: Instant) {
        let before = Instant::from_micros(self.now.fetch_max(now.as_micros(), Ordering::Relaxed));
        if before >= now {
            return;
        }
        if now <= before + PAUSE {
            return self.pause();
        }
        let fresh = std::mem::take(&mut *lock(&self.fresh));
        self.turn.fetch_add(1, Ordering::Relaxed);
        fresh.iter().filter_map(Weak::upgrade).for_each(|timed| timed.restamp(before, now));
    }

    /// Whoever told the time has nothing to do now: what was written until here was written at that time.
    pub(crate) fn pause(&self) {
        let mut fresh = lock(&self.fresh);
        if !fresh.is_empty() {
            fresh.clear();
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An id for [`schedule`](Self::schedule).
    pub(crate) fn timed_id(&self) -> u64 {
        self.last_timed.fetch_add(1, Ordering::Relaxed)
    }

    /// Something happens to `timed`, which keeps its own `turn`: the time for that. If it turns out to have
    /// been told long ago, it is set right.
    pub(crate) fn stamp(
        &self,
        turn: &AtomicU64,
        timed: impl FnOnce() -> Weak<dyn CacheMember>,
    ) -> Instant {
        let now = self.turn.load(Ordering::Relaxed);
        if turn.load(Ordering::Relaxed) != now {
            turn.store(now, Ordering::Relaxed);
            self.freshen(timed());
        }
        self.now()
    }

    /// Something changed, for the first time since the time was told.
    fn freshen(&self, timed: Weak<dyn CacheMember>) {
        let mut fresh = lock(&self.fresh);
        if fresh.len() == fresh.capacity() {
            // Where nobody tells the time they would stay.
            fresh.retain(|timed| timed.strong_count() > 0);
        }
        fresh.push(timed);
    }

    /// Moves the deadline of a [`CacheMember`] from `old` to `new`. `true`: it is the next of all now.
    pub(crate) fn schedule(
        &self,
        id: u64,
        old: Option<Instant>,
        new: Option<(Instant, Weak<dyn CacheMember>)>,
    ) -> bool {
        let mut deadlines = lock(&self.deadlines);
        if let Some(old) = old {
            deadlines.remove(&(old, id));
        }
        let Some((at, timed)) = new else { return false };
        deadlines.insert((at, id), timed);
        deadlines.first_key_value().is_some_and(|(first, _)| *first == (at, id))
    }

    /// Who is to be woken because the next deadline is earlier than before.
    pub(crate) fn minder(&self) -> Option<Waker> {
        lock(&self.minders).values().next().cloned()
    }

    /// Moves the clock forward, never back, and gives up what got too old.
    pub(crate) fn advance(&self, now: Instant) {
        self.tell(now);
        while let Some(timed) = self.pop_due(self.now()) {
            if let Some(timed) = timed.upgrade() {
                timed.expire();
            }
        }
    }

    fn pop_due(&self, now: Instant) -> Option<Weak<dyn CacheMember>> {
        let mut deadlines = lock(&self.deadlines);
        let entry = deadlines.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("used", &self.used()).finish_non_exhaustive()
    }
}

/// What one track holds of a [`Cache`].
#[derive(Debug)]
pub(crate) struct Account {
    cache: Arc<Cache>,
    /// What the cache knows the track's deadlines by: that of its groups, and that of answers.
    timed: [u64; 2],
    used: AtomicU64,
    tally: TrackCells,
    /// In which turn of the cache the track was written last.
    turn: AtomicU64,
    /// From this timestamp on the track has a group to give up by its media age.
    media_due: AtomicU64,
}

impl Account {
    pub(crate) fn new(cache: Arc<Cache>) -> Arc<Self> {
        let timed = [(); 2].map(|()| cache.timed_id());
        let media_due = AtomicU64::new(u64::MAX);
        Arc::new(Self {
            cache,
            timed,
            used: AtomicU64::new(0),
            tally: TrackCells::default(),
            turn: AtomicU64::new(0),
            media_due,
        })
    }

    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.cache.limits
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn tally(&self) -> &TrackCells {
        &self.tally
    }

    /// Something is written to `track`, of which this is the account: the time for that. If it turns out to
    /// have been told long ago, it is set right.
    pub(crate) fn stamp(&self, member: &Weak<dyn CacheMember>) -> Instant {
        self.cache.stamp(&self.turn, || member.clone())
    }

    /// A frame of so many bytes of payload is complete.
    pub(crate) fn wrote(&self, bytes: usize) {
        add(&self.tally.frames, 1);
        add(&self.tally.bytes, bytes as u64);
    }

    pub(crate) fn stats(&self) -> TrackStats {
        TrackStats { cached_bytes: self.used(), ..self.tally.load() }
    }

    /// Whether a frame of this timestamp lets the track give up groups. Cheap, and `true` too often
    /// only where the newest group alone is past a limit.
    pub(crate) fn is_due(&self, timestamp: Timestamp) -> bool {
        timestamp.units() >= self.media_due.load(Ordering::Relaxed)
            || self.used() > self.limits().track_bytes
            || self.cache.used() > self.limits().cache_bytes
    }

    pub(crate) fn set_media_due(&self, due: Option<Timestamp>) {
        self.media_due.store(due.map_or(u64::MAX, Timestamp::units), Ordering::Relaxed);
    }

    /// Moves the deadline of the track's groups from `old` to `new`.
    pub(crate) fn schedule(
        &self,
        old: Option<Instant>,
        new: Option<(Instant, Weak<dyn CacheMember>)>,
    ) {
        self.cache.schedule(self.timed[0], old, new);
    }

    /// As [`schedule`](Self::schedule), for those who wait for an answer. `true`: it is the next of all now.
    pub(crate) fn schedule_answers(
        &self,
        old: Option<Instant>,
        new: Option<(Instant, Weak<dyn CacheMember>)>,
    ) -> bool {
        self.cache.schedule(self.timed[1], old, new)
    }
}

/// Bytes held of an [`Account`], given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: AtomicU64,
}

impl Charge {
    pub(crate) fn new(account: Arc<Account>, bytes: usize) -> Self {
        let charge = Self { account, bytes: AtomicU64::new(0) };
        charge.add(bytes);
        charge
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(crate) fn add(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.account.used.fetch_add(bytes, Ordering::Relaxed);
        self.account.cache.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.account.used.fetch_sub(bytes, Ordering::Relaxed);
        self.account.cache.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// What is in `fresh` may be gone: it is swept when it is full, and by whoever tells the time.
census! { Cache {
    counts: minders, deadlines;
    plain: limits, now, turn, fresh, used, last_timed, minder;
} }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_cache_remembers_what_was_written_without_allocating() {
        let cache = Cache::new(Limits::default());
        let account = Account::new(cache.clone());
        struct Nobody;

        impl CacheMember for Nobody {
            fn restamp(&self, _: Instant, _: Instant) {}

            fn expire(self: Arc<Self>) {}
        }

        let nobody: Weak<dyn CacheMember> = Weak::<Nobody>::new();
        let place = || {
            let fresh = lock(&cache.fresh);
            (fresh.len(), fresh.as_ptr())
        };
        account.stamp(&nobody);
        let (_, list) = place();
        for n in 1..100 {
            assert_eq!(place(), (1, list));
            cache.tell(Instant::from_millis(n * 20));
            assert_eq!(place(), (0, list));
            account.stamp(&nobody);
            account.stamp(&nobody);
        }
    }
}
