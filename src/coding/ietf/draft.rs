//! The table of drafts.

use crate::coding::varint::{self, Form};
use crate::version::Version;

/// A row of the table: the properties of one draft. Messages depend on a row, never on the version itself.
///
/// Each row is written as the difference to the row before it. The numbers of messages are in the table
/// of messages (`message.rs`), and their parameters in that of parameters (`parameters.rs`); both refer to [`Draft::number`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Draft {
    /// The number of the draft.
    pub number: u8,
    /// The encoding of integers. From 17 on it is not that of QUIC.
    pub varint: Form,
    /// The streams of control messages.
    pub control: ControlStreams,
    /// The body of the set-up messages.
    pub setup: SetupForm,
    /// How message parameters and key-value pairs are written.
    pub parameters: ParameterForm,
    /// LARGEST_OBJECT has a length (up to 16).
    pub(super) has_location_length: bool,
    /// How location filters are written.
    pub filter: FilterForm,
    /// The messages about namespaces.
    pub namespaces: NamespaceForm,
    /// The messages that refuse a request.
    pub errors: ErrorForm,
    /// Which messages carry properties of a track.
    pub properties: PropertyForm,
    /// How FETCH names its range, and whether ends are exclusive.
    pub fetch: FetchForm,
    /// The records in the answer to a FETCH.
    pub records: RecordForm,
    /// The fields of GOAWAY.
    pub goaway: GoawayForm,
    /// What FIN of the requester means on a request stream.
    pub fin: FinRule,
    /// A request carries the field Required Request ID Delta after its id (17).
    pub required_delta: bool,
    /// The bits that the type of a subgroup stream may have.
    pub subgroup_bits: u64,
    /// The types of datagrams, as a mask.
    pub datagram_types: u64,
    /// There are padding streams and datagrams (18+).
    pub padding: bool,
    /// The peer may limit the updates that wait for an answer (MAX_REQUEST_UPDATES, 19+).
    pub update_limit: bool,
    /// The number of streams in PUBLISH_DONE that stands for an unknown number.
    pub unknown_streams: u64,
    /// The error codes that differ between drafts.
    pub(super) codes: Codes,
}

/// The streams that carry control messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ControlStreams {
    /// One bidirectional stream carries everything. Answers name their request by its id, and
    /// MAX_REQUEST_ID bounds the ids (14, 15).
    Single,
    /// The same, but SUBSCRIBE_NAMESPACE has a bidirectional stream of its own (16).
    SingleAndNamespaces,
    /// Each request has a bidirectional stream of its own, and each side sends SETUP on a unidirectional one
    /// (17+).
    PerRequest,
}

/// The body of the set-up messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupForm {
    /// CLIENT_SETUP has a list of versions, SERVER_SETUP the one that was selected. Options follow, with
    /// their number (14).
    Versions,
    /// Options with their number (15, 16).
    Counted,
    /// Options to the end of the message (17+).
    ToTheEnd,
}

/// How message parameters are written, and key-value pairs with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParameterForm {
    /// Most parameters are fields of the messages. The others are as in [`Absolute`](Self::Absolute) (14).
    Inline,
    /// Types as they are; the parity of the type determines the encoding of the value. Unknown types are
    /// ignored (15).
    Absolute,
    /// Types as differences; unknown types are an error (16).
    Delta,
    /// Each type has an encoding of its own; types in the wrong message are an error as well (17+).
    Typed,
}

/// How a location filter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterForm {
    /// A tag and its fields. The end of a range is a number of a group (14–16).
    Absolute,
    /// The same, but the end of a range is a difference to its start (17–19).
    Delta,
    /// The number of fields determines the kind (20, 21).
    Fields,
    /// A tag and its fields, without a length (22).
    Typed,
}

/// The messages about namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamespaceForm {
    /// Announcements are PUBLISH_NAMESPACE. They end by name, and requests for them by prefix (14).
    Prefix,
    /// The same, but requests end by their id (15).
    Id,
    /// Announcements on request are NAMESPACE. The request has Subscribe Options (16, 17).
    Options,
    /// SUBSCRIBE_TRACKS takes the place of the options (18+).
    Plain,
}

