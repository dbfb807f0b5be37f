//! Counts steps of work in tests, so that they can compare the cost of one more item at n and at 10 n.

use std::cell::Cell;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Counts one item that was examined.
pub(crate) fn count_step() {
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// Runs `act`, and returns how many steps it took.
pub(crate) fn steps<T>(act: impl FnOnce() -> T) -> (u64, T) {
    let before = STEPS.get();
    let result = act();
    (STEPS.get() - before, result)
}
