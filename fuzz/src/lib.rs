//! The bodies of the fuzz targets, without libfuzzer: `tests/fuzz_replay.rs` of the crate runs them on
//! everything that was kept.

mod coding;
mod session_bytes;

/// Decodes `data` as every message of every version.
pub fn coding(data: &[u8]) {
    coding::run(data);
}

/// Does what `data` says to one machine.
pub fn session_bytes(data: &[u8]) {
    session_bytes::run(data);
}
