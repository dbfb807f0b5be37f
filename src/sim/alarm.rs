//! Polling only after a wake-up.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

/// A reader that is polled again only after it was woken, as by an executor. A test with it notices a lost
/// wake-up.
#[derive(Clone, Debug)]
pub struct Alarm(Arc<Signal>);

#[derive(Debug)]
struct Signal(AtomicBool);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self(Arc::new(Signal(AtomicBool::new(true))))
    }
}

impl Alarm {
    /// An alarm that has been woken already, so that the first poll takes place.
    pub fn new() -> Self {
        Self::default()
    }

    /// The waker that sets it.
    pub fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Whether it was woken since the last call.
    pub fn rang(&mut self) -> bool {
        self.0.0.swap(false, Ordering::Relaxed)
    }

    /// Calls `poll` if the alarm was woken since `poll` last returned pending.
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