/// The messages that refuse a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorForm {
    /// Each kind of request has an error message of its own, with codes of its own (14).
    PerRequest,
    /// REQUEST_ERROR (15).
    Shared,
    /// REQUEST_ERROR with a retry interval (16, 17).
    Retry,
    /// REQUEST_ERROR may also carry a redirect (18+).
    Redirect,
}

/// Which messages carry properties of a track at their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PropertyForm {
    /// None (14, 15).
    None,
    /// SUBSCRIBE_OK, PUBLISH and FETCH_OK. They are only read: some deployed peers fail on them (16).
    ReadOnly,
    /// The same, written as well (17).
    Tracks,
    /// REQUEST_OK too, and there are types that a receiver must understand (18+).
    Answers,
}

/// How FETCH names its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchForm {
    /// As a range or relative to a subscription. The end is exclusive (up to 19).
    Target,
    /// By a location filter. The end is inclusive (20+).
    Filter,
}

/// The records in the answer to a FETCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordForm {
    /// All fields, and a status where there is no payload (14).
    Fixed,
    /// Flags of one byte, and a status (15).
    Byte,
    /// Flags, and no status (16, 17).
    Flags,
    /// The same, with groups and objects as differences (18, 19).
    Deltas,
    /// The same, and an end of a range that timed out (20+).
    TimedOut,
}

/// The fields of GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GoawayForm {
    /// A URI (14–16).
    Uri,
    /// A URI and a timeout (17, and 19 on).
    Timeout,
    /// On a control stream also the first request that was not processed (18).
    Request,
}

/// What FIN of the requester means on a request stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinRule {
    /// It cancels requests for announcements (up to 18).
    Cancels,
    /// No update follows (19+).
    Graceful,
}

const MOQT_14: Draft = Draft {
    number: 14,
    varint: Form::Quic,
    control: ControlStreams::Single,
    setup: SetupForm::Versions,
    parameters: ParameterForm::Inline,
    has_location_length: true,
    filter: FilterForm::Absolute,
    namespaces: NamespaceForm::Prefix,
    errors: ErrorForm::PerRequest,
    properties: PropertyForm::None,
    fetch: FetchForm::Target,
    records: RecordForm::Fixed,
    goaway: GoawayForm::Uri,
    fin: FinRule::Cancels,
    required_delta: false,
    subgroup_bits: 0x1f,
    datagram_types: 0x3_0000_00ff,
    padding: false,
    update_limit: false,
    unknown_streams: varint::MAX,
    codes: Codes {
        excessive_load: None,
        going_away: None,
        duplicate_subscription: None,
        malformed_track: None,
        done_expired: 0x5,
        done_too_far_behind: 0x6,
        done_malformed_track: 0x7,
        reset_going_away: None,
        reset_too_far_behind: None,
        too_many_requests: true,
    },
};

const MOQT_15: Draft = Draft {
    number: 15,
    setup: SetupForm::Counted,
    parameters: ParameterForm::Absolute,
    namespaces: NamespaceForm::Id,
    errors: ErrorForm::Shared,
    records: RecordForm::Byte,
    subgroup_bits: 0x3f,
    datagram_types: 0x3333_0000_ffff,
    ..MOQT_14
};

const MOQT_16: Draft = Draft {
    number: 16,
    control: ControlStreams::SingleAndNamespaces,
    parameters: ParameterForm::Delta,
    namespaces: NamespaceForm::Options,
    errors: ErrorForm::Retry,
    properties: PropertyForm::ReadOnly,
    records: RecordForm::Flags,
    codes: Codes {
        duplicate_subscription: Some(0x19),
        malformed_track: Some(0x12),
        done_malformed_track: 0x12,
        ..MOQT_15.codes
    },
    ..MOQT_15
};

pub(super) const MOQT_17: Draft = Draft {
    number: 17,
    varint: Form::LeadingOnes17,
    control: ControlStreams::PerRequest,
    setup: SetupForm::ToTheEnd,
    parameters: ParameterForm::Typed,
    has_location_length: false,
    filter: FilterForm::Delta,
    properties: PropertyForm::Tracks,
    goaway: GoawayForm::Timeout,
    required_delta: true,
    codes: Codes {
        excessive_load: Some(0x9),
        going_away: Some(0x6),
        reset_too_far_behind: Some(0x5),
        too_many_requests: false,
        ..MOQT_16.codes
    },
    ..MOQT_16
};

