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

use std::{future::Future, time::Duration};

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits `future`, and panics with `what` after [`PATIENCE`].
pub async fn within<T>(what: impl std::fmt::Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out after {} s waiting for {what}", PATIENCE.as_secs()),
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
