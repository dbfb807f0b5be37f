//! Nothing but benches: `cargo bench -p smoq-benches`. A crate of its own, so that nobody else builds
//! what they need.
