//! FETCH in both directions: groups that are requested from the peer, and groups that the peer
//! requests.

use std::task::{Context, Poll};

use super::inbox::{OutgoingFetch, TrackFetcher};
use super::incoming_group::IncomingGroup;
use super::{Driver, FETCH, FETCHER, GROUP, ready_key};
use crate::machine::{Command, GroupKey, Token};
use crate::model::base::Result;
use crate::model::cache::{TrackDynamic, UpstreamFetch};
use crate::{Error, Path};

impl Driver {
    // ---- groups of the peer ------------------------------------------------------------------

    /// Handles requests for groups of a track of the peer, as long as there may be any.
    pub(crate) fn add_fetcher(
        &mut self,
        broadcast: Path,
        broadcast_token: Token,
        dynamic: TrackDynamic,
    ) {
        // The track may have come from this peer before.
        let track = dynamic.track_id();
        let known = self.inbox.fetcher_by_track.get(&track).copied();
        if let Some(fetcher) = known.and_then(|key| self.inbox.fetchers.get_mut(key)) {
            fetcher.broadcast_token = broadcast_token;
            return;
        }
        let waker = |slot| self.ready.waker(ready_key(FETCHER, slot));
        let fetcher =
            |slot| TrackFetcher { dynamic, broadcast, broadcast_token, waker: waker(slot) };
        let key = self.inbox.fetchers.insert_with(fetcher);
        self.inbox.fetcher_by_track.insert(track, key);
        self.fetcher_changed(key.0 as usize);
    }

    /// A group of a track of the peer is requested, or no more can be.
    pub(crate) fn fetcher_changed(&mut self, slot: usize) {
        while let Some((key, fetcher)) = self.inbox.fetchers.at(slot) {
            let Poll::Ready(next) = fetcher.dynamic.poll_fetch_request(Some(&fetcher.waker)) else {
                return;
            };
            let Some((wanted, priority)) = next else {
                let fetcher = self.inbox.fetchers.remove(key);
                fetcher.inspect(|fetcher| {
                    _ = self.inbox.fetcher_by_track.remove(&fetcher.dynamic.track_id())
                });
                return;
            };
            if self.inbox.broadcasts.get(fetcher.broadcast_token.into()).is_none() {
                // The path may belong to another broadcast by now.
                match wanted {
                    UpstreamFetch::Group(request) => request.reject(Error::NotFound),
                    UpstreamFetch::PartialGroup(partial) => partial.hand_back(),
                }
                continue;
            }
            let (sequence, first_frame) = match &wanted {
                UpstreamFetch::Group(request) => (request.sequence(), 0),
                UpstreamFetch::PartialGroup(partial) if self.version.fetches_parts() => {
                    (partial.sequence(), partial.first_frame())
                }
                UpstreamFetch::PartialGroup(partial) => (partial.sequence(), 0),
            };
            let (broadcast, track) = (fetcher.broadcast.clone(), fetcher.dynamic.name().into());
            let waker = |slot| self.ready.waker(ready_key(FETCH, slot));
            let answer_due = self.inbox.unanswered.due(self.now);
            let fetch = |slot| OutgoingFetch { wanted, answer_due, waker: waker(slot) };
            let key = self.inbox.fetches.insert_with(fetch);
            self.inbox.unanswered.expect_group(key, answer_due);
            let fetch = Token::from(key);
            self.machine.apply(Command::Fetch {
                fetch,
                broadcast,
                track,
                priority,
                sequence,
                first_frame,
                last_frame: None,
            });
            self.fetch_changed(fetch.slot as usize);
        }
    }

    /// The readers that wait for a group may be gone.
    pub(crate) fn fetch_changed(&mut self, slot: usize) {
        let Some((key, fetch)) = self.inbox.fetches.at(slot) else { return };
        let UpstreamFetch::Group(request) = &mut fetch.wanted else { return };
        if request.poll_unused(&mut Context::from_waker(&fetch.waker)).is_ready() {
            self.inbox.end_fetch(key);
            self.machine.apply(Command::CancelFetch { fetch: key.into() });
        }
    }

    /// From now on it arrives like any other group.
    pub(crate) fn fetch_started(&mut self, fetch: Token, key: GroupKey) {
        let receiving = match self.inbox.end_fetch(fetch.into()).map(|fetch| fetch.wanted) {
            Some(UpstreamFetch::Group(request)) => {
                let track = request.track();
                request.accept().map(|group| IncomingGroup::new(track, group, None))
            }
            Some(UpstreamFetch::PartialGroup(partial)) => {
                let whole = !self.version.fetches_parts();
                let known = if whole { partial.first_frame() } else { 0 };
                Ok(IncomingGroup::resume(partial, known))
            }
            None => Err(Error::Cancelled),
        };
        match receiving {
            Ok(receiving) => self.inbox.groups.insert(key.into(), receiving),
            Err(error) => self.machine.apply(Command::StopGroup { group: key, error }),
        }
    }

    pub(crate) fn fetch_ended(&mut self, fetch: Token, result: Result<(), Error>) {
        match self.inbox.end_fetch(fetch.into()).map(|fetch| fetch.wanted) {
            Some(UpstreamFetch::Group(request)) => {
                request.reject(result.err().unwrap_or(Error::NotFound));
            }
            // Another session may have it.
            Some(UpstreamFetch::PartialGroup(partial)) => partial.hand_back(),
            None => {}
        }
    }

    // ---- groups for the peer -----------------------------------------------------------------

    /// A group that the peer requested is here.
    pub(crate) fn served_fetch_changed(&mut self, slot: usize) {
        let waker = |slot| self.ready.waker(ready_key(GROUP, slot as u32));
        // moq-transport has a code of its own for a range without objects, the one for groups that are too old.
        let no_group = if self.version.is_lite() { Error::NotFound } else { Error::Old };
        if let Some(command) = self.outbox.next_for_fetch(slot, no_group, waker) {
            if let Command::Refuse { error, .. } = &command {
                self.count_refusal(error);
            }
            self.machine.apply(command);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::machine::Token;
    use crate::{Instant, Server, Track, Version};

    #[test]
    fn a_track_that_comes_back_has_one_fetcher() {
        let (_session, mut driver) = Server::new().accept(Version::Lite06, Instant::ZERO);
        let tracks = ["video", "audio"].map(|name| Track::new(name).produce());
        for _ in 0..100 {
            for track in &tracks {
                driver.add_fetcher("live".into(), Token::default(), track.dynamic());
            }
        }
        assert_eq!(driver.inbox.fetchers.len(), 2);
    }
}
