//! FETCH: one group, requested by its number (moq-lite-06, 5.1.3 and 7.16).
//!
//! The answer is the frames of the group on the same stream, without a header. The scheduling,
//! partial writes and limits are those of any other group: a publisher hands its send half to the
//! schedule, and a subscriber its receive half to the group streams.

use alloc::boxed::Box;

use super::roles::Role;
use super::session::Lite;
use crate::coding::lite::{BiStream, Fetch as Message};
use crate::error::Error;
use crate::machine::engine::{
    AnswerStream, Core, FetchDialect, FetchId, GroupOwner, GroupReader, IncomingFetch,
    OutgoingFetch, Progress, RangeDialect, fetching,
};
use crate::machine::event::{Event, GroupKey, RequestKey};
use crate::machine::layout::{HeadReader, Layout};
use crate::machine::run::FrameRange;
use crate::machine::source::Token;
use crate::path::Path;
use crate::slab::Key;
use crate::subscription::TrackInfo;

impl FetchDialect for Lite {
    fn answer_fetch(
        &mut self,
        core: &mut Core,
        key: Key,
        _: &IncomingFetch,
        _: &TrackInfo,
        _: Option<u64>,
        _: bool,
    ) -> Option<AnswerStream> {
        core.requests.detach_send(key).map(AnswerStream::Request)
    }

    fn fetch(
        &mut self,
        core: &mut Core,
        fetch: FetchId,
        (broadcast, track): (Path, Box<str>),
        wanted: &OutgoingFetch,
    ) -> Result<Key, Error> {
        // 03 and 04 define FETCH, and the deployed publishers do not serve it.
        let FetchId::Token(token) = fetch else { return Err(Error::Unsupported) };
        if !self.features.fetch {
            return Err(Error::Unsupported);
        }
        let FrameRange { first: frame_start, last: frame_end, .. } = wanted.range;
        let (priority, group) = (wanted.priority, wanted.sequence);
        let message = Message { broadcast, track, priority, group, frame_start, frame_end };
        let request =
            self.open(core, BiStream::Fetch, |out, version| message.encode(out, version))?;
        self.set_role(request, Role::OutgoingFetch(token));
        Ok(request)
    }
}

// It has no such FETCH.
impl RangeDialect for Lite {}

// ---- as publisher ----------------------------------------------------------------------------

impl Lite {
    /// FETCH of the peer.
    pub(super) fn on_fetch(&mut self, core: &mut Core, key: Key, message: Message) -> Progress {
        let Message { broadcast, track, priority, group, frame_start, frame_end } = message;
        let range = FrameRange::new(frame_start, frame_end);
        // The frame range is kept here and not at the application: the schedule sends nothing outside of it.
        core.incoming_fetches
            .insert(key, IncomingFetch { priority, sequence: group, range, several: None });
        self.set_role(key, Role::IncomingFetch);
        Progress::Event(Event::FetchRequested {
            request: RequestKey::of(key),
            broadcast,
            track,
            priority,
            sequence: group,
            first_frame: frame_start,
            last_frame: frame_end,
            tokens: Default::default(),
        })
    }

    /// The requester keeps its half open until the answer is complete. Its FIN alone is tolerated,
    /// because the draft allows it; more bytes are malformed, and a reset cancels the request.
    pub(super) fn read_incoming_fetch(&mut self, core: &mut Core, key: Key) -> Progress {
        match core.requests.get(key).and_then(|request| request.ended()) {
            Some(error) => self.end_incoming(core, key, error),
            None => Progress::Wait,
        }
    }
}

// ---- as subscriber ---------------------------------------------------------------------------

impl Lite {
    /// Waits for the answer, or for a reset that says why there is none. From its first byte on the
    /// answer is read as a group.
    pub(super) fn read_outgoing_fetch(
        &mut self,
        core: &mut Core,
        key: Key,
        token: Token,
    ) -> Progress {
        let Some(request) = core.requests.get(key) else { return Progress::Wait };
        let id = FetchId::Token(token);
        if let Some(code) = request.recv.reset() {
            fetching::end(self, core, id, Err(Error::from_stream_code(code)));
            return Progress::More;
        }
        // FIN without a byte is the answer of an empty group.
        if request.recv.len() == 0 && !request.recv.has_fin() {
            return Progress::Wait;
        }
        let Some(fetch) = core.outgoing_fetches.get_mut(&id) else { return Progress::Wait };
        let Some((stream, recv)) = core.requests.detach_recv(key) else { return Progress::Wait };
        // A publisher that can't serve all frames resets the stream (5.1.3), so that more frames than we
        // asked for are an error of the peer.
        let most = fetch.range.len();
        let heads = HeadReader::Frames(Layout::Lite(self.version));
        // From here on the group limits apply, and QUIC's flow control as for any group stream.
        let reading = GroupReader::new(GroupOwner::Fetch(id), fetch.priority, heads, most);
        let group = core.recv_streams.adopt(stream, recv, reading);
        fetch.group = Some(group);
        self.set_role(key, Role::DetachedFetch);
        let group = GroupKey::of(group);
        Progress::Event(Event::FetchStarted { fetch: token, group })
    }
}
