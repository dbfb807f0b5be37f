//! The clock and the timers of a session.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use smoq::{Clock, Instant};
use web_transport_trait::MaybeSend;

use crate::future::{BoxFuture, boxed};

/// The timers of an async runtime.
///
/// Every function from a [`Duration`] to a future is one, such as `tokio::time::sleep`. On wasm, where the standard
/// library has no clock, implement it for a type of your own.
pub trait Timer: MaybeSend + 'static {
    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + MaybeSend + 'static;

    /// The time now. All sessions of an origin must agree on it; `clock` is that of the origin. The default reads
    /// the clock of the standard library.
    #[cfg(not(target_family = "wasm"))]
    fn now(&self, clock: &Clock) -> Instant {
        #[expect(clippy::disallowed_methods, reason = "here the adapter reads the clock")]
        clock.instant(std::time::Instant::now())
    }

    /// The time now: since the start of the page, for example. All sessions of an origin must agree on it.
    #[cfg(target_family = "wasm")]
    fn now(&self, clock: &Clock) -> Instant;
}

#[cfg(not(target_family = "wasm"))]
impl<F, S> Timer for F
where
    F: Fn(Duration) -> S + MaybeSend + 'static,
    S: Future<Output = ()> + MaybeSend + 'static,
{
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + MaybeSend + 'static {
        self(duration)
    }
}

/// Waits for one deadline at a time.
pub(crate) struct Alarm<T> {
    timer: T,
    clock: Clock,
    /// A timer that runs, and when it ends.
    armed: Option<(Instant, BoxFuture<()>)>,
}

impl<T: Timer> Alarm<T> {
    pub(crate) fn new(timer: T, clock: Clock) -> Self {
        Self { timer, clock, armed: None }
    }

    pub(crate) fn now(&self) -> Instant {
        self.timer.now(&self.clock)
    }

    /// Ready when `deadline` has passed. Most deadlines move away before they come, so a timer that runs is
    /// kept if it is not late.
    pub(crate) fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        loop {
            let now = self.now();
            if deadline <= now {
                return Poll::Ready(());
            }
            if self.armed.as_ref().is_none_or(|(at, _)| *at > deadline) {
                let sleep = self.timer.sleep(deadline.since(now));
                self.armed = Some((deadline, boxed(sleep)));
            }
            if let Some((_, sleep)) = &mut self.armed {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.armed = None;
            }
        }
    }
}
