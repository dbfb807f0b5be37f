//! The limits of a cache, what it holds, and its clock.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use super::stats::{TrackCells, TrackStats};
use crate::census::census;
use crate::model::base::sync::Mutex;
use crate::model::base::sync::atomic::{AtomicU64, Ordering};
use crate::model::base::{add, impl_debug, lock};
use crate::{Instant, Limits, Timestamp};

/// A busy session updates the time at least this often. After a longer gap, writes since the last
/// update count as made at the end of the gap, because the write woke the session that ended it.
const MAX_TIME_GAP: Duration = Duration::from_millis(100);

/// A member of a [`Cache`] that uses its clock: a track, or the requests of an origin.
pub(crate) trait CacheMember: Send + Sync {
    /// The time was updated late: changes that were stamped `before` happened `now`.
    fn restamp(&self, before: Instant, now: Instant);

    /// A scheduled deadline has passed. The cache has removed it.
    fn expire(self: Arc<Self>);

    /// One of its groups was written or lost its last reader: gives up groups that are too old or
    /// too many.
    fn sweep(self: Arc<Self>) {}
}

/// The bytes and the clock of all tracks of an origin.
///
/// Its locks are the last in the lock order: nothing is called while one is held.
pub(crate) struct Cache {
    limits: Limits,
    now: AtomicU64,
    /// The number of the round, which ends when the list below is emptied.
    round: AtomicU64,
    /// Members that changed since the time was confirmed, each once.
    fresh: Mutex<Vec<Weak<dyn CacheMember>>>,
    used: AtomicU64,
    /// The last id of a [`CacheMember`].
    last_member: AtomicU64,
    /// The sessions of the origin with their wakers. The first one runs the timer for all
    /// deadlines, so that not every session wakes for the same groups.
    timekeepers: Mutex<BTreeMap<u64, Waker>>,
    /// The first session in the list, readable without the lock; `u64::MAX` if there is none.
    timekeeper: AtomicU64,
    /// The next deadline of each [`CacheMember`], at most one entry each. It may be early, never
    /// late.
    deadlines: Mutex<BTreeMap<(Instant, u64), Weak<dyn CacheMember>>>,
}

impl Cache {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            now: AtomicU64::new(0),
            round: AtomicU64::new(1),
            fresh: Mutex::default(),
            used: AtomicU64::new(0),
            last_member: AtomicU64::new(0),
            timekeepers: Mutex::default(),
            timekeeper: AtomicU64::new(u64::MAX),
            deadlines: Mutex::default(),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The latest time that a session set.
    pub(crate) fn now(&self) -> Instant {
        Instant::from_micros(self.now.load(Ordering::Relaxed))
    }

