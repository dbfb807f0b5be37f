//! Recording: what a [trace](super::trace) holds of a session, and how it is written.

pub(super) mod digest;
pub(super) mod field;
pub(super) mod format;
pub(super) mod recorder;

pub use format::{Sink, TraceStopped};
