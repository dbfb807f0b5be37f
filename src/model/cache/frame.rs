//! A whole frame in the cache.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::page::{Page, Slot};
use crate::{Properties, Timestamp};

/// A whole frame: a handle into the cache, cheap to clone, that keeps the payload as long as it lives.
///
/// It keeps the page of the cache that the frame is on, up to 32 frames of its group. To keep few
/// frames for long, copy them.
#[derive(Clone)]
pub struct Frame {
    page: Arc<Page>,
    index: u64,
}

impl Frame {
    #[inline]
    pub(crate) fn on(page: &Arc<Page>, index: u64) -> Option<Self> {
        page.slot(index).is_some().then(|| Self { page: page.clone(), index })
    }

    /// The presentation time, in units of the track's timescale.
    pub fn timestamp(&self) -> Timestamp {
        self.slot().map_or(Timestamp::ZERO, Slot::timestamp)
    }

    /// The number of the frame in its group, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The payload. A payload that is stored in several pieces is joined by the first call.
    pub fn payload(&self) -> &[u8] {
        self.slot().map_or(&[], |slot| slot.payload(self.page.charge()))
    }

    /// The payload, shared. It is copied only if it is stored in several pieces and was not joined
    /// before.
    pub fn bytes(&self) -> Bytes {
        self.slot().map_or_else(Bytes::new, |slot| slot.bytes(self.page.charge()))
    }

    /// The properties of the object, if it came by moq-transport and has others than a timestamp.
    /// [`Properties::NONE`] if it came without any. They are read with [`Properties::pairs`].
    pub fn properties(&self) -> Option<&Properties> {
        self.slot().and_then(Slot::properties)
    }

    /// Length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.slot().map_or(0, Slot::len)
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Always `Some`: a handle is created only for a slot that is set.
    fn slot(&self) -> Option<&Slot> {
        self.page.slot(self.index)
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("index", &self.index)
            .field("timestamp", &self.timestamp())
            .field("len", &self.len())
            .finish()
    }
}
