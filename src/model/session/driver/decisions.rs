//! Requests of the peer that wait for the decision of the application.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::{DECISION, Driver, ready_key};
use crate::census::census;
use crate::machine::{Event, RangeTarget, RequestKey};
use crate::model::session::peer_request::{Answers, Decide, PeerRequest, PeerRequestKind};
use crate::{AuthToken, Error, LimitKind};

/// The requests of a session whose application decides on each of them.
pub(crate) struct Decisions {
    decide: Decide,
    answers: Arc<Answers>,
    /// The requests that wait, by slot.
    waiting: BTreeMap<usize, (RequestKey, Event)>,
    /// The tokens of the request that comes next.
    tokens: Vec<AuthToken>,
    /// How many requests the application may hold.
    limit: usize,
}

impl Decisions {
    /// Lets the application decide on a request. Returns the event if there is nothing to decide.
    pub(super) fn ask(&mut self, mut event: Event) -> Option<Event> {
        let (request, kind, path, track) = match &mut event {
            Event::RequestTokens { tokens, .. } => {
                self.tokens = mem::take(tokens);
                return None;
            }
            Event::SubscribeUpdated { request, subscription } => {
                let waiting = self.waiting.get_mut(&request.slot());
                if let Some((_, Event::SubscribeRequested { subscription: asked, .. })) = waiting {
                    asked.clone_from(subscription);
                    return None;
                }
                return Some(event);
            }
            Event::RequestEnded { request, .. } => {
                self.waiting.remove(&request.slot());
                return Some(event);
            }
            Event::SubscribeRequested { request, broadcast, track, .. } => {
                (*request, PeerRequestKind::Subscribe, &*broadcast, track.clone())
            }
            Event::FetchRequested { request, broadcast, track, .. }
            | Event::RangeRequested {
                request,
                target: RangeTarget::Track { broadcast, track },
                ..
            } => (*request, PeerRequestKind::Fetch, &*broadcast, track.clone()),
            Event::TrackRequested { request, broadcast, track } => {
                (*request, PeerRequestKind::Query, &*broadcast, track.clone())
            }
            Event::TrackOffered { request, broadcast, track } => {
                (*request, PeerRequestKind::Publish, &*broadcast, track.clone())
            }
            Event::AnnounceRequested { request, prefix, .. } => {
                (*request, PeerRequestKind::Announcements, &*prefix, "".into())
            }
            _ => return Some(event),
        };
        let (path, tokens) = (path.clone(), mem::take(&mut self.tokens));
        let asked = PeerRequest::new(kind, path, track, tokens, request, self.answers.clone());
        self.waiting.insert(request.slot(), (request, event));
        // A request that the peer gave up is no longer in `waiting`, but the application may hold it.
        if self.answers.held() > self.limit {
            asked.reject(Error::Limit(LimitKind::PeerRequests));
        } else {
            (self.decide.0)(asked);
        }
        None
    }
}

impl Driver {
    pub(super) fn decide_with(&mut self, decide: Decide) {
        let answers = Answers::new(self.ready.waker(ready_key(DECISION, 0)));
        let (waiting, tokens) = Default::default();
        let limit = self.requests;
        self.decisions = Some(Box::new(Decisions { decide, answers, waiting, tokens, limit }));
    }

    /// The application decided on requests.
    pub(super) fn decided(&mut self) {
        let answers = self.decisions.as_ref().map(|decisions| decisions.answers.take());
        for (request, answer) in answers.into_iter().flatten() {
            let waiting = self.decisions.as_mut().map(|decisions| &mut decisions.waiting);
            let Some(waiting) = waiting else { return };
            // The peer may have given it up, and the slot may be that of another request.
            if waiting.get(&request.slot()).is_none_or(|(asked, _)| *asked != request) {
                continue;
            }
            match (waiting.remove(&request.slot()), answer) {
                (Some((_, event)), Ok(())) => self.act_on(event),
                (Some(_), Err(error)) => self.refuse(request, error),
                (None, _) => {}
            }
        }
    }
}

census! { Decisions { counts: waiting; plain: decide, answers, tokens, limit; } }