pub(super) const MOQT_18: Draft = Draft {
    number: 18,
    varint: Form::LeadingOnes,
    namespaces: NamespaceForm::Plain,
    errors: ErrorForm::Redirect,
    properties: PropertyForm::Answers,
    records: RecordForm::Deltas,
    goaway: GoawayForm::Request,
    required_delta: false,
    subgroup_bits: 0x7f,
    padding: true,
    codes: Codes {
        done_expired: 0x6,
        done_too_far_behind: 0x5,
        reset_going_away: Some(0x4),
        ..MOQT_17.codes
    },
    ..MOQT_17
};

pub(super) const MOQT_19: Draft = Draft {
    number: 19,
    goaway: GoawayForm::Timeout,
    fin: FinRule::Graceful,
    update_limit: true,
    codes: Codes { duplicate_subscription: None, ..MOQT_18.codes },
    ..MOQT_18
};

pub(super) const MOQT_20: Draft = Draft {
    number: 20,
    filter: FilterForm::Fields,
    fetch: FetchForm::Filter,
    records: RecordForm::TimedOut,
    unknown_streams: u64::MAX,
    ..MOQT_19
};

const MOQT_21: Draft = Draft { number: 21, ..MOQT_20 };

const MOQT_22: Draft = Draft { number: 22, filter: FilterForm::Typed, ..MOQT_21 };

/// Error codes that differ between drafts; `None` where a draft has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codes {
    /// EXCESSIVE_LOAD, in all registries except that of the session.
    pub(super) excessive_load: Option<u64>,
    /// GOING_AWAY in REQUEST_ERROR.
    pub(super) going_away: Option<u64>,
    /// DUPLICATE_SUBSCRIPTION in REQUEST_ERROR.
    pub(super) duplicate_subscription: Option<u64>,
    /// MALFORMED_TRACK in RESET_STREAM and STOP_SENDING.
    pub(super) malformed_track: Option<u64>,
    /// EXPIRED in PUBLISH_DONE.
    pub(super) done_expired: u64,
    /// TOO_FAR_BEHIND in PUBLISH_DONE.
    pub(super) done_too_far_behind: u64,
    /// MALFORMED_TRACK in PUBLISH_DONE.
    pub(super) done_malformed_track: u64,
    /// GOING_AWAY in RESET_STREAM and STOP_SENDING.
    pub(super) reset_going_away: Option<u64>,
    /// TOO_FAR_BEHIND in RESET_STREAM and STOP_SENDING.
    pub(super) reset_too_far_behind: Option<u64>,
    /// 0x7 closes a session with too many requests. It has another meaning on 17, and none later.
    pub(super) too_many_requests: bool,
}

impl Draft {
    /// The row of `version`, `None` for versions of moq-lite.
    pub const fn of(version: Version) -> Option<&'static Self> {
        Some(match version {
            Version::Moqt14 => &MOQT_14,
            Version::Moqt15 => &MOQT_15,
            Version::Moqt16 => &MOQT_16,
            Version::Moqt17 => &MOQT_17,
            Version::Moqt18 => &MOQT_18,
            Version::Moqt19 => &MOQT_19,
            Version::Moqt20 => &MOQT_20,
            Version::Moqt21 => &MOQT_21,
            Version::Moqt22 => &MOQT_22,
            Version::Lite01
            | Version::Lite02
            | Version::Lite03
            | Version::Lite04
            | Version::Lite05
            | Version::Lite06
            | Version::Lite07Wip => return None,
        })
    }

    /// Whether each request has a stream of its own (17+).
    pub fn has_request_streams(&self) -> bool {
        self.control == ControlStreams::PerRequest
    }

    /// Whether track properties are written. A caller that knows its peer may write them on 16 all the same.
    pub fn writes_properties(&self) -> bool {
        self.properties >= PropertyForm::Tracks
    }

    /// Whether types of key-value pairs are written as differences (16+).
    pub(super) fn has_type_deltas(&self) -> bool {
        self.parameters >= ParameterForm::Delta
    }

    /// Whether the type of a parameter determines the encoding of its value (17+).
    pub(super) fn has_typed_parameters(&self) -> bool {
        self.parameters == ParameterForm::Typed
    }
}
