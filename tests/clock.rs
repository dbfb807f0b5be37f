//! The clock of the examples: when it ticks and what it shows while the wall clock is changed.

#[path = "../examples/clock/time.rs"]
mod time;

use std::time::Duration;

use time::{Tick, Ticks, date_and_minute};

#[test]
fn dates() {
    for (day, date) in [
        (0, "1970-01-01"),
        (11_016, "2000-02-29"),
        (11_017, "2000-03-01"),
        (19_782, "2024-02-29"),
        (20_088, "2024-12-31"),
        (47_540, "2100-02-28"),
        (47_541, "2100-03-01"),
    ] {
        assert_eq!(date_and_minute(day * 1_440 + 754), format!("{date} 12:34:"));
    }
}

/// Lets the clock tick at the times that it requests. `set` returns by how many milliseconds the wall clock
/// is changed before each tick.
fn run(count: u64, set: impl Fn(u64) -> i64) -> Vec<Tick> {
    // 12:34:56.789 on a day in 2024.
    let mut wall = 1_709_210_096_789_u64;
    let mut ticks = Ticks::new(Duration::from_millis(wall));
    let mut since_begin = Duration::ZERO;
    let mut made = Vec::new();
    for number in 0..count {
        wall = wall.checked_add_signed(set(number)).unwrap();
        let tick = ticks.tick(Duration::from_millis(wall), since_begin);
        let pause = tick.next - since_begin;
        wall += pause.as_millis() as u64;
        since_begin = tick.next;
        made.push(tick);
    }
    made
}

/// Checks the ticks, which must be right however the wall clock is changed.
fn check(ticks: &[Tick]) {
    let groups: Vec<_> = ticks.iter().filter_map(|tick| tick.begins.as_ref()).collect();
    assert!(groups.windows(2).all(|two| two[0].0 < two[1].0), "{groups:?}");
    for two in ticks.windows(2) {
        assert!(two[0].timestamp <= two[1].timestamp, "{two:?}");
        let pause = two[1].next - two[0].next;
        assert!(pause <= Duration::from_millis(1_020), "{two:?}");
    }
}

fn shown(ticks: &[Tick]) -> Vec<&str> {
    ticks.iter().map(|tick| &*tick.second).collect()
}

#[test]
fn the_clock_ticks_at_the_start_of_each_second() {
    let ticks = run(6, |_| 0);
    check(&ticks);
    assert_eq!(shown(&ticks), ["56", "57", "58", "59", "00", "01"]);
    let begins: Vec<_> = ticks.iter().map(|tick| tick.begins.clone()).collect();
    let minute = 1_709_210_096 / 60;
    assert_eq!(begins[0], Some((minute, "2024-02-29 12:34:".into())));
    assert_eq!(begins[4], Some((minute + 1, "2024-02-29 12:35:".into())));
    assert!([1, 2, 3, 5].iter().all(|&at| begins[at].is_none()), "{begins:?}");
    assert_eq!(ticks[0].next, Duration::from_millis(211));
    assert_eq!(ticks[5].next, Duration::from_millis(5_211));
}

/// By seconds within a minute, across a minute, by an hour, and by years.
#[test]
fn a_clock_that_is_set_back_keeps_ticking() {
    for seconds in [1, 2, 5, 59, 60, 3_600, 50 * 365 * 86_400] {
        let ticks = run(200, |number| if number == 3 { -seconds * 1_000 } else { 0 });
        check(&ticks);
        let expected = 96_i64 + 3 - seconds;
        assert_eq!(ticks[3].second, format!("{:02}", (1_709_210_000 + expected).rem_euclid(60)));
    }
    // Also by part of a second, on each second, and to the epoch.
    check(&run(200, |_| -150));
    check(&run(200, |_| -1_000));
    check(&run(3, |number| if number == 1 { -1_709_210_097_000 } else { 0 }));
}

#[test]
fn a_clock_that_is_set_forward_continues_from_there() {
    let ticks = run(200, |number| if number == 2 { 3_600_000 } else { 0 });
    check(&ticks);
    assert_eq!(shown(&ticks[..4]), ["56", "57", "58", "59"]);
    let minute = 1_709_210_096 / 60;
    assert_eq!(ticks[2].begins, Some((minute + 60, "2024-02-29 13:34:".into())));
    // And back again, after the clock was wrong for a while. No number is used twice.
    check(&run(400, |number| {
        [0, 3_600_000, -3_600_000][match number {
            70 => 1,
            140 => 2,
            _ => 0,
        }]
    }));
}

/// A timer that ends slightly early shows the second that it was set for, and no second twice.
#[test]
fn a_slow_clock_skips_no_second() {
    let ticks = run(200, |number| if number == 0 { 0 } else { -10 });
    check(&ticks);
    let seconds: Vec<u64> = ticks.iter().map(|tick| tick.second.parse().unwrap()).collect();
    assert!(seconds.windows(2).all(|two| two[1] == (two[0] + 1) % 60), "{seconds:?}");
}
