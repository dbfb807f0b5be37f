//! When the clock ticks and what it shows. The time is an argument.

use std::time::Duration;

/// A tick that is early by less than this shows the next second. While a system adjusts its clock, the
/// seconds of that clock and of a timer differ slightly.
const EARLY: Duration = Duration::from_millis(20);

/// Determines what to publish. The times of the ticks and the timestamps follow a clock that never goes
/// back. The text follows the wall clock, which may be changed at any time.
pub(crate) struct Ticks {
    /// The wall clock at the beginning, since 1970.
    began: Duration,
    group: Option<Minute>,
}

/// The group that is open.
#[derive(Clone, Copy)]
struct Minute {
    sequence: u64,
    /// By the wall clock, since 1970.
    shown: u64,
}

/// The output for one second.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    /// A group that begins now: its number, which is higher than the last one, and its first frame.
    pub(crate) begins: Option<(u64, String)>,
    /// The frame: `SS`.
    pub(crate) second: String,
    /// The timestamp of all frames of this tick, in milliseconds. It never goes back.
    pub(crate) timestamp: u64,
    /// The time of the next tick, since the beginning.
    pub(crate) next: Duration,
}

impl Ticks {
    /// `wall` is the time since 1970 by the wall clock.
    pub(crate) fn new(wall: Duration) -> Self {
        Self { began: wall, group: None }
    }

    /// `wall` is as for [`new`](Self::new). `since_begin` is the time since then on a clock that is never
    /// changed.
    pub(crate) fn tick(&mut self, wall: Duration, since_begin: Duration) -> Tick {
        let second = (wall + EARLY).as_secs();
        let minute = second / 60;
        let begins = match self.group {
            Some(group) if group.shown == minute => None,
            before => {
                // The number of the minute, or the previous number if the clock was set back.
                let sequence = before.map_or(minute, |before| minute.max(before.sequence + 1));
                self.group = Some(Minute { sequence, shown: minute });
                Some((sequence, date_and_minute(minute)))
            }
        };
        Tick {
            begins,
            second: format!("{:02}", second % 60),
            timestamp: (self.began + since_begin).as_millis() as u64,
            next: since_begin + Duration::from_secs(second + 1).saturating_sub(wall),
        }
    }
}

/// `YYYY-MM-DD HH:MM:` of a minute since 1970, in the Gregorian calendar.
pub(crate) fn date_and_minute(minute: u64) -> String {
    // With years that begin in March, the leap day is the last day. Every era of 400 years is the same.
    let days = minute / (24 * 60) + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:", minute / 60 % 24, minute % 60)
}
