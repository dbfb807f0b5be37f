//! The features of each version, and how its messages are read and written.

use bytes::BytesMut;

use crate::coding::cursor::Cursor;
use crate::coding::varint::Form;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};
use crate::version::Version;

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
    pub version_setup: bool,
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
    version_setup: false,
    setup: false,
    stream_count: false,
    subscribe_end: false,
    timestamps: false,
    track: false,
};

const LITE_01: Features =
    Features { announce_init: true, ok: OkForm::Priority, version_setup: true, ..NOT_LITE };

const LITE_02: Features = Features { ok: OkForm::Empty, ..LITE_01 };

const LITE_03: Features = Features {
    announce_init: false,
    group_bounds: true,
    hops: HopsForm::Count,
    ok: OkForm::Typed,
    ordered: true,
    probe: true,
    version_setup: false,
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
            _ => &NOT_LITE,
        }
    }

    /// Whether the answers on a Subscribe stream have a type, for [`frame_message`](super::frame_message).
    pub const fn typed_responses(&self) -> bool {
        matches!(self.ok, OkForm::Typed)
    }

    /// Reads a whole message. Bytes after its last field are an error.
    pub(super) fn read<'a, T>(
        &self,
        body: &'a [u8],
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        Cursor::of(body, self.form).whole(read)
    }

    /// Appends a whole message, see [`Writer::message`].
    pub(super) fn write(
        &self,
        out: &mut BytesMut,
        kind: Option<u64>,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        Writer::message(out, self.form, kind, write)
    }
}
