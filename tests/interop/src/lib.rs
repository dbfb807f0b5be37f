//! Published MoQ crates as peers for tests, over raw QUIC on loopback.
//!
//! Raw QUIC means: no HTTP/3, no WebTransport, the ALPN is the version (`moq-lite-04`).
//!
//! - [`peers`]: `peers::lite016` (moq-lite 0.16.3), `peers::net03` (moq-net 0.3.18), `peers::cf017`
//!   (moq-transport 0.17.0) and smoq itself with both of its adapters, behind one small trait,
//!   [`peers::Peer`].
//! - [`suite`]: the tests, each written once and run with any peers; [`suite_modern`]: those for the
//!   features of moq-lite 05.
//! - [`by_hand`]: a client of moq-transport for requests that the peers never send.
//! - [`quic`]: the quinn endpoints that the peers use, for our own side as well.
//! - [`certs`]: a self-signed certificate, and a verifier that accepts any.
//! - [`payload`]: cheap deterministic frames.
//!
//! Every wait is bounded: [`within`] panics after [`PATIENCE`] and names the event. Only the peers' own
//! refusals and errors are returned as a [`peers::Failure`].

pub mod by_hand;
pub mod certs;
mod matrix;
pub mod payload;
pub mod peers;
pub mod quic;
pub mod suite;
pub mod suite_modern;

use std::{
    future::{Future, poll_fn},
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    time::Duration,
};

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits `future`, and panics with `what` after [`PATIENCE`].
pub async fn within<T>(what: impl std::fmt::Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out after {} s waiting for {what}", PATIENCE.as_secs()),
    }
}

/// How often a test is tried before it fails.
///
/// The published peers have races of their own, even with no smoq between them: about one test of a thousand
/// fails when the machine is busy. A test that needs its second attempt is told on the standard error, past the
/// test harness, so that a rare fault of smoq is not hidden.
const ATTEMPTS: usize = 2;

/// Runs a test up to two times, and fails as its last attempt did.
pub async fn attempts<F: Future<Output = ()>>(name: &str, test: impl Fn() -> F) {
    for attempt in 1.. {
        let mut running = pin!(test());
        let polled = poll_fn(|cx| {
            let poll = AssertUnwindSafe(|| running.as_mut().poll(cx));
            match catch_unwind(poll) {
                Ok(poll) => poll.map(Ok),
                Err(panic) => std::task::Poll::Ready(Err(panic)),
            }
        });
        match polled.await {
            Ok(()) => return,
            Err(panic) if attempt == ATTEMPTS => resume_unwind(panic),
            Err(_) => {
                let _ = writeln!(std::io::stderr(), "attempt {attempt} failed: {name}");
            }
        }
    }
}

/// Prints the peers' log to the test's output, filtered by `RUST_LOG` (`moq_net=debug,quinn=info`);
/// silent without it.
pub fn log() {
    use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};
    let Ok(filter) = std::env::var("RUST_LOG") else {
        return;
    };
    let filter: Targets = filter.parse().expect("RUST_LOG: a list of target=level");
    let print = tracing_subscriber::fmt::layer().with_test_writer();
    let _ = tracing_subscriber::registry().with(filter).with(print).try_init();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// Counts the attempts, and fails the first `failures` of them.
    async fn attempts_of(failures: usize) -> usize {
        let attempts = AtomicUsize::new(0);
        super::attempts("a test of attempts", async || {
            tokio::task::yield_now().await;
            assert!(attempts.fetch_add(1, Relaxed) >= failures, "it failed");
        })
        .await;
        attempts.into_inner()
    }

    #[tokio::test]
    async fn a_test_that_fails_once_is_tried_again() {
        assert_eq!(attempts_of(0).await, 1);
        assert_eq!(attempts_of(1).await, 2);
    }

    #[tokio::test]
    #[should_panic(expected = "it failed")]
    async fn a_test_that_always_fails_fails() {
        attempts_of(usize::MAX).await;
    }
}
