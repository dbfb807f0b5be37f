//! Broadcasts of sessions that ended, until another session has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::base::sync::Mutex;
use crate::model::base::{impl_debug, lock};
use crate::model::routing::Upstream;
use crate::{Error, Path};

/// Keeps the broadcasts of sessions that ended, until a later session has them again.
///
/// Without it the broadcasts of a session end with the session, and so do their readers. The sessions of a
/// [`Client`](crate::Client) with [`with_retained`](crate::Client::with_retained) leave their broadcasts here instead: they
/// stay announced, and readers wait. When a later session of the same client announces the path of such a broadcast,
/// readers go on there without an end if the first hop shows that the content is the same. Otherwise the old broadcast
/// ends. Groups that were open are completed by FETCH, or cut off if the version has no FETCH.
///
/// Only announcements with hops can show that (moq-lite 04 and later). On other versions, and if a hop does not
/// identify itself, broadcasts end with the session.
///
/// There is no timer. The code that dials again calls [`release`](Self::release) when readers have waited long enough.
/// Clones share the broadcasts. When the last clone is dropped, with the client and its sessions, the broadcasts end.
#[derive(Clone, Default)]
pub struct Retained(Arc<Kept>);

#[derive(Default)]
struct Kept(Mutex<KeptBroadcasts>);

#[derive(Default)]
struct KeptBroadcasts {
    by_path: BTreeMap<Path, Upstream>,
    /// How many broadcasts sessions announced.
    announced: u64,
}

impl Retained {
    /// Keeps nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the broadcasts that no session has again, with [`Error::SessionClosed`].
    pub fn release(&self) {
        self.0.release();
    }

    /// The number of broadcasts that are kept.
    pub fn len(&self) -> usize {
        lock(&self.0.0).by_path.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps a broadcast whose session ends. `retain` takes the place of the session, if no other session has the broadcast.
    pub(crate) fn keep(&self, path: &Path, mut retain: impl FnMut() -> Option<Upstream>) {
        loop {
            let announced = lock(&self.0.0).announced;
            let Some(kept) = retain() else { return };
            let mut state = lock(&self.0.0);
            if state.announced == announced {
                let displaced = state.by_path.insert(path.clone(), kept);
                drop(state);
                return displaced.into_iter().for_each(leave);
            }
            // It may be this one that a session has by now.
            drop(state);
            leave(kept);
        }
    }

    /// A session announced `path`. If that is the same content, it has taken the readers over.
    pub(crate) fn announced(&self, path: &Path) {
        let mut state = lock(&self.0.0);
        state.announced += 1;
        let kept = state.by_path.remove(path);
        drop(state);
        kept.into_iter().for_each(leave);
    }
}

impl Kept {
    fn release(&self) {
        let kept = std::mem::take(&mut lock(&self.0).by_path);
        kept.into_values().for_each(leave);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.release();
    }
}

fn leave(kept: Upstream) {
    kept.leave(Err(Error::SessionClosed));
}

impl_debug! { Retained, it => len: &it.len() }

#[cfg(test)]
mod tests;
