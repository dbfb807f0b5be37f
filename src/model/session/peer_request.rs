//! Decisions of the application on single requests of a peer.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use crate::machine::RequestKey;
use crate::model::base::sync::Mutex;
use crate::model::base::{impl_debug, lock};
use crate::{AuthToken, Error, Path};

/// The subject of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerRequestKind {
    /// To subscribe to a track, or to accept one that was offered.
    Subscribe,
    /// To fetch groups of a track.
    Fetch,
    /// To be told what a track is.
    Query,
    /// To publish a track (moq-transport, PUBLISH).
    Publish,
    /// To announce a broadcast. On moq-transport it may be a request with tokens (PUBLISH_NAMESPACE), the answer to a
    /// request of this side, or both; then each of them is decided on.
    Announce,
    /// To be told the broadcasts below a path.
    Announcements,
    /// To be offered the tracks of the broadcasts below a path (moq-transport: SUBSCRIBE_TRACKS, 18 and later;
    /// SUBSCRIBE_NAMESPACE before). Each track that it accepts is a [`Subscribe`](Self::Subscribe), on which there is a
    /// decision as well. On 16 and 17 it may be a request for announcements at the same time, and on 14 and 15 each request
    /// for announcements is one for tracks (except of the peers of moq-dev, which want no tracks with them): a refusal
    /// refuses both.
    Tracks,
}

/// A request of a peer that waits for the decision of the application, see
/// [`IncomingSession::with_decisions`](crate::IncomingSession::with_decisions). If it is dropped, the request is refused
/// with [`Error::Unauthorized`].
///
/// A request that the peer gave up counts in [`Limits::requests`](crate::Limits::requests) until it is decided on or
/// dropped.
pub struct PeerRequest {
    kind: PeerRequestKind,
    path: Path,
    track: Box<str>,
    tokens: Vec<AuthToken>,
    asked: Asked,
    answers: Arc<Answers>,
    is_decided: bool,
}

impl PeerRequest {
    pub(crate) fn new(
        kind: PeerRequestKind,
        path: Path,
        track: Box<str>,
        tokens: Vec<AuthToken>,
        asked: Asked,
        answers: Arc<Answers>,
    ) -> Self {
        Self { kind, path, track, tokens, asked, answers, is_decided: false }
    }

    /// The subject of the request.
    pub fn kind(&self) -> PeerRequestKind {
        self.kind
    }

    /// The broadcast, or the prefix of announcements, below the root that the session was granted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the track; empty for a broadcast and for announcements.
    pub fn track(&self) -> &str {
        &self.track
    }

    /// The authorization tokens of the request (moq-transport). On moq-lite requests have none.
    pub fn tokens(&self) -> &[AuthToken] {
        &self.tokens
    }

    /// Lets the request be served, as without a decision.
    pub fn accept(mut self) {
        self.decide(Ok(()));
    }

    /// Refuses the request with the [code](Error::stream_code) of `error`. moq-lite has no code for
    /// [`Error::Unauthorized`], which arrives as [`Error::SessionClosed`] there. [`Error::App`] arrives as it is.
    pub fn reject(mut self, error: Error) {
        self.decide(Err(error));
    }

    fn decide(&mut self, answer: Result<(), Error>) {
        if !mem::replace(&mut self.is_decided, true) {
            lock(&self.answers.list).push((self.asked.clone(), answer));
            self.answers.driver.wake_by_ref();
        }
    }
}

impl Drop for PeerRequest {
    fn drop(&mut self) {
        self.decide(Err(Error::Unauthorized));
    }
}

impl_debug! { PeerRequest, it => kind: &it.kind, path: &it.path, track: &it.track }

/// A request that the application decides on.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Request(RequestKey),
    /// A broadcast that was announced without a request. The number tells announcements of a path apart.
    Broadcast(Path, u64),
}

/// Answers that the driver has not seen.
#[derive(Debug)]
pub(crate) struct Answers {
    list: Mutex<Vec<(Asked, Result<(), Error>)>>,
    /// Wakes the driver.
    driver: Waker,
}

impl Answers {
    pub(crate) fn new(driver: Waker) -> Arc<Self> {
        Arc::new(Self { list: Mutex::default(), driver })
    }

    /// How many requests there are that the application has not decided on.
    pub(crate) fn held(self: &Arc<Self>) -> usize {
        // Each has a handle, and the driver has one.
        Arc::strong_count(self) - 1
    }

    pub(crate) fn take(&self) -> Vec<(Asked, Result<(), Error>)> {
        mem::take(&mut lock(&self.list))
    }
}

/// The function of the application that decides.
#[derive(Clone)]
pub(crate) struct Decide(pub(crate) Arc<dyn Fn(PeerRequest) + Send + Sync>);

impl fmt::Debug for Decide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decide")
    }
}
