//! A track that may be gone.

use std::sync::{Arc, Weak};

use super::consumer::TrackConsumer;
use super::state::TrackShared;
use crate::Subscription;
use crate::model::base::{DeferredWakes, Horizon};

/// A track that may be gone: what a broadcast keeps.
#[derive(Clone, Debug)]
pub(crate) struct WeakTrack(Weak<TrackShared>);

impl WeakTrack {
    pub(super) fn new(shared: &Arc<TrackShared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// Reads the track, or only asks what it is, if somebody still writes or was asked to write it, or
    /// ended it cleanly and holds on to it.
    pub(crate) fn subscribe(
        &self,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
    ) -> Option<TrackConsumer> {
        let shared = self.0.upgrade()?;
        let mut wakes = DeferredWakes::default();
        let consumer = TrackConsumer::new(shared.clone(), want, horizon, &mut wakes);
        wakes.wake();
        // Asked last: from now on the producers see a reader.
        shared.is_alive().then_some(consumer)
    }

    /// Whether it is that track.
    pub(crate) fn is_of(&self, track: &Arc<TrackShared>) -> bool {
        self.0.as_ptr() == Arc::as_ptr(track)
    }

    /// The track, to look at. It may be the last handle: not to be dropped under a lock.
    pub(crate) fn upgrade(&self) -> Option<Arc<TrackShared>> {
        self.0.upgrade()
    }
}

#[cfg(any(test, feature = "sim"))]
impl crate::census::Counted for WeakTrack {
    fn count(&self, name: &'static str, census: &mut crate::census::Census) {
        if let Some(track) = self.upgrade() {
            track.count(name, census);
        }
    }
}
