//! Time as an argument: [`Instant`] for the clock of a session, [`Timestamp`] for media.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on the caller's clock, in whole microseconds since an epoch that the caller chose.
///
/// The core never reads a clock. An adapter converts its clock once per turn, and a simulation counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// The instant `micros` microseconds after the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The instant `millis` milliseconds after the epoch, clamped to the last representable one.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this instant, or zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the last representable instant.
    fn add(self, rhs: Duration) -> Self {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

/// Units per second of a track's timestamps, 1 to 2^62-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timescale(u64);

impl Timescale {
    /// A thousand units per second: the default, and the timescale of versions without timestamps.
    pub const MILLIS: Self = Self(1_000);
    /// A million units per second.
    pub const MICROS: Self = Self(1_000_000);

    /// The timescale with this many units per second; `None` for 0 and for values that no version can
    /// carry.
    pub const fn new(units_per_second: u64) -> Option<Self> {
        if units_per_second == 0 || units_per_second >= 1 << 62 {
            None
        } else {
            Some(Self(units_per_second))
        }
    }

    /// Units per second.
    pub const fn units(self) -> u64 {
        self.0
    }

    /// Converts `value` units to microseconds, saturating.
    pub const fn to_micros(self, value: u64) -> u64 {
        let micros = value as u128 * 1_000_000 / self.0 as u128;
        if micros > u64::MAX as u128 { u64::MAX } else { micros as u64 }
    }

    /// Converts microseconds to whole units, rounding down and saturating.
    pub const fn from_micros(self, micros: u64) -> u64 {
        let units = micros as u128 * self.0 as u128 / 1_000_000;
        if units > u64::MAX as u128 { u64::MAX } else { units as u64 }
    }
}

impl Default for Timescale {
    fn default() -> Self {
        Self::MILLIS
    }
}

/// The presentation time of a frame, in units of its track's [`Timescale`], at most 2^61-1.
///
/// It is unrelated to the time when the frame was sent, which is an [`Instant`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The start of the media.
    pub const ZERO: Self = Self(0);
    /// The largest timestamp that the wire can carry as a delta (moq-lite, FRAME).
    pub const MAX: Self = Self((1 << 61) - 1);

    /// `units` of the track's timescale, at most [`Timestamp::MAX`].
    pub const fn new(units: u64) -> Self {
        if units > Self::MAX.0 { Self::MAX } else { Self(units) }
    }

    /// Units of the track's timescale.
    pub const fn units(self) -> u64 {
        self.0
    }
}

impl From<u64> for Timestamp {
    fn from(units: u64) -> Self {
        Self::new(units)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
