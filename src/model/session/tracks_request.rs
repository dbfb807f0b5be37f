//! Requests to be offered the tracks of the peer.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::shared::SessionShared;
use crate::machine::Token;
use crate::model::base::{WaitSlot, change, impl_debug, wait, wait_on};
use crate::{Error, Path};

/// Asks the peer to offer each track below a prefix, as long as the handle lives; see
/// [`Session::subscribe_tracks`](super::Session::subscribe_tracks). A handle does not keep its session open.
pub struct TracksRequest {
    session: Arc<SessionShared>,
    request: Token,
    prefix: Path,
    slot: WaitSlot,
    /// The reason that was returned.
    ended: Option<Error>,
}

impl TracksRequest {
    pub(crate) fn new(session: Arc<SessionShared>, request: Token, prefix: Path) -> Self {
        Self { session, request, prefix, slot: WaitSlot::default(), ended: None }
    }

    /// The prefix of the broadcasts, as it was passed to
    /// [`Session::subscribe_tracks`](super::Session::subscribe_tracks).
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn wait_ended(&mut self, waker: Option<&Waker>) -> Poll<Error> {
        let Self { session, request, slot, ended, .. } = self;
        if let Some(error) = ended {
            return Poll::Ready(error.clone());
        }
        let reason = wait_on(
            &session.state,
            waker,
            slot,
            |state| &mut state.tracks_waiters,
            |state| {
                let ended = state.tracks.get((*request).into()).and_then(Option::as_ref);
                let ended = ended.or(state.closed.as_ref());
                ended.map_or(Poll::Pending, |error| Poll::Ready(error.clone()))
            },
        );
        reason.map(|error| ended.insert(error).clone())
    }

    wait! {
        /// Waits for the end of the request, and returns the reason. The peer offers no more tracks then. Those that it
        /// offered stay, and the session goes on.
        ///
        /// - [`Error::Unsupported`]: the version (moq-lite) or the peer has no such request.
        /// - [`Error::Duplicate`]: the prefix covers that of another request of this session, or is covered by it. On
        ///   moq-transport 16 and 17 the request for announcements, which is sent for each
        ///   [consumed](crate::Client::with_consume) prefix, counts as well for peers that take the drafts literally. A
        ///   handle that was dropped counts until the peer has read that.
        /// - [`Error::GoingAway`]: either side sent GOAWAY before the request was sent.
        /// - [`Error::Closed`]: the peer ended the request.
        /// - Otherwise the reason that the peer gave, or that of the end of the session. A redirect is not followed.
        wait_ended => poll_ended, ended, try_ended() -> Error
    }
}

impl Drop for TracksRequest {
    fn drop(&mut self) {
        let Self { session, request, slot, .. } = self;
        let _freed = change(&session.state, |state, _| state.tracks_waiters.free(slot));
        session.unsubscribe_tracks(*request);
    }
}

impl_debug! { TracksRequest, it => prefix: &it.prefix }
