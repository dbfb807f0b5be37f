//! Two ends, or one end and bytes, without a network.

mod ends;
#[path = "../../../../fuzz/src/webtransport.rs"]
mod fuzzed;
mod hostile;
mod rules;
mod sessions;
