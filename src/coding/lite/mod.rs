//! moq-lite: its messages, and the differences between versions.
//!
//! Every message has `encode`, which appends the whole message (type, length, body), and `decode_body` for
//! a body that [`frame_message`] found. A field that a version can't carry has its default value on
//! decoding. On encoding it is refused if its absence would change the meaning.

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

/// The features of one version. Messages depend on them, never on the version itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// Announcements may refer to an earlier one on the stream for a part that they share.
    pub announce_bases: bool,
    /// Announcements have a type, a number for later changes, and a cost.
    pub announce_ids: bool,
    /// ANNOUNCE_INIT, with all current broadcasts, precedes the first announcement.
    pub announce_init: bool,
    /// ANNOUNCE_OK, with the number of current broadcasts, precedes the first announcement.
    pub announce_ok: bool,
    /// There are datagrams, each of them a whole group of one frame.
    pub datagrams: bool,
    /// The announce request names a hop to exclude.
    pub exclude_hop: bool,
    /// Peers answer FETCH. It is defined in earlier versions but not answered.
    pub fetch: bool,
    /// The encoding of integers.
    pub form: Form,
    /// SUBSCRIBE, FETCH and GROUP name frames within a group, and Group Start is a minimum instead of an
    /// option.
    /// an option.
    pub frame_bounds: bool,
    /// There is GOAWAY.
    pub goaway: bool,
    /// SUBSCRIBE has a range of groups and a maximum age, and there is SUBSCRIBE_UPDATE.
    pub group_bounds: bool,
    /// The announce request says whether to include paths with a segment that begins with a dot.
    pub hidden: bool,
    /// How announcements carry hops.
    pub hops: HopsForm,
    /// Some peers send the number of the last group in END instead of the number after it.
    pub loose_end: bool,
    /// The form of SUBSCRIBE_OK.
    pub ok: OkForm,
    /// Some messages have an Ordered byte, which deployed peers ignore.
    pub ordered: bool,
    /// There are Probe and Fetch streams. For the latter see also `fetch`.
    pub probe: bool,
    /// PROBE reports the round-trip time.
    pub rtt: bool,
    /// CLIENT_SETUP and SERVER_SETUP on the client's first stream negotiate the version.
    pub settles: bool,
    /// Each side sends SETUP on a stream of its own.
    pub setup: bool,
    /// END carries the number of streams of the subscription.
    pub stream_count: bool,
    /// START and END answer a subscription. Before, it is SUBSCRIBE_OK.
    pub subscribe_end: bool,
    /// Frames carry timestamps.
    pub timestamps: bool,
    /// There are TRACK and TRACK_INFO.
    pub track: bool,
}

/// How announcements carry hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HopsForm {
    /// Not at all. There are none on decoding.
    Absent,
    /// Only as their number. All of them are unknown on decoding.
    Count,
    /// As ids. The sender is the last of them.
    WithSender,
    /// As ids, without the sender, which is in ANNOUNCE_OK.
    WithoutSender,
}

/// The form of SUBSCRIBE_OK, up to 04.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OkForm {
    /// Only the priority, without a type, since no other answer exists.
    Priority,
    /// An empty message without a type.
    Empty,
    /// All fields, with a type.
    Typed,
}

/// A version of the other dialect has none of these features.
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
    /// The features of `version`; none of them for a version of moq-transport.
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

    /// Whether the answers on a Subscribe stream have a type, for [`frame_message`].
    pub const fn typed_responses(&self) -> bool {
        matches!(self.ok, OkForm::Typed)
    }

    /// Reads a whole message. Bytes after its last field are an error.
    fn read<'a, T>(
        &self,
        body: &'a [u8],
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        Cursor::of(body, self.form).whole(read)
    }

    /// Appends a whole message, see [`Writer::message`].
    fn write(
        &self,
        out: &mut BytesMut,
        kind: Option<u64>,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        Writer::message(out, self.form, kind, write)
    }
}

/// The purpose of a bidirectional stream: the integer at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BiStream {
    /// An announce request, and the announcements that answer it.
    Announce = 1,
    /// A subscription.
    Subscribe = 2,
    /// One group, or a part of it.
    Fetch = 3,
    /// Reports about the path.
    Probe = 4,
    /// GOAWAY.
    Goaway = 5,
    /// The properties of a track.
    Track = 6,
}

impl BiStream {
    const ALL: [Self; 6] =
        [Self::Announce, Self::Subscribe, Self::Fetch, Self::Probe, Self::Goaway, Self::Track];

    /// The type with this number, `None` if `version` does not have it.
    pub fn from_u64(kind: u64, version: Version) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.as_u64() == kind && stream.is_in(version))
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self as u64
    }

    /// Whether `version` defines it. Opening an undefined type makes some peers close the session. FETCH is
    /// defined before peers answer it, see [`Features::fetch`].
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

/// The purpose of a unidirectional stream: the integer at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum UniStream {
    /// The frames of one group for one subscription.
    Group = 0,
    /// SETUP.
    Setup = 1,
}

impl UniStream {
    /// The type with this number, `None` if `version` does not have it.
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

/// The frame of a message at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Its type, if messages on the stream have one.
    pub kind: Option<u64>,
    /// Bytes before the body.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
}

/// The most bytes that two integers take, in every form.
pub const HEAD_BYTES: usize = 18;

/// Finds the length-prefixed message at `front`. The first [`HEAD_BYTES`] bytes are enough; `None` if more
/// are needed. `typed` messages begin with a type.
///
/// # Errors
///
/// [`DecodeError::TooLong`] for a body of more than `limit` bytes.
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

/// Fails for messages that the version does not have.
const fn decodable(in_version: bool) -> Result<(), DecodeError> {
    if in_version { Ok(()) } else { Err(DecodeError::NotInVersion) }
}
