//! Relays far away from their viewers, on paths that lose packets at random, as wireless links do.

use std::time::Duration;

use super::congested::ages;
use super::relay::Traffic;
use crate::case::Case;
use crate::relays::Relays;

/// Viewers of 8 Mbit/s each, groups of one second.
const VIEWERS: usize = 5;
const MBPS: f64 = 8.0;
const GROUP: u64 = 833;

pub(crate) fn cases(quick: bool, relays: &Relays) -> Vec<Case> {
    if relays.sides().is_empty() {
        return Vec::new();
    }
    let case = |percent: u64| {
        let mut traffic = Traffic::new(VIEWERS, Some(MBPS), quick);
        traffic.group = GROUP;
        traffic.max_age = Duration::from_millis(500);
        traffic.far = Some(10 * percent);
        if !quick {
            (traffic.warm_up, traffic.time) = (Duration::from_secs(2), Duration::from_secs(8));
        }
        ages(&format!("far/loss-{percent}"), traffic, relays)
    };
    (if quick { 1..=1 } else { 0..=2 }).map(case).collect()
}
