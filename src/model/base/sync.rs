//! Locks and atomics of the model. In `tests/interleavings` they are those of a scheduler that tries interleavings of
//! threads.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
