//! Polling only after a wake-up.

use core::task::{Context, Poll, Waker};

use super::Wakes;

/// A reader that is polled again only after it was woken, as by an executor. A test with it notices a lost
/// wake-up.
#[derive(Clone, Debug)]
pub struct Alarm(Wakes);

impl Default for Alarm {
    fn default() -> Self {
        let wakes = Wakes::new();
        wakes.waker().wake_by_ref();
        Self(wakes)
    }
}

impl Alarm {
    /// An alarm that has been woken already, so that the first poll takes place.
    pub fn new() -> Self {
        Self::default()
    }

    /// The waker that sets it.
    pub fn waker(&self) -> Waker {
        self.0.waker().clone()
    }

    /// Whether it was woken since the last call.
    pub fn rang(&mut self) -> bool {
        self.0.take() > 0
    }

    /// Calls `poll` if the alarm was woken since `poll` last returned pending.
    pub fn poll<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        if !self.rang() {
            return Poll::Pending;
        }
        let answer = poll(&mut self.0.context());
        if answer.is_ready() {
            self.0.waker().wake_by_ref();
        }
        answer
    }
}
