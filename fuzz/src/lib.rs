//! The bodies of the fuzz targets, without libfuzzer: `tests/fuzz_replay.rs` of the crate runs them on
//! everything that was kept.

mod coding;

/// Decodes `data` as every message of every version.
pub fn coding(data: &[u8]) {
    coding::run(data);
}
