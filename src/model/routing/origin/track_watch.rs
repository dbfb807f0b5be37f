//! The tracks of the broadcasts that a peer asked for by a prefix (moq-transport, SUBSCRIBE_TRACKS).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::announce_reader::announcement;
use super::peer_tracks::PeerTracks;
use crate::census::census;
use crate::machine::{Announcement, FramePosition};
use crate::model::base::{Horizon, ReadyList};
use crate::model::cache::TrackConsumer;
use crate::model::routing::broadcast::{BroadcastConsumer, TrackNames};
use crate::model::routing::table::{RouteChange, RouteEntry};
use crate::slab::{Key, Slab};
use crate::{Error, Path};

/// The largest number of broadcasts that are visited before others have a turn.
const STEP: usize = 256;

/// Reads the tracks of the broadcasts that a reader of announcements finds. Only broadcasts that have something new are
/// visited.
pub(super) struct TrackWatch {
    /// The prefix that the peer asked for.
    prefix: Path,
    horizon: Horizon,
    /// The broadcasts are announced as well.
    names: bool,
    broadcasts: Slab<WatchedBroadcast>,
    by_suffix: BTreeMap<Path, Key>,
    /// The slots of broadcasts that may have another track.
    ready: ReadyList,
    /// The slots of broadcasts with a track that no route led to.
    unroutable: Vec<usize>,
}

/// A broadcast whose tracks are announced.
struct WatchedBroadcast {
    suffix: Path,
    broadcast: BroadcastConsumer,
    names: TrackNames,
    /// A track that no route led to.
    next: Option<Arc<str>>,
    /// A track whose properties are not known yet.
    found: Option<TrackConsumer>,
    /// Whether the peer can't be told of it, because no route to it is left that does not lead back. It is kept with its
    /// position until it ends, so that its tracks are not announced twice.
    is_hidden: bool,
    waker: Waker,
}

impl TrackWatch {
    pub(super) fn new(prefix: Path, horizon: Horizon, names: bool) -> Self {
        let (broadcasts, by_suffix, ready, unroutable) = Default::default();
        Self { prefix, horizon, names, broadcasts, by_suffix, ready, unroutable }
    }

    /// The next track that the peer does not have, or the next change of the broadcasts. `change` returns that change, and
    /// registers the waker if there is none.
    pub(super) fn poll_next(
        &mut self,
        waker: &Waker,
        has: &PeerTracks,
        mut change: impl FnMut() -> Poll<(Path, RouteChange<BroadcastConsumer>)>,
    ) -> Poll<Announcement> {
        // Something has changed since, which may be a route.
        for slot in std::mem::take(&mut self.unroutable) {
            self.broadcasts.at(slot).inspect(|(_, watched)| watched.waker.wake_by_ref());
        }
        for _ in 0..STEP {
            if let Some(slot) = self.ready.pop() {
                if let Some(track) = self.next_of(slot as usize, has) {
                    return Poll::Ready(track);
                }
                continue;
            }
            let Poll::Ready((suffix, change)) = change() else {
                if self.ready.poll_ready(&mut Context::from_waker(waker)).is_pending() {
                    return Poll::Pending;
                }
                continue;
            };
            let name = self.names.then(|| announcement(suffix.clone(), &change));
            match change {
                RouteChange::Announced(entry) => self.begin(suffix, entry),
                RouteChange::Gone => self.hide(&suffix),
                RouteChange::Rerouted(_) => {}
            }
            if let Some(name) = name {
                return Poll::Ready(name);
            }
        }
        waker.wake_by_ref();
        Poll::Pending
    }

    fn begin(&mut self, suffix: Path, entry: RouteEntry<BroadcastConsumer>) {
        let broadcast = entry.broadcast.uncounted();
        if let Some(key) = self.by_suffix.get(&suffix).copied() {
            if let Some(known) = self.broadcasts.get_mut(key) {
                if known.broadcast.is_clone(&broadcast) {
                    known.is_hidden = false;
                    return known.waker.wake_by_ref();
                }
            }
            self.broadcasts.remove(key);
        }
        let (names, ready) = (broadcast.track_names(), &self.ready);
        let key = self.broadcasts.insert_with(|slot| WatchedBroadcast {
            suffix: suffix.clone(),
            broadcast,
            names,
            next: None,
            found: None,
            is_hidden: false,
            waker: ready.waker(slot.into()),
        });
        self.by_suffix.insert(suffix, key);
        self.broadcasts.get_mut(key).inspect(|begun| begun.waker.wake_by_ref());
    }

    fn hide(&mut self, suffix: &Path) {
        let Some(key) = self.by_suffix.get(suffix) else { return };
        if let Some(watched) = self.broadcasts.get_mut(*key) {
            watched.is_hidden = true;
            watched.waker.wake_by_ref();
        }
    }

    /// The next track of a broadcast.
    fn next_of(&mut self, slot: usize, has: &PeerTracks) -> Option<Announcement> {
        let (key, watched) = self.broadcasts.at(slot)?;
        let waker = watched.waker.clone();
        if watched.is_hidden {
            if watched.names.poll_closed(Some(&waker)).is_ready() {
                self.by_suffix.remove(&watched.suffix);
                self.broadcasts.remove(key);
            }
            return None;
        }
        let mut track = match watched.found.take() {
            Some(track) => track,
            None => {
                let next = watched.next.take().map(Poll::Ready);
                let next = next.unwrap_or_else(|| watched.names.poll_name(Some(&waker)));
                let Poll::Ready(name) = next else { return None };
                match watched.broadcast.serve_track(&name, None, self.horizon) {
                    Ok(track) => track,
                    // Its routes have changed, and the change was not read yet.
                    Err(Error::Unroutable) => {
                        watched.next = Some(name);
                        self.unroutable.push(slot);
                        return None;
                    }
                    Err(_) => {
                        // There may be more.
                        waker.wake_by_ref();
                        return None;
                    }
                }
            }
        };
        match track.poll_info(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                watched.found = Some(track);
                None
            }
            Poll::Ready(info) => {
                waker.wake_by_ref();
                if has.contains(&self.prefix.join(&watched.suffix), &track) {
                    return None;
                }
                let (suffix, largest) =
                    (watched.suffix.clone(), track.last_position(FramePosition::MAX));
                Some(Announcement::Track {
                    suffix,
                    track: track.name().into(),
                    info: info.ok()?,
                    largest,
                })
            }
        }
    }
}

census! { TrackWatch { counts: by_suffix, unroutable; within: broadcasts; plain: prefix, horizon, names, ready; } }
census! { each WatchedBroadcast { counts: found, next; plain: suffix, broadcast, names, is_hidden, waker; } }
