//! Counting wake-ups.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Waker};

/// A waker that counts how often it was woken.
#[derive(Clone, Debug)]
pub struct Wakes {
    count: Arc<Count>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for Wakes {
    fn default() -> Self {
        let count = Arc::<Count>::default();
        Self { waker: count.clone().into(), count }
    }
}

impl Wakes {
    /// A waker that was not woken yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The waker.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// A context with this waker.
    pub fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// How often it was woken since the last [`take`](Self::take).
    pub fn count(&self) -> usize {
        self.count.0.load(Ordering::Relaxed)
    }

    /// As [`count`](Self::count), which begins with 0 again.
    pub fn take(&self) -> usize {
        self.count.0.swap(0, Ordering::Relaxed)
    }
}
