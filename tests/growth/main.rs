//! The cost of one more item of each list that a peer or many readers can lengthen: the same for a few items
//! and for ten times as many. It is counted in calls, wake-ups, allocations and bytes, never in seconds.
//!
//! | module | lists |
//! |---|---|
//! | `tracks` | readers, open groups and fetches of a track; tracks of a broadcast and requests for them |
//! | `sessions` | sessions of an origin; subscriptions, fetches, requests and datagrams of a session |
//! | `origins` | paths, listeners, handlers and requests of an origin; paths of a broadcast |
//! | `announcements` | announce requests of a peer |
//!
//! `src/model/tests/growth.rs` counts what is not visible from outside.

mod announcements;
mod origins;
mod sessions;
mod tracks;
#[path = "../unread/mod.rs"]
mod unread;

use std::time::Duration;

use allocation_counter::measure;
use smoq::Subscription;

/// Asserts that each of ten times `few` items costs at most a tenth more than each of `few`.
fn assert_flat(what: &str, few: usize, cost: impl Fn(usize) -> usize) {
    let costs = [few, 10 * few].map(|n| cost(n) as f64 / n as f64);
    assert!(costs[0] > 0.0, "{what}: nothing was counted");
    assert_each_flat(what, costs, 0.1, 0.0);
}

/// As [`assert_flat`], for the cost of 40 and 400 items in lists that double their capacity when they are
/// full: each may cost a fifth more.
fn assert_amortized(what: &str, cost: impl Fn(usize) -> usize) {
    // The first run includes what is made only once.
    cost(1);
    assert_each_flat(what, [40, 400].map(|n| cost(n) as f64 / n as f64), 0.2, 0.5);
}

/// Asserts that one of many items costs no more than one of a few, apart from a `share` of that cost and a
/// constant `slack`.
fn assert_each_flat(what: &str, [few, many]: [f64; 2], share: f64, slack: f64) {
    let bound = few + few.abs() * share + slack;
    assert!(many <= bound, "{what}: {few} for each of a few, {many} for each of ten times as many");
}

/// The number of allocations of `work`.
fn allocations(work: impl FnOnce()) -> usize {
    measure(work).count_total as usize
}

/// A subscription for all groups.
fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}
