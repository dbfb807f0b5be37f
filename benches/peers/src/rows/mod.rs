//! The cases: one file per kind of work, one function per side.

pub(crate) mod chat;
pub(crate) mod congested;
pub(crate) mod cores;
pub(crate) mod far;
pub(crate) mod heap;
pub(crate) mod idle;
pub(crate) mod polled;
pub(crate) mod quic;
pub(crate) mod relay;
pub(crate) mod sessions;
pub(crate) mod stress;
pub(crate) mod tasks;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// The versions that the rows name.
pub(crate) const MOQ_NET: &str = "moq-net";
pub(crate) const MOQ_LITE: &str = "moq-lite";

/// Frames of a group.
pub(crate) const FRAMES: u64 = 30;
/// Bytes of a frame.
pub(crate) const SIZE: usize = 1_200;
/// The oldest group that a reader takes. moq-lite 0.16 has no such bound.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(1);

/// Groups that one writer writes for some readers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) readers: usize,
    pub(crate) groups: u64,
}

/// The measure of a model case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Nanoseconds,
    Allocations,
}

impl Load {
    pub(crate) fn payload(&self) -> Bytes {
        black_box(vec![7; SIZE]).into()
    }

    /// 30 frames a second, in milliseconds.
    pub(crate) fn timestamp(group: u64, frame: u64) -> u64 {
        (group * FRAMES + frame) * 1_000 / 30
    }

    /// With those that warm up.
    pub(crate) fn all_groups(&self) -> u64 {
        self.groups / 10 + 1 + self.groups
    }

    /// Calls `group` for each group, and returns time or allocations by delivery. The first tenth is not counted.
    pub(crate) fn measure(&self, count: Count, mut group: impl FnMut(u64)) -> f64 {
        let all = self.all_groups() - self.groups..self.all_groups();
        (0..all.start).for_each(&mut group);
        let counted = match count {
            Count::Nanoseconds => {
                let begun = Instant::now();
                all.for_each(group);
                begun.elapsed().as_nanos() as f64
            }
            Count::Allocations => {
                allocation_counter::measure(|| all.for_each(group)).count_total as f64
            }
        };
        counted / (self.groups * FRAMES * self.readers as u64) as f64
    }
}

/// The runtime of one thread that the peers need, and that tasks run on.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
