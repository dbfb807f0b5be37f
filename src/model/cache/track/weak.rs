//! A track that may be gone.

use std::sync::{Arc, Weak};

use super::consumer::TrackConsumer;
use super::state::TrackShared;
use crate::Subscription;
use crate::model::base::{DeferredWakes, Horizon};

/// A track that may be gone. A broadcast keeps its tracks this way.
#[derive(Clone, Debug)]
pub(crate) struct WeakTrack(Weak<TrackShared>);

impl WeakTrack {
    pub(super) fn new(shared: &Arc<TrackShared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// Reads the track, or only queries its properties if `want` is `None`. `None` if no producer
    /// is left or the track was aborted.
    pub(crate) fn subscribe(
        &self,
        want: Option<Subscription>,
        horizon: Option<Horizon>,
    ) -> Option<TrackConsumer> {
        let shared = self.0.upgrade()?;
        let mut wakes = DeferredWakes::default();
        let consumer = TrackConsumer::new(shared.clone(), want, horizon, &mut wakes);
        wakes.wake();
        // Checked last, because from now on the producers see a reader.
        shared.is_alive().then_some(consumer)
    }

    /// Whether both are the same track.
    pub(crate) fn is_of(&self, track: &Arc<TrackShared>) -> bool {
        self.0.as_ptr() == Arc::as_ptr(track)
    }

    /// The state of the track. It may be the last handle, so it must not be dropped under a lock.
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
