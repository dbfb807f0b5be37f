//! When the clock ticks, and what it shows then. Told the time, it never asks for it.

use std::time::Duration;

/// A tick before a full second by less than this shows that second: while a system adjusts its clock, a second
/// there is a little longer or shorter than that of a timer.
const EARLY: Duration = Duration::from_millis(20);

/// Says what to publish. When it ticks, and the timestamps, are of a clock that only goes forward; what it
/// shows is of the wall's, which may be set back and forth meanwhile.
pub(crate) struct Ticks {
    /// What the wall's clock said at the beginning, since 1970.
    began: Duration,
    group: Option<Minute>,
}

/// The group that is open.
#[derive(Clone, Copy)]
struct Minute {
    sequence: u64,
    /// Since 1970, by the wall's clock.
    shown: u64,
}

/// One second that is shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    /// A group that begins now: its number, which is always above that of the one before, and its first frame.
    pub(crate) begins: Option<(u64, String)>,
    /// The frame: `SS`.
    pub(crate) second: String,
    /// Of all frames of this tick, in milliseconds; never goes back.
    pub(crate) timestamp: u64,
    /// When the next one is due, since the beginning.
    pub(crate) next: Duration,
}

impl Ticks {
    /// `wall`: the time since 1970, as the wall's clock has it.
    pub(crate) fn new(wall: Duration) -> Self {
        Self { began: wall, group: None }
    }

    /// `wall` as for [`new`](Self::new), and the time since then on a clock that is never set.
    pub(crate) fn tick(&mut self, wall: Duration, since_begin: Duration) -> Tick {
        let second = (wall + EARLY).as_secs();
        let minute = second / 60;
        let begins = match self.group {
            Some(group) if group.shown == minute => None,
            before => {
                // The number of the minute, unless that was passed before the clock was set back.
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
    // Years that begin in March have their leap day at the end; eras of 400 of them are all alike.
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
