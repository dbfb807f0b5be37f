//! The bodies of the fuzz targets, without libFuzzer. `tests/fuzz_replay.rs` of the crate runs them on the
//! corpus and on the regressions.

mod coding;
mod session_bytes;
mod session_ops;
mod webtransport;

/// Decodes `data` as every message of every version.
pub fn coding(data: &[u8]) {
    coding::run(data);
}

/// Runs the operations encoded in `data` on one machine.
pub fn session_bytes(data: &[u8]) {
    session_bytes::run(data);
}

/// Runs the operations encoded in `data` on two sessions and the applications at both ends.
pub fn session_ops(data: &[u8]) {
    session_ops::run(data);
}

/// Runs the operations encoded in `data` on one end of WebTransport.
pub fn webtransport(data: &[u8]) {
    webtransport::run(data);
}
