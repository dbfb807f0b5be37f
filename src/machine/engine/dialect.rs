//! The trait that a dialect implements: reading and writing its messages.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::core::Core;
use super::fetches::{AnswerStream, FetchId, IncomingFetch, OutgoingFetch};
use super::incoming_subscriptions::IncomingSubscription;
use super::outgoing_subscriptions::OutgoingSubscription;
use super::recv_streams::GroupHeader;
use super::schedule::{DatagramForm, Place};
use crate::error::Error;
use crate::hop::Hop;
use crate::machine::command::Command;
use crate::machine::event::{Event, FramePosition, ObjectRun, RequestKey, Subgroup};
use crate::machine::layout::{Head, Layout};
use crate::machine::source::{Source, Token};
use crate::path::Path;
use crate::properties::Properties;
use crate::slab::Key;
use crate::subscription::{Subscription, TrackInfo};
use crate::time::{Instant, Timestamp};

/// The result of reading from a stream once.
pub(crate) enum Progress {
    /// An event to report; the stream may hold more.
    Event(Event),
    /// Something was done without an event; the stream may hold more.
    More,
    /// The stream has nothing until more bytes arrive.
    Wait,
}

impl Progress {
    /// A request of the peer ended with `error`.
    pub(crate) fn request_ended(key: Key, error: Error) -> Self {
        Self::Event(Event::RequestEnded { request: RequestKey::of(key), result: Err(error) })
    }
}

/// The differences between moq-lite and moq-transport. The modules beside this one call it. The
/// methods with a body belong to features that only one of them has: aliases that publishers choose,
/// answers to FETCH, reports of the network path, and track queries.
pub(crate) trait Dialect:
    GroupDialect + SubscribeDialect + PublishDialect + FetchDialect + RangeDialect
{
    // ---- set-up ------------------------------------------------------------------------------

    /// The application accepts the peer: sends what was held back, and goes on.
    fn accept(&mut self, core: &mut Core, hop: Hop, interests: Vec<Path>);

    // ---- reading -----------------------------------------------------------------------------

    /// Reads the type of a unidirectional stream, and the set-up.
    fn read_uni_stream(&mut self, core: &mut Core, key: Key) -> Progress;

    /// Reads the next message of a request.
    fn read_request(&mut self, core: &mut Core, key: Key) -> Progress;

    /// Reads a datagram. [`Progress::Wait`]: it is of no use; [`Progress::More`]: it waits for its subscription.
    fn read_datagram(&mut self, core: &mut Core, bytes: Bytes) -> Progress;

    // ---- writing -----------------------------------------------------------------------------

    /// Does what the application commands, for the commands that differ between dialects.
    fn apply(&mut self, core: &mut Core, command: Command);

    /// Writes what [`Source`] has for a request that QUIC can take bytes of.
    fn fill_request(&mut self, core: &mut Core, key: Key, source: &mut impl Source);

    /// The network path changed, or a report of it is due: reports it to a peer that asked.
    fn on_network_path(&mut self, _core: &mut Core) {}

    /// An announcement of the peer may be no echo of ours any more.
    fn on_echo_timeout(&mut self, _core: &mut Core) {}

    /// Sends GOAWAY, where the version has it. The session closes at `deadline`.
    fn write_goaway(&mut self, core: &mut Core, uri: Box<str>, deadline: Instant);

    // ---- ends --------------------------------------------------------------------------------

    /// Cancels the track query of this token, if there is one.
    fn cancel_query(&mut self, _core: &mut Core, _token: Token) {}

    /// Whether nothing of a request of ours was sent yet.
    fn is_unsent(&self, core: &Core, key: Key) -> bool;

    /// Resets and stops a request. Its key is free afterwards.
    fn cancel(&mut self, core: &mut Core, key: Key, error: &Error);

    /// Sends nothing more on a request. Its key is free when the peer's half is over too.
    fn finish(&mut self, core: &mut Core, key: Key);
}

/// The part of a [`Dialect`] that reads groups of the peer.
pub(crate) trait GroupDialect {
    /// Reads the header of a group. `None` if it has not arrived completely, or the stream was
    /// abandoned.
    fn read_group_header(
        &mut self,
        core: &mut Core,
        key: Key,
    ) -> Result<Option<GroupHeader>, Error>;

