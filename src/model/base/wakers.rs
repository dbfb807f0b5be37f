//! Lists of wakers. They are woken in order, after the lock is released, and without allocating.

use std::mem;
use std::sync::PoisonError;
use std::task::{Poll, Waker};

use crate::model::base::sync::{Mutex, MutexGuard};

/// Locks a mutex even if it is poisoned: every change under a lock is complete before anything that
/// could panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The position of one handle in one [`Wakers`].
#[derive(Debug, Default)]
pub(crate) struct WaitSlot(u64);

impl WaitSlot {
    /// Whether it may hold a waker. A slot that was never used needs no lock on drop.
    pub(crate) fn is_used(&self) -> bool {
        self.0 != 0
    }
}

type List = Vec<(u64, Option<Waker>)>;

/// Waiters in the order in which they registered, at most one for each [`WaitSlot`].
///
/// The list is protected by a lock, but wakers run foreign code. So they are cloned before the lock
/// is taken, and dropped and woken after it is released.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    /// Sorted by the number in the slot.
    list: List,
    last: u64,
    freed: usize,
}

impl Wakers {
    /// Registers `waker`. Drop the returned waker after releasing the lock.
    #[must_use = "to be dropped after the unlock"]
    pub(crate) fn register(&mut self, slot: &mut WaitSlot, waker: Waker) -> Option<Waker> {
        if let Some(held) = self.find(slot) {
            let known = held.as_ref().is_some_and(|held| held.will_wake(&waker));
            return if known { Some(waker) } else { held.replace(waker) };
        }
        self.last += 1;
        slot.0 = self.last;
        self.list.push((self.last, Some(waker)));
        None
    }

    /// Removes the waiter. Drop the returned waker after releasing the lock.
    #[must_use = "to be dropped after the unlock"]
    pub(crate) fn free(&mut self, slot: &mut WaitSlot) -> Option<Waker> {
        let waker = self.find(slot)?.take();
        *slot = WaitSlot::default();
        self.freed += 1;
        if self.freed * 2 > self.list.len() {
            self.list.retain(|(_, waker)| waker.is_some());
            self.freed = 0;
        }
        waker
    }

    /// Moves all waiters to `wakes`, and takes over its memory for the next ones.
    pub(crate) fn take(&mut self, wakes: &mut DeferredWakes) {
        if self.list.is_empty() {
            return;
        }
        self.freed = 0;
        if wakes.0.is_empty() {
            mem::swap(&mut self.list, &mut wakes.0);
        } else {
            wakes.0.append(&mut self.list);
        }
    }

    fn find(&mut self, slot: &WaitSlot) -> Option<&mut Option<Waker>> {
        // Waiters that were taken have lower numbers than all that are left.
        self.list.first().filter(|(first, _)| *first <= slot.0)?;
        let at = self.list.binary_search_by_key(&slot.0, |(id, _)| *id).ok()?;
        Some(&mut self.list[at].1)
    }
}

/// Waiters to wake after the lock is released. When it is empty, its memory is reused for the next
/// list.
#[derive(Debug, Default)]
pub(crate) struct DeferredWakes(List);

impl DeferredWakes {
    /// Adds a waker that is on no list.
    pub(crate) fn push(&mut self, waker: Option<Waker>) {
        self.0.push((u64::MAX, waker));
    }

