//! Polling only what was woken.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

/// Whoever waits with it is asked again only after it was woken, as by an executor: a wake-up that is lost
/// is so seen by whoever reads.
#[derive(Clone, Debug)]
pub struct Alarm(Arc<Rang>);

#[derive(Debug)]
struct Rang(AtomicBool);

impl Wake for Rang {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self(Arc::new(Rang(AtomicBool::new(true))))
    }
}

impl Alarm {
    /// One that rang, so that what it is for is asked once.
    pub fn new() -> Self {
        Self::default()
    }

    /// What wakes it.
    pub fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Whether it was woken since the last time.
    pub fn rang(&mut self) -> bool {
        self.0.0.swap(false, Ordering::Relaxed)
    }

    /// Asks `poll`, if it was woken since that was pending.
    pub fn poll<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        if !self.rang() {
            return Poll::Pending;
        }
        let waker = self.waker();
        let answer = poll(&mut Context::from_waker(&waker));
        if answer.is_ready() {
            waker.wake();
        }
        answer
    }
}
