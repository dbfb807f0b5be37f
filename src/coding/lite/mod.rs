//! moq-lite: its messages, and what each version has of them.
//!
//! Every message has `encode`, which appends the whole message (type, length, body), and
//! `decode_body`, for the body that [`frame_message`] found. Fields that a version can't carry are
//! refused on encoding where leaving them out would change the meaning, and have their default on
//! decoding.

mod announce;
mod group;
mod session;
mod settle;
mod setup;
mod subscribe;
mod track;

use bytes::{BufMut, BytesMut};

use super::varint::Form;
use super::writer::{Writer, encodable};
use super::{Cursor, DecodeError, EncodeError};
use crate::version::Version;

pub use announce::{Announce, AnnounceInit, AnnounceOk, AnnounceRequest, Base, Bases};
pub use group::{DatagramHead, FrameHead, GroupHeader};
pub use session::{Goaway, Probe, SessionUpdate};
pub use settle::{ClientSetup, ServerSetup, frame_settle};
pub use setup::Setup;
pub use subscribe::{Subscribe, SubscribeResponse, SubscribeUpdate};
pub use track::{Fetch, TrackRequest, decode_track_info, encode_track_info};

/// What a version has. A message asks here, never for the version itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// Announcements may say what they share with an earlier one of the stream.
    pub announce_bases: bool,
    /// Announcements are typed, named by number when they change, and have a cost.
    pub announce_ids: bool,
    /// ANNOUNCE_INIT comes before the first announcement and has what there is already.
    pub announce_init: bool,
    /// ANNOUNCE_OK comes before the first announcement and says how many follow at once.
    pub announce_ok: bool,
    /// Datagrams, each with a whole group of one frame.
    pub datagrams: bool,
    /// The announce request says which hop to leave out.
    pub exclude_hop: bool,
    /// FETCH is answered; before, it is only defined.
    pub fetch: bool,
    /// How integers are written.
    pub form: Form,
    /// SUBSCRIBE, FETCH and GROUP say where in a group to start, and Group Start is a floor instead of
    /// an option.
    pub frame_bounds: bool,
    /// GOAWAY.
    pub goaway: bool,
    /// SUBSCRIBE says which groups are wanted and how old they may be, and there is SUBSCRIBE_UPDATE.
    pub group_bounds: bool,
    /// The announce request says whether paths with a segment that begins with a dot are wanted.
    pub hidden: bool,
    /// How hops are announced.
    pub hops: HopsForm,
    /// Some peers name the last group in END, not the number behind it.
    pub loose_end: bool,
    /// How SUBSCRIBE_OK is written.
    pub ok: OkForm,
    /// There is an Ordered byte, which the deployed peers ignore.
    pub ordered: bool,
    /// There are Probe streams, and Fetch streams, for which see `fetch` as well.
    pub probe: bool,
    /// PROBE reports the round-trip time.
    pub rtt: bool,
    /// CLIENT_SETUP and SERVER_SETUP on the client's first stream settle which version it is.
    pub settles: bool,
    /// Both sides begin with SETUP on a stream of its own.
    pub setup: bool,
    /// END says how many streams there were.
    pub stream_count: bool,
    /// A subscription is answered by START and END; before, by SUBSCRIBE_OK.
    pub subscribe_end: bool,
    /// Frames have timestamps.
    pub timestamps: bool,
    /// TRACK and TRACK_INFO.
    pub track: bool,
}

/// How the hops of an announcement are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HopsForm {
    /// Not at all; there are none on decoding.
    Absent,
    /// Only how many; all are unknown on decoding.
    Count,
    /// Their ids, and the sender is the last.
    WithSender,
    /// Their ids without the sender, which ANNOUNCE_OK names.
    WithoutSender,
}

/// How SUBSCRIBE_OK is written, up to 04.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OkForm {
    /// The priority, without a type: the one answer that there is.
    Priority,
    /// Nothing, without a type.
    Empty,
    /// All of it, with a type.
    Typed,
}

/// A version of another dialect has none of it.
const NOT_LITE: Features = Features {
    announce_bases: false,
    announce_ids: false,
    announce_init: false,
    announce_ok: false,
    datagrams: false,
    exclude_hop: false,
    fetch: false,
    form: Form::Quic,
    frame_bounds: false,
    goaway: false,
    group_bounds: false,
    hidden: false,
    hops: HopsForm::Absent,
    loose_end: false,
    ok: OkForm::Typed,
    ordered: false,
    probe: false,
    rtt: false,
    settles: false,
    setup: false,
    stream_count: false,
    subscribe_end: false,
    timestamps: false,
    track: false,
};

const LITE_01: Features =
    Features { announce_init: true, ok: OkForm::Priority, settles: true, ..NOT_LITE };

const LITE_02: Features = Features { ok: OkForm::Empty, ..LITE_01 };

const LITE_03: Features = Features {
    announce_init: false,
    group_bounds: true,
    hops: HopsForm::Count,
    ok: OkForm::Typed,
    ordered: true,
    probe: true,
    settles: false,
    ..LITE_02
};

const LITE_04: Features =
    Features { exclude_hop: true, goaway: true, hops: HopsForm::WithSender, rtt: true, ..LITE_03 };

