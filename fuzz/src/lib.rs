//! The bodies of the fuzz targets, without libfuzzer: `tests/fuzz_replay.rs` of the crate runs them on
//! everything that was kept.

mod coding;
mod session_bytes;
mod session_ops;

/// Decodes `data` as every message of every version.
pub fn coding(data: &[u8]) {
    coding::run(data);
}

/// Does what `data` says to one machine.
pub fn session_bytes(data: &[u8]) {
    session_bytes::run(data);
}

/// Does what `data` says to two sessions and the applications at both ends.
pub fn session_ops(data: &[u8]) {
    session_ops::run(data);
}
