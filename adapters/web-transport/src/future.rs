//! Futures that are kept while they wait, because the carriers lose data or wakes with a future that is dropped.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use web_transport_trait::MaybeSend;

#[cfg(not(target_family = "wasm"))]
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
#[cfg(target_family = "wasm")]
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T>>>;

pub(crate) fn boxed<F: Future + MaybeSend + 'static>(future: F) -> BoxFuture<F::Output> {
    Box::pin(future)
}

/// State that a future shares with the session, which polls it. They never run at the same time.
pub(crate) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Between a [`Source`] and its future.
pub(crate) struct Slot<T>(Shared<SlotState<T>>);

struct SlotState<T> {
    is_wanted: bool,
    value: Option<T>,
}

impl<T> Slot<T> {
    /// Resolves when the session wants a value.
    pub(crate) async fn wanted(&self) {
        poll_fn(|_| if self.0.lock().is_wanted { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    pub(crate) fn put(&self, value: T) {
        let mut state = self.0.lock();
        (state.is_wanted, state.value) = (false, Some(value));
    }
}

/// One value after the other, from a future that is never dropped while it waits for the next one.
pub(crate) struct Source<T> {
    slot: Slot<T>,
    future: Option<BoxFuture<()>>,
}

impl<T> Source<T> {
    /// The future that `make` returns waits until a value is [wanted](Slot::wanted), [puts](Slot::put) it, and so
    /// on.
    pub(crate) fn new<F>(make: impl FnOnce(Slot<T>) -> F) -> Self
    where
        F: Future<Output = ()> + MaybeSend + 'static,
    {
        let shared = Shared::new(SlotState { is_wanted: false, value: None });
        let future = boxed(make(Slot(shared.clone())));
        Self { slot: Slot(shared), future: Some(future) }
    }

    /// The next value. It is pending for ever after the future has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(future) = &mut self.future {
            self.slot.0.lock().is_wanted = true;
            if future.as_mut().poll(cx).is_ready() {
                self.future = None;
            }
        }
        self.slot.0.lock().value.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The output of `future`, or `None` as soon as `is_over` says so. Only then is the future dropped early.
pub(crate) async fn unless<F: Future>(
    future: F,
    mut is_over: impl FnMut() -> bool,
) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| if is_over() { Poll::Ready(None) } else { future.as_mut().poll(cx).map(Some) })
        .await
}
