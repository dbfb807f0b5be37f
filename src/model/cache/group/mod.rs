//! Groups: frames in order, from any number of writers to any number of readers.

mod cached_group;
mod consumer;
mod cursor;
mod producer;

pub(crate) use cached_group::{CachedGroup, GroupForm};
pub use consumer::{FrameConsumer, GroupConsumer};
pub(crate) use cursor::GroupCursor;
pub use producer::{FrameProducer, GroupProducer};

use crate::Error;
use crate::coding::varint;
use crate::model::base::Result;
use crate::subscription::Subscription;

/// Describes a group before it is created: its number in the track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Increases within the track. Gaps are allowed.
    pub sequence: u64,
}

impl Group {
    /// The highest sequence of a group. One past it is the largest number on the wire, where a
    /// track may end.
    pub const MAX: u64 = varint::MAX - 1;

    /// Fails for a sequence that no version can carry.
    pub(crate) fn check(sequence: u64) -> Result<u64> {
        match sequence {
            ..=Self::MAX => Ok(sequence),
            _ => Err(Error::Unrepresentable("a group number above 2^62-2")),
        }
    }
}

impl Subscription {
    /// The same, with group numbers clamped to those that the wire can carry.
    pub(crate) fn clamp(self) -> Self {
        let clamp = |group: Option<u64>| group.map(|group| group.min(Group::MAX));
        let (start, end, new_group) = (clamp(self.start), clamp(self.end), clamp(self.new_group));
        Self { start, end, new_group, ..self }
    }

    /// Fails if [`clamp`](Self::clamp) would change a group number.
    pub(crate) fn check(&self) -> Result<()> {
        [self.start, self.end].into_iter().flatten().try_for_each(|n| Group::check(n).map(|_| ()))
    }
}

impl From<u64> for Group {
    fn from(sequence: u64) -> Self {
        Self { sequence }
    }
}
