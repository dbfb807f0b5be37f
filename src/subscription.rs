//! Requests of a subscriber for a track, and declarations of its publisher.

use core::time::Duration;

use crate::properties::Properties;
use crate::time::Timescale;

/// The part of a track that a subscriber wants, and its priority (moq-lite, SUBSCRIBE).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// Higher is more important. Default 127.
    pub priority: u8,
    /// Oldest group first instead of newest first. moq-lite 03 to 05 and moq-transport carry it, although deployed peers
    /// ignore it; in other versions the newest group goes first. Default `false`.
    pub ordered: bool,
    /// Groups older than this are skipped. The age is measured in media time against the newest frame.
    /// Zero, the default, requests only the latest group; `Duration::MAX` sets no bound.
    pub max_age: Duration,
    /// The first group. Default: the latest.
    pub start: Option<u64>,
    /// The last group, inclusive. Default: no end.
    pub end: Option<u64>,
    /// Asks the publisher to begin a new group, unless the track has this group or a later one; 0 asks in any case. It
    /// takes effect once, and only where [`TrackInfo::dynamic_groups`] allows it. moq-lite can't carry it. Default:
    /// `None`.
    pub new_group: Option<u64>,
}

impl Default for Subscription {
    fn default() -> Self {
        let (start, end, new_group) = (None, None, None);
        Self { priority: 127, ordered: false, max_age: Duration::ZERO, start, end, new_group }
    }
}

impl Subscription {
    /// Sets [`priority`](Self::priority).
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Sets [`ordered`](Self::ordered).
    #[must_use]
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// Sets [`max_age`](Self::max_age).
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Sets [`start`](Self::start).
    #[must_use]
    pub fn start(mut self, group: u64) -> Self {
        self.start = Some(group);
        self
    }

    /// Sets [`end`](Self::end), inclusive.
    #[must_use]
    pub fn end(mut self, group: u64) -> Self {
        self.end = Some(group);
        self
    }

    /// Sets [`new_group`](Self::new_group).
    #[must_use]
    pub fn new_group(mut self, group: u64) -> Self {
        self.new_group = Some(group);
        self
    }
}

/// The properties of a track that its publisher declares, fixed for its lifetime (moq-lite 05+, TRACK_INFO).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrackInfo {
    /// Breaks ties between subscriptions of equal priority; higher is more important. Default 127.
    pub priority: u8,
    /// How long the publisher keeps groups. Default 5 s.
    pub max_age: Duration,
    /// The units of frame timestamps. Default: milliseconds.
    pub timescale: Timescale,
    /// Whether the publisher begins a group when a subscriber asks for one (DYNAMIC_GROUPS of moq-transport 15 and
    /// later; `false` comes out of moq-lite). Default `false`.
    pub dynamic_groups: bool,
    /// All properties, if a peer declared them by moq-transport. There they are passed on in place of the fields
    /// above. Default: `None`.
    pub properties: Option<Properties>,
}

impl Default for TrackInfo {
    fn default() -> Self {
        let (priority, max_age) = (127, Duration::from_secs(5));
        let (timescale, dynamic_groups, properties) = (Timescale::MILLIS, false, None);
        Self { priority, max_age, timescale, dynamic_groups, properties }
    }
}