    /// Whether a subscription with this number, which is unknown now, may still become known. Not where
    /// the subscriber chooses the number: then a group with an unknown one is too late.
    fn may_become_known(&self, _number: u64) -> bool {
        false
    }

    /// Whether a fault in a group ends its subscription, and not the group alone.
    fn ends_track(&self, _error: &Error) -> bool {
        false
    }
}

/// The part of a [`Dialect`] that subscribes to tracks of the peer.
pub(crate) trait SubscribeDialect {
    /// Sends SUBSCRIBE for a track.
    fn subscribe(
        &mut self,
        core: &mut Core,
        token: Token,
        names: (Path, Box<str>),
        want: Subscription,
    ) -> Result<(), Error>;

    /// Tells the publisher what changed about a subscription.
    fn update_subscribe(&mut self, core: &mut Core, subscription: Key, want: Subscription);

    /// A subscription of ours is over: ends its requests.
    fn release_subscription(
        &mut self,
        core: &mut Core,
        subscription: &OutgoingSubscription,
        result: Result<(), &Error>,
    );
}

/// The part of a [`Dialect`] that serves subscriptions of the peer.
pub(crate) trait PublishDialect {
    /// Answers the peer's subscription. `largest`: the newest frame of the track.
    fn write_subscribe_ok(
        &mut self,
        core: &mut Core,
        key: Key,
        info: &TrackInfo,
        largest: Option<FramePosition>,
    );

    /// Stream type and header of a group, or of one of its subgroups; `None` if it can't be written, or the peer would
    /// drop it.
    fn group_head(
        &self,
        subscription: &IncomingSubscription,
        sequence: u64,
        first_frame: u64,
        subgroup: Option<Subgroup>,
    ) -> Option<Head>;

    /// Whether groups can go as datagrams.
    fn has_datagrams(&self) -> bool;

    /// Everything before the payload of a datagram, which has so many bytes; `None` if it can't be written. Of an object
    /// of moq-transport `place` has the [number](Subgroup::DATAGRAMS).
    fn datagram_head(
        &self,
        subscription: &IncomingSubscription,
        place: Place,
        form: DatagramForm,
        timestamp: Timestamp,
        properties: Option<&Properties>,
        size: usize,
    ) -> Option<Head>;

    /// All groups of the peer's subscription are out: writes its end, and FIN. `streams` counts the
    /// streams that it had.
    fn write_subscribe_end(&mut self, core: &mut Core, key: Key, end: u64, streams: u64);
}

/// The part of a [`Dialect`] that requests and serves single groups.
pub(crate) trait FetchDialect {
    /// Answers the peer's FETCH with a group of `frames` frames, if all of them are there; `ends_track`: there is
    /// none after it. `None` if the request is over.
    fn answer_fetch(
        &mut self,
        core: &mut Core,
        key: Key,
        fetch: &IncomingFetch,
        info: &TrackInfo,
        frames: Option<u64>,
        ends_track: bool,
    ) -> Option<AnswerStream>;

    /// Sends FETCH for a group of a track. Returns its request.
    fn fetch(
        &mut self,
        core: &mut Core,
        fetch: FetchId,
        names: (Path, Box<str>),
        wanted: &OutgoingFetch,
    ) -> Result<Key, Error>;

    /// The group that answers the peer's FETCH is out, up to this frame.
    fn on_fetch_sent(&mut self, _core: &mut Core, _key: Key, _end: u64) {}

    /// Requests the frames of a group before the first one on its stream. Returns `false` if that is not possible.
    fn fetch_head(&mut self, _core: &mut Core, _stream: Key, _header: &GroupHeader) -> bool {
        false
    }
}

/// The part of a [`Dialect`] that serves a FETCH of several groups.
pub(crate) trait RangeDialect {
    /// Answers the peer's FETCH of several groups, up to `end`.
    fn accept_range(
        &mut self,
        _core: &mut Core,
        _key: Key,
        _info: &TrackInfo,
        _end: FramePosition,
        _ends_track: bool,
    ) {
    }

    /// The bytes before these frames in the answer to a FETCH of several groups, or before its end, and how they are laid
    /// out. `gap`: objects that may exist are missing before. `None` if that can't be said.
    fn range_part(
        &mut self,
        _core: &mut Core,
        _key: Key,
        _run: Option<ObjectRun>,
        _gap: bool,
    ) -> Option<(Head, Layout)> {
        None
    }
}