    /// Bytes held: payload and the memory needed to manage it.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        lock(&self.deadlines).first_key_value().map(|((at, _), _)| *at)
    }

    /// Adds a session that can run the timer. `waker` is woken when it has to.
    pub(crate) fn add_timekeeper(&self, session: u64, waker: Waker) {
        let mut timekeepers = lock(&self.timekeepers);
        let displaced = timekeepers.insert(session, waker);
        self.choose_timekeeper(&timekeepers);
        drop(timekeepers);
        drop(displaced);
    }

    /// Whether `session` is the one that runs the timer.
    pub(crate) fn is_timekeeper(&self, session: u64) -> bool {
        self.timekeeper.load(Ordering::Relaxed) == session
    }

    /// Removes a session. If it ran the timer, the next one is woken to take over.
    pub(crate) fn remove_timekeeper(&self, session: u64) {
        let mut timekeepers = lock(&self.timekeepers);
        let left = timekeepers.remove(&session);
        let was_minded = self.is_timekeeper(session);
        self.choose_timekeeper(&timekeepers);
        let successor = timekeepers.values().next().filter(|_| was_minded).cloned();
        drop(timekeepers);
        drop(left);
        if let Some(successor) = successor {
            successor.wake();
        }
    }

    fn choose_timekeeper(&self, timekeepers: &BTreeMap<u64, Waker>) {
        let first = timekeepers.keys().next().copied();
        self.timekeeper.store(first.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Moves the clock forward, never back.
    pub(crate) fn set_now(&self, now: Instant) {
        let before = Instant::from_micros(self.now.fetch_max(now.as_micros(), Ordering::Relaxed));
        if before >= now {
            return;
        }
        if now <= before + MAX_TIME_GAP {
            return self.confirm_now();
        }
        let fresh = mem::take(&mut *lock(&self.fresh));
        self.round.fetch_add(1, Ordering::Relaxed);
        fresh.iter().filter_map(Weak::upgrade).for_each(|member| member.restamp(before, now));
    }

    /// Confirms the stamps of everything written so far. A session calls it when it has no more
    /// work at this time.
    pub(crate) fn confirm_now(&self) {
        let mut fresh = lock(&self.fresh);
        if !fresh.is_empty() {
            fresh.clear();
            self.round.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Allocates an id for [`schedule`](Self::schedule).
    pub(crate) fn member_id(&self) -> u64 {
        self.last_member.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the time of a change to `member`, which stores in which round it last changed. If the clock turns
    /// out to be late, the member is restamped.
    pub(crate) fn stamp(
        &self,
        changed_in: &AtomicU64,
        member: impl FnOnce() -> Weak<dyn CacheMember>,
    ) -> Instant {
        let round = self.round.load(Ordering::Relaxed);
        if changed_in.load(Ordering::Relaxed) != round {
            changed_in.store(round, Ordering::Relaxed);
            self.add_fresh(member());
        }
        self.now()
    }

    /// Notes the first change to a member since the time was confirmed.
    fn add_fresh(&self, member: Weak<dyn CacheMember>) {
        let mut fresh = lock(&self.fresh);
        if fresh.len() == fresh.capacity() {
            // Dead members would stay if no session confirms the time.
            fresh.retain(|member| member.strong_count() > 0);
        }
        fresh.push(member);
    }

    /// Moves the deadline of a [`CacheMember`] from `old` to `new`. Returns whether it is now the
    /// first of all.
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
        let Some((at, member)) = new else { return false };
        deadlines.insert((at, id), member);
        deadlines.first_key_value().is_some_and(|(first, _)| *first == (at, id))
    }

    /// The waker of the session that runs the timer, to be woken when the next deadline became
    /// earlier.
    pub(crate) fn timekeeper(&self) -> Option<Waker> {
        lock(&self.timekeepers).values().next().cloned()
    }

    /// Moves the clock forward, never back, and gives up what is too old.
    pub(crate) fn advance(&self, now: Instant) {
        self.set_now(now);
        while let Some(member) = self.pop_due(self.now()) {
            if let Some(member) = member.upgrade() {
                member.expire();
            }
        }
    }

    fn pop_due(&self, now: Instant) -> Option<Weak<dyn CacheMember>> {
        let mut deadlines = lock(&self.deadlines);
        let entry = deadlines.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

impl_debug! { Cache, it => used: &it.used() }

impl_debug! { Account, it => used: &it.used() }

/// The share of one track in a [`Cache`].
pub(crate) struct Account {
    cache: Arc<Cache>,
    /// The track.
    owner: Weak<dyn CacheMember>,
    /// The ids of the track's deadlines in the cache: of its groups, and of unanswered requests.
    member: [u64; 2],
    used: AtomicU64,
    counters: TrackCells,
    /// The round of the cache in which the track was last written.
    written_in: AtomicU64,
    /// From this timestamp on the track has a group to give up by media age.
    media_due: AtomicU64,
}

impl Account {
    /// Creates the account of the track `owner`.
    pub(crate) fn new(cache: Arc<Cache>, owner: Weak<dyn CacheMember>) -> Arc<Self> {
        let member = [(); 2].map(|()| cache.member_id());
        let media_due = AtomicU64::new(u64::MAX);
        Arc::new(Self {
            cache,
            owner,
            member,
            used: AtomicU64::new(0),
            counters: TrackCells::default(),
            written_in: AtomicU64::new(0),
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

    pub(crate) fn counters(&self) -> &TrackCells {
        &self.counters
    }

    /// The track that it belongs to.
    pub(crate) fn owner(&self) -> &Weak<dyn CacheMember> {
        &self.owner
    }

    /// Returns the time of a write to the track. If the clock turns out to be late, the track is
    /// restamped.
    pub(crate) fn stamp(&self) -> Instant {
        self.cache.stamp(&self.written_in, || self.owner.clone())
    }

    pub(crate) fn charge(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.cache.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn uncharge(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.cache.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts a complete frame of this many payload bytes.
    pub(crate) fn count_frame(&self, bytes: usize) {
        add(&self.counters.frames, 1);
        add(&self.counters.bytes, bytes as u64);
    }

    pub(crate) fn stats(&self) -> TrackStats {
        self.counters.load()
    }

    /// Whether a frame with this timestamp lets the track give up groups. It is cheap, and wrongly
    /// `true` only if the newest group alone exceeds a limit.
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
        self.cache.schedule(self.member[0], old, new);
    }

    /// Moves the deadline of the track's unanswered requests. Returns whether it is now the first
    /// of all.
    pub(crate) fn schedule_answers(
        &self,
        old: Option<Instant>,
        new: Option<(Instant, Weak<dyn CacheMember>)>,
    ) -> bool {
        self.cache.schedule(self.member[1], old, new)
    }
}

/// Bytes charged to an [`Account`], given back on drop.
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

    pub(crate) fn add(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.account.charge(bytes);
    }

    /// Lowers the number of bytes to this.
    pub(crate) fn lower(&mut self, bytes: usize) {
        let before = mem::replace(self.bytes.get_mut(), bytes as u64);
        self.account.uncharge(before - bytes as u64);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.uncharge(*self.bytes.get_mut());
    }
}

// Members in `fresh` may be dead. They are removed when the list is full, and when the time is
// confirmed.
census! { Cache {
    counts: timekeepers, deadlines;
    plain: limits, now, round, fresh, used, last_member, timekeeper;
} }

/// A member that has nothing in the cache.
#[cfg(test)]
pub(crate) struct Nobody;

#[cfg(test)]
impl CacheMember for Nobody {
    fn restamp(&self, _: Instant, _: Instant) {}

    fn expire(self: Arc<Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_cache_does_not_allocate() {
        let cache = Cache::new(Limits::default());
        let account = Account::new(cache.clone(), Weak::<Nobody>::new());
        let place = || {
            let fresh = lock(&cache.fresh);
            (fresh.len(), fresh.as_ptr())
        };
        account.stamp();
        let (_, list) = place();
        for n in 1..100 {
            assert_eq!(place(), (1, list));
            cache.set_now(Instant::from_millis(n * 20));
            assert_eq!(place(), (0, list));
            account.stamp();
            account.stamp();
        }
    }
}