    pub(crate) fn wake(&mut self) {
        if self.0.is_empty() {
            return;
        }
        for (_, waker) in self.0.drain(..) {
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Changes the state. After the lock is released, the waiters that `change` collected are woken. The caller drops what it
/// returns.
pub(crate) fn change<S, T>(
    state: &Mutex<S>,
    change: impl FnOnce(&mut S, &mut DeferredWakes) -> T,
) -> T {
    let mut wakes = DeferredWakes::default();
    let result = change(&mut lock(state), &mut wakes);
    wakes.wake();
    result
}

/// Returns what `ready` returns. If that is `Pending`, `waker` is registered in a list of the state.
pub(crate) fn wait_on<S, T>(
    state: &Mutex<S>,
    waker: Option<&Waker>,
    slot: &mut WaitSlot,
    list: impl FnOnce(&mut S) -> &mut Wakers,
    ready: impl FnOnce(&mut S) -> Poll<T>,
) -> Poll<T> {
    let waker = waker.cloned();
    // Declared before the guard, so that it is dropped after the lock is released.
    let _displaced;
    let mut state = lock(state);
    let result = ready(&mut state);
    if result.is_pending() {
        _displaced = waker.and_then(|waker| list(&mut state).register(slot, waker));
    }
    result
}

/// Writes the three public forms of a wait around one private function that takes `Option<&Waker>`.
macro_rules! wait {
    ($(#[$doc:meta])* $inner:ident => $poll:ident, $wait:ident, $try:ident
        ($($arg:ident: $kind:ty),*) -> $out:ty) => {
        $(#[$doc])*
        ///
        /// If it returns `Pending`, the waker of `cx` is registered in place of an earlier one.
        #[inline]
        pub fn $poll(&mut self, cx: &mut std::task::Context<'_>, $($arg: $kind),*) -> Poll<$out> {
            self.$inner(Some(cx.waker()), $($arg),*)
        }

        #[doc = concat!("Awaits [`", stringify!($poll), "`](Self::", stringify!($poll), ").")]
        // Not an `async fn`, whose future would be three times as large.
        pub fn $wait(&mut self, $($arg: $kind),*) -> impl std::future::Future<Output = $out> {
            std::future::poll_fn(move |cx| self.$poll(cx, $($arg),*))
        }

        #[doc = concat!("[`", stringify!($poll), "`](Self::", stringify!($poll), ") for callers ")]
        /// that poll again on their own: it registers no waker.
        #[inline]
        pub fn $try(&mut self, $($arg: $kind),*) -> Poll<$out> {
            self.$inner(None, $($arg),*)
        }
    };
}

pub(crate) use wait;

#[cfg(any(test, feature = "sim"))]
impl crate::census::Entries for Wakers {
    fn entries(&self) -> usize {
        let Self { list, last: _, freed: _ } = self;
        list.iter().filter(|(_, waker)| waker.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Log(Arc<Mutex<Vec<u32>>>, u32);

    impl Wake for Log {
        fn wake(self: Arc<Self>) {
            lock(&self.0).push(self.1);
        }
    }

    #[test]
    fn waiters_are_woken_in_order_of_registration() {
        let log = Arc::default();
        let wakers: Vec<Waker> =
            (0..9).map(|n| Arc::new(Log(Arc::clone(&log), n)).into()).collect();
        let mut list = Wakers::default();
        let mut slots: Vec<WaitSlot> = wakers.iter().map(|_| WaitSlot::default()).collect();
        for (slot, waker) in slots.iter_mut().zip(&wakers).rev() {
            assert!(list.register(slot, waker.clone()).is_none());
        }
        for gone in [1, 3, 4, 5, 6, 7] {
            assert!(
                list.free(&mut slots[gone]).is_some_and(|waker| waker.will_wake(&wakers[gone]))
            );
        }
        // With another waker the slot keeps its position, and the new waker replaces the old one.
        let old = list.register(&mut slots[8], wakers[1].clone());
        assert!(old.is_some_and(|waker| waker.will_wake(&wakers[8])));
        let mut wakes = DeferredWakes::default();
        list.take(&mut wakes);
        wakes.wake();
        assert_eq!(*lock(&log), [1, 2, 0]);
        assert!(list.free(&mut slots[0]).is_none(), "was taken");
    }

    #[test]
    fn freed_slots_are_removed_from_the_list() {
        let mut list = Wakers::default();
        let mut stays = WaitSlot::default();
        assert!(list.register(&mut stays, Waker::noop().clone()).is_none());
        for _ in 0..1_000 {
            let mut slot = WaitSlot::default();
            assert!(list.register(&mut slot, Waker::noop().clone()).is_none());
            assert!(list.register(&mut slot, Waker::noop().clone()).is_some(), "known");
            assert!(list.free(&mut slot).is_some());
        }
        assert!(list.list.len() <= 2);
        assert!(list.find(&stays).is_some_and(|waker| waker.is_some()));
    }
}