const LITE_05: Features = Features {
    announce_ok: true,
    datagrams: true,
    fetch: true,
    hops: HopsForm::WithoutSender,
    loose_end: true,
    setup: true,
    subscribe_end: true,
    timestamps: true,
    track: true,
    ..LITE_04
};

const LITE_06: Features = Features {
    announce_ids: true,
    exclude_hop: false,
    frame_bounds: true,
    loose_end: false,
    ordered: false,
    ..LITE_05
};

const LITE_07: Features = Features {
    announce_bases: true,
    form: Form::LeadingOnes62,
    hidden: true,
    stream_count: true,
    ..LITE_06
};

impl Features {
    /// The row of `version`; that of a version of another dialect has nothing.
    pub const fn of(version: Version) -> &'static Self {
        match version {
            Version::Lite01 => &LITE_01,
            Version::Lite02 => &LITE_02,
            Version::Lite03 => &LITE_03,
            Version::Lite04 => &LITE_04,
            Version::Lite05 => &LITE_05,
            Version::Lite06 => &LITE_06,
            Version::Lite07Wip => &LITE_07,
            Version::Moqt16 | Version::Moqt18 => &NOT_LITE,
        }
    }

    /// Whether what the publisher says of a subscription has a type, as [`frame_message`] wants to know.
    pub const fn typed_responses(&self) -> bool {
        matches!(self.ok, OkForm::Typed)
    }

    /// Reads a whole message: all of `body`, and nothing behind it.
    fn read<'a, T>(
        &self,
        body: &'a [u8],
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        Cursor::of(body, self.form).whole(read)
    }

    /// Appends a whole message, as [`Writer::message`].
    fn write(
        &self,
        out: &mut BytesMut,
        kind: Option<u64>,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        Writer::message(out, self.form, kind, write)
    }
}

/// What a bidirectional stream is for: the integer that it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BiStream {
    /// An announce request, answered by announcements.
    Announce = 1,
    /// A subscription.
    Subscribe = 2,
    /// One group, or a part of it.
    Fetch = 3,
    /// Reports of what the path can carry.
    Probe = 4,
    /// GOAWAY.
    Goaway = 5,
    /// What a track is.
    Track = 6,
}

impl BiStream {
    const ALL: [Self; 6] =
        [Self::Announce, Self::Subscribe, Self::Fetch, Self::Probe, Self::Goaway, Self::Track];

    /// The type with this number, if `version` has it.
    pub fn from_u64(kind: u64, version: Version) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.as_u64() == kind && stream.is_in(version))
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self as u64
    }

    /// Whether `version` defines it. Opening a type that it does not have ends the session with some
    /// peers. FETCH is defined before it is answered, see [`Features::fetch`].
    pub const fn is_in(self, version: Version) -> bool {
        let features = Features::of(version);
        match self {
            Self::Announce | Self::Subscribe => true,
            Self::Fetch | Self::Probe => features.probe,
            Self::Goaway => features.goaway,
            Self::Track => features.track,
        }
    }

    /// Appends the number.
    pub fn encode(self, out: &mut BytesMut) {
        out.put_u8(self as u8);
    }
}

/// What a unidirectional stream is for: the integer that it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum UniStream {
    /// The frames of one group, for one subscription.
    Group = 0,
    /// SETUP.
    Setup = 1,
}

impl UniStream {
    /// The type with this number, if `version` has it.
    pub fn from_u64(kind: u64, version: Version) -> Option<Self> {
        [Self::Group, Self::Setup]
            .into_iter()
            .find(|stream| stream.as_u64() == kind && stream.is_in(version))
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self as u64
    }

    /// Whether `version` has it.
    pub const fn is_in(self, version: Version) -> bool {
        match self {
            Self::Group => true,
            Self::Setup => Features::of(version).setup,
        }
    }

    /// Appends the number.
    pub fn encode(self, out: &mut BytesMut) {
        out.put_u8(self as u8);
    }
}

/// Where a message lies at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Its type, if messages on this stream have one.
    pub kind: Option<u64>,
    /// Bytes before the body.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
}

/// Bytes that two integers take at most, in every form.
pub const HEAD_BYTES: usize = 18;

/// Finds the length-prefixed message at `front`, of which the first [`HEAD_BYTES`] are enough; `None`
/// if more are needed. `typed` messages begin with a type. A body of more than `limit` bytes is
/// [`DecodeError::TooLong`].
pub fn frame_message(
    front: &[u8],
    version: Version,
    typed: bool,
    limit: usize,
) -> Result<Option<Framed>, DecodeError> {
    let head = Cursor::of(front, Features::of(version).form).begin(|cursor| {
        let kind = if typed { Some(cursor.varint()?) } else { None };
        Ok((kind, cursor.varint()?))
    })?;
    let Some(((kind, body), head)) = head else { return Ok(None) };
    match usize::try_from(body) {
        Ok(body) if body <= limit => Ok(Some(Framed { kind, head, body })),
        _ => Err(DecodeError::TooLong),
    }
}

/// For messages that only some versions have.
const fn decodable(in_version: bool) -> Result<(), DecodeError> {
    if in_version { Ok(()) } else { Err(DecodeError::NotInVersion) }
}
