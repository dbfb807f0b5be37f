//! Requests of the peer that wait for the decision of the application.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::waiting_requests::update;
use super::{DECISION, Driver, ready_key};
use crate::census::census;
use crate::machine::{Event, RangeTarget, RequestKey};
use crate::model::session::peer_request::{Answers, Asked, Decide, PeerRequest, PeerRequestKind};
use crate::{AuthToken, Error, LimitKind, Path};

/// How many broadcasts may be allowed and not announced.
const MAX_UNUSED: usize = 64;

/// The requests of a session whose application decides on each of them.
pub(crate) struct Decisions {
    decide: Decide,
    answers: Arc<Answers>,
    /// The requests that wait, by slot.
    waiting: BTreeMap<usize, (RequestKey, Event)>,
    /// The broadcasts that the peer may announce.
    allowed: BTreeSet<Path>,
    /// The broadcasts that the peer announced without a request, and that are not allowed.
    announced: BTreeMap<Path, AnnouncedBroadcast>,
    /// The number of the last one.
    last: u64,
    /// How many requests the application may hold.
    limit: usize,
}

/// A broadcast that the peer announced, and that waits for the decision or was refused.
struct AnnouncedBroadcast {
    /// Its number. A path may be announced again before an older decision arrives.
    number: u64,
    /// The newest announcement.
    event: Event,
}

impl Decisions {
    /// Lets the application decide on a request. Returns the event if there is nothing to decide.
    pub(super) fn ask(&mut self, mut event: Event) -> Option<Event> {
        let (request, kind, path, track, tokens) = match &mut event {
            Event::SubscribeUpdated { request, subscription } => {
                let waiting = self.waiting.get_mut(&request.slot());
                if let Some((_, Event::SubscribeRequested { subscription: asked, .. })) = waiting {
                    update(asked, subscription);
                    return None;
                }
                return Some(event);
            }
            Event::Announced { path, .. } => {
                if self.allowed.contains(path) {
                    return Some(event);
                }
                let path = path.clone();
                if let Some(known) = self.announced.get_mut(&path) {
                    known.event = event;
                    return None;
                }
                self.last += 1;
                let announced = AnnouncedBroadcast { number: self.last, event };
                self.announced.insert(path.clone(), announced);
                let asked = Asked::Broadcast(path.clone(), self.last);
                self.let_decide(PeerRequestKind::Announce, path, "".into(), vec![], asked);
                return None;
            }
            // If it was not allowed, nobody knows of it.
            Event::Unannounced { path } => {
                self.allowed.remove(path);
                return self.announced.remove(path).is_none().then_some(event);
            }
            Event::RequestEnded { request, .. } => {
                self.waiting.remove(&request.slot());
                return Some(event);
            }
            Event::SubscribeRequested { request, broadcast, track, tokens, .. } => {
                (*request, PeerRequestKind::Subscribe, &*broadcast, track.clone(), tokens)
            }
            Event::FetchRequested { request, broadcast, track, tokens, .. }
            | Event::RangeRequested {
                request,
                target: RangeTarget::Track { broadcast, track },
                tokens,
                ..
            } => (*request, PeerRequestKind::Fetch, &*broadcast, track.clone(), tokens),
            Event::TrackRequested { request, broadcast, track, tokens } => {
                (*request, PeerRequestKind::Query, &*broadcast, track.clone(), tokens)
            }
            Event::TrackOffered { request, broadcast, track, tokens } => {
                (*request, PeerRequestKind::Publish, &*broadcast, track.clone(), tokens)
            }
            Event::BroadcastOffered { request, broadcast, tokens } => {
                (*request, PeerRequestKind::Announce, &*broadcast, "".into(), tokens)
            }
            Event::AnnounceRequested { request, prefix, tokens, .. } => {
                (*request, PeerRequestKind::Announcements, &*prefix, "".into(), tokens)
            }
            Event::TracksRequested { request, prefix, tokens, .. } => {
                (*request, PeerRequestKind::Tracks, &*prefix, "".into(), tokens)
            }
            _ => return Some(event),
        };
        let (path, tokens) = (path.clone(), mem::take(tokens));
        self.waiting.insert(request.slot(), (request, event));
        self.let_decide(kind, path, track, tokens, Asked::Request(request));
        None
    }

    fn let_decide(
        &self,
        kind: PeerRequestKind,
        path: Path,
        track: Box<str>,
        tokens: Vec<AuthToken>,
        asked: Asked,
    ) {
        let asked = PeerRequest::new(kind, path, track, tokens, asked, self.answers.clone());
        // A request that the peer gave up is no longer in `waiting`, but the application may hold it.
        if self.answers.held() > self.limit + self.announced.len() {
            asked.reject(Error::Limit(LimitKind::Requests));
        } else {
            (self.decide.0)(asked);
        }
    }

    /// The event that waited for a decision. `None` if the peer has given it up. Then the slot may be that of another
    /// request.
    fn take(&mut self, asked: &Asked, answer: &Result<(), Error>) -> Option<Event> {
        match asked {
            Asked::Request(request) => {
                let (waiting, _) = self.waiting.get(&request.slot())?;
                let is_same = waiting == request;
                is_same.then(|| self.waiting.remove(&request.slot()))?.map(|(_, event)| event)
            }
            Asked::Broadcast(path, number) => {
                self.announced.get(path).filter(|announced| announced.number == *number)?;
                // One that was refused stays, so that the end of it is not reported.
                answer.as_ref().ok()?;
                self.announced.remove(path).map(|announced| announced.event)
            }
        }
    }
}

impl Driver {
    pub(super) fn decide_with(&mut self, decide: Decide) {
        let answers = Answers::new(self.ready.waker(ready_key(DECISION, 0)));
        let (waiting, allowed, announced, last) = Default::default();
        let limit = self.requests;
        let decisions = Decisions { decide, answers, waiting, allowed, announced, last, limit };
        self.decisions = Some(Box::new(decisions));
    }

    /// The application decided on requests.
    pub(super) fn decided(&mut self) {
        let answers = self.decisions.as_ref().map(|decisions| decisions.answers.take());
        for (asked, answer) in answers.into_iter().flatten() {
            let Some(decisions) = &mut self.decisions else { return };
            let Some(event) = decisions.take(&asked, &answer) else { continue };
            match (asked, answer) {
                (_, Ok(())) => {
                    self.allow(&event);
                    self.act_on(event);
                }
                (Asked::Request(request), Err(error)) => self.refuse(request, error),
                (Asked::Broadcast(..), Err(_)) => {}
            }
        }
    }

    /// The peer may announce a broadcast. It may have announced it without a request before.
    fn allow(&mut self, event: &Event) {
        let (Event::BroadcastOffered { broadcast: path, .. } | Event::Announced { path, .. }) =
            event
        else {
            return;
        };
        let Some(decisions) = &mut self.decisions else { return };
        // The machine may still refuse it, and tells nobody.
        let known = &self.inbox.broadcast_by_path;
        if decisions.allowed.len() > 2 * known.len() + MAX_UNUSED {
            decisions.allowed.retain(|path| known.contains_key(path));
        }
        decisions.allowed.insert(path.clone());
        if let Some(announced) = decisions.announced.remove(path) {
            self.act_on(announced.event);
        }
    }
}

census! { Decisions {
    counts: waiting, allowed, announced; plain: decide, answers, last, limit;
} }
