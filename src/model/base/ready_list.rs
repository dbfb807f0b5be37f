//! A list of keys that became ready. Each key has a waker; a loop that owns the objects of the keys takes them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::wakers::lock;
use crate::model::base::sync::Mutex;
use crate::model::base::sync::atomic::{AtomicBool, Ordering};

/// Keys in the order in which they became ready, and one waker for the owner of the list.
///
/// Poll the item of `key` with [`waker(key)`](Self::waker). When that waker is woken,
/// [`pop`](Self::pop) returns `key`, once, however often it was woken meanwhile. The waker
/// registered by [`poll_ready`](Self::poll_ready) is woken only if the list was empty before.
#[derive(Debug, Default)]
pub struct ReadyList {
    shared: Arc<ReadyShared>,
}

#[derive(Debug, Default)]
struct ReadyShared {
    /// Whether the queue is not empty, so that it can be checked without the lock.
    ready: AtomicBool,
    state: Mutex<ReadyState>,
}

#[derive(Debug, Default)]
struct ReadyState {
    queue: VecDeque<Arc<ReadyKey>>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct ReadyKey {
    key: u64,
    queued: AtomicBool,
    list: Weak<ReadyShared>,
}

impl ReadyList {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a waker that puts `key` on the list. Clones of it count as one. Call it once for
    /// each key: two wakers of the same key would be queued separately.
    pub fn waker(&self, key: u64) -> Waker {
        let list = Arc::downgrade(&self.shared);
        Arc::new(ReadyKey { key, queued: AtomicBool::new(false), list }).into()
    }

    /// Removes and returns the key that has been ready for longest. The key can become ready again
    /// from now on.
    pub fn pop(&mut self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let key = {
            let mut state = lock(&self.shared.state);
            let key = state.queue.pop_front();
            self.shared.ready.store(!state.queue.is_empty(), Ordering::Release);
            key?
        };
        // Makes visible what happened before a wake that found the key still on the list.
        key.queued.swap(false, Ordering::AcqRel);
        Some(key.key)
    }

    /// Whether no key is ready. Costs one atomic load.
    pub fn is_empty(&self) -> bool {
        !self.shared.ready.load(Ordering::Acquire)
    }

    /// Ready if a key is ready. Otherwise the waker of `cx` is registered in place of an earlier
    /// one.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_empty() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        // Declared before the guard, so that it is dropped after the lock is released.
        let _displaced;
        let mut state = lock(&self.shared.state);
        if !state.queue.is_empty() {
            return Poll::Ready(());
        }
        _displaced = state.waker.replace(waker);
        Poll::Pending
    }
}

impl ReadyKey {
    /// Marks the key as queued and returns whether it was not queued yet. It always writes, so that
    /// a later pop of the key sees everything that the caller did before.
    fn mark(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    fn push(self: Arc<Self>) {
        let Some(list) = self.list.upgrade() else { return };
        let waker = {
            let mut state = lock(&list.state);
            state.queue.push_back(self);
            list.ready.store(true, Ordering::Release);
            // A waker is registered only while the list is empty.
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Wake for ReadyKey {
    fn wake(self: Arc<Self>) {
        if self.mark() {
            self.push();
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.mark() {
            self.clone().push();
        }
    }
}

#[cfg(any(test, feature = "sim"))]
impl crate::census::Entries for ReadyList {
    fn entries(&self) -> usize {
        let Self { shared } = self;
        lock(&shared.state).queue.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::sim::Wakes;

    #[test]
    fn keys_come_out_in_order_and_once() {
        let mut list = ReadyList::new();
        let (a, b) = (list.waker(7), list.waker(9));
        b.wake_by_ref();
        a.wake_by_ref();
        let clone = b.clone();
        clone.wake();
        assert_eq!((list.pop(), list.pop(), list.pop()), (Some(9), Some(7), None));
        b.wake();
        assert_eq!((list.pop(), list.is_empty()), (Some(9), true));
    }

    #[test]
    fn the_owner_is_woken_only_if_the_list_was_empty() {
        let mut list = ReadyList::new();
        let wakes = Wakes::new();
        let mut cx = wakes.context();
        let (a, b) = (list.waker(1), list.waker(2));
        assert!(list.poll_ready(&mut cx).is_pending());
        assert!(list.poll_ready(&mut cx).is_pending());
        a.wake_by_ref();
        b.wake_by_ref();
        assert_eq!(wakes.count(), 1);
        assert!(list.poll_ready(&mut cx).is_ready());
        assert_eq!((list.pop(), list.pop()), (Some(1), Some(2)));
        assert!(list.poll_ready(&mut cx).is_pending());
        b.wake_by_ref();
        assert_eq!(wakes.count(), 2);
    }

    #[test]
    fn wakers_outlive_the_list() {
        let list = ReadyList::new();
        let (a, b) = (list.waker(1), list.waker(2));
        a.wake_by_ref();
        let shared = Arc::downgrade(&list.shared);
        drop(list);
        a.wake();
        b.wake();
        assert!(shared.upgrade().is_none(), "nothing keeps itself alive");
    }

    /// Each thread counts up before it wakes. A pop must see all counts that precede a wake.
    #[test]
    fn no_wake_is_lost_between_threads() {
        const ROUNDS: usize = 20_000;
        let mut list = ReadyList::new();
        let counts: [AtomicUsize; 2] = Default::default();
        std::thread::scope(|scope| {
            for (key, count) in counts.iter().enumerate() {
                let waker = list.waker(key as u64);
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        count.fetch_add(1, Ordering::Relaxed);
                        waker.wake_by_ref();
                    }
                });
            }
            let mut seen = [0; 2];
            while seen != [ROUNDS; 2] {
                match list.pop() {
                    Some(key) => seen[key as usize] = counts[key as usize].load(Ordering::Relaxed),
                    None => std::thread::yield_now(),
                }
            }
        });
    }
}
