//! FETCH, between the machine and the model: of groups that are asked of a track of the peer, and of
//! groups that the peer asks for.

use std::task::{Context, Poll};

use super::inbox::{OutgoingFetch, TrackFetcher};
use super::incoming_group::IncomingGroup;
use super::{Driver, FETCH, GROUP, PAST, ready_key};
use crate::machine::{Command, GroupKey, Token};
use crate::model::Result;
use crate::model::cache::{TrackDynamic, UpstreamFetch};
use crate::{Error, Path};

impl Driver {
    // ---- groups of the peer ------------------------------------------------------------------

    /// Answers for past groups of a track of the peer, as long as there may be somebody who asks.
    pub(crate) fn supply_past(&mut self, broadcast: Path, of: Token, dynamic: TrackDynamic) {
        // It may have come from here before, until there was a better way.
        let track = dynamic.track_id();
        let known = self.inbox.past_tracks.get(&track).copied();
        if let Some(past) = known.and_then(|key| self.inbox.pasts.get_mut(key)) {
            past.of = of;
            return;
        }
        let waker = |slot| self.ready.waker(ready_key(PAST, slot));
        let past = |slot| TrackFetcher { dynamic, broadcast, of, waker: waker(slot) };
        let key = self.inbox.pasts.insert_with(past);
        self.inbox.past_tracks.insert(track, key);
        self.past_changed(key.0 as usize);
    }

    /// Somebody here may want a past group of a track of the peer, or nobody is left.
    pub(crate) fn past_changed(&mut self, slot: usize) {
        while let Some((key, past)) = self.inbox.pasts.at(slot) {
            let Poll::Ready(next) = past.dynamic.poll_supply(Some(&past.waker)) else {
                return;
            };
            let Some((wanted, priority)) = next else {
                let past = self.inbox.pasts.remove(key);
                past.inspect(|past| _ = self.inbox.past_tracks.remove(&past.dynamic.track_id()));
                return;
            };
            if self.inbox.remotes.get(past.of.into()).is_none() {
                // By its path another broadcast would be asked.
                match wanted {
                    UpstreamFetch::Group(request) => request.reject(Error::NotFound),
                    UpstreamFetch::PartialGroup(rest) => rest.leave(),
                }
                continue;
            }
            let (sequence, first_frame) = match &wanted {
                UpstreamFetch::Group(request) => (request.sequence(), 0),
                UpstreamFetch::PartialGroup(rest) if self.version.fetches_parts() => {
                    (rest.sequence(), rest.first_frame())
                }
                UpstreamFetch::PartialGroup(rest) => (rest.sequence(), 0),
            };
            let (broadcast, track) = (past.broadcast.clone(), past.dynamic.name().into());
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

    /// Those who wait for a group may have gone away.
    pub(crate) fn fetch_changed(&mut self, slot: usize) {
        let Some((key, fetch)) = self.inbox.fetches.at(slot) else { return };
        let UpstreamFetch::Group(request) = &mut fetch.wanted else { return };
        if request.poll_unused(&mut Context::from_waker(&fetch.waker)).is_ready() {
            self.inbox.end_fetch(key);
            self.machine.apply(Command::CancelFetch { fetch: key.into() });
        }
    }

    /// From now on it is a group like others.
    pub(crate) fn fetch_started(&mut self, fetch: Token, key: GroupKey) {
        let receiving = match self.inbox.end_fetch(fetch.into()).map(|fetch| fetch.wanted) {
            Some(UpstreamFetch::Group(request)) => {
                let track = request.track();
                request.accept().map(|group| IncomingGroup::new(key, track, group, None))
            }
            Some(UpstreamFetch::PartialGroup(rest)) => {
                let whole = !self.version.fetches_parts();
                let known = if whole { rest.first_frame() } else { 0 };
                Ok(IncomingGroup::resume(key, rest, known))
            }
            None => Err(Error::Cancelled),
        };
        match receiving {
            Ok(receiving) => self.inbox.begin(receiving),
            Err(error) => self.machine.apply(Command::StopGroup { group: key, error }),
        }
    }

    pub(crate) fn fetch_ended(&mut self, fetch: Token, result: Result<(), Error>) {
        match self.inbox.end_fetch(fetch.into()).map(|fetch| fetch.wanted) {
            Some(UpstreamFetch::Group(request)) => {
                request.reject(result.err().unwrap_or(Error::NotFound));
            }
            // Somebody else may have it.
            Some(UpstreamFetch::PartialGroup(rest)) => rest.leave(),
            None => {}
        }
    }

    // ---- groups for the peer -----------------------------------------------------------------

    /// A group that the peer asked for is here.
    pub(crate) fn answer_changed(&mut self, slot: usize) {
        let waker = |slot| self.ready.waker(ready_key(GROUP, slot as u32));
        if let Some(command) = self.outbox.next_answer(slot, waker) {
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
    fn a_track_that_comes_back_is_answered_for_once() {
        let (_session, mut driver) = Server::new().accept(Version::Lite06, Instant::ZERO);
        let tracks = ["video", "audio"].map(|name| Track::new(name).produce());
        for _ in 0..100 {
            for track in &tracks {
                driver.supply_past("live".into(), Token::default(), track.dynamic());
            }
        }
        assert_eq!(driver.inbox.pasts.len(), 2);
    }
}
