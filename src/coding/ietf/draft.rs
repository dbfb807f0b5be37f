//! The table of drafts.

use crate::coding::varint::Form;
use crate::version::Version;

/// A row of the table: the properties of one draft. Messages depend on a row, never on the version itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct Draft {
    /// The encoding of integers. From 17 on it is not that of QUIC.
    pub varint: Form,
    /// Each request has a stream of its own, and each side sends SETUP on a unidirectional stream, without
    /// a count of options (17+). Up to 16 everything is on one bidirectional stream: it begins with
    /// CLIENT_SETUP and SERVER_SETUP, answers name their request by its id, and MAX_REQUEST_ID bounds the
    /// ids.
    pub request_streams: bool,
    /// The type of a message parameter determines the encoding of its value (17+). Up to 16 the value is an
    /// integer if the type is even, and bytes if it is odd.
    pub typed_parameters: bool,
    /// Any namespace may have no fields (17+). Up to 16 only a prefix or suffix may.
    pub empty_namespace: bool,
    /// SUBSCRIBE_NAMESPACE has the field Subscribe Options, see [`Wanted`](super::Wanted) (16, 17).
    pub wanted: bool,
    /// The end of the range in a location filter is a difference to its start (17+).
    pub filter_deltas: bool,
    /// REQUEST_ERROR may carry a redirect (18+).
    pub redirect: bool,
    /// REQUEST_OK ends with track properties (18+).
    pub ok_properties: bool,
    /// A receiver must understand track properties with types 0x4000 to 0x7fff (18+).
    pub mandatory_properties: bool,
    /// Whether to write track properties. All drafts here have them, but some deployed peers of 16 fail on
    /// them. A caller that knows its peer may write them all the same.
    pub write_properties: bool,
    /// GOAWAY has a timeout (17+).
    pub goaway_timeout: bool,
    /// GOAWAY on a control stream names the first request that was not processed (18).
    pub goaway_request: bool,
    /// Group and object numbers in the answer to a FETCH are differences (18+).
    pub fetch_deltas: bool,
    /// The bits that the type of a subgroup stream may have.
    pub subgroup_bits: u64,
    /// There are padding streams and datagrams (18+).
    pub padding: bool,
    /// The error codes that differ between drafts.
    pub(super) codes: Codes,
    /// The message types. If one of them has two numbers, the first is written.
    pub(super) messages: &'static [(u64, MessageType)],
    /// The types of message parameters in ascending order, and the messages that may carry them.
    pub(super) parameters: &'static [(u64, Messages)],
}

/// A set of message types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Messages(u32);

impl Messages {
    const fn of(kinds: &[MessageType]) -> Self {
        let mut set = 0;
        let mut at = 0;
        while at < kinds.len() {
            set |= 1 << kinds[at] as u32;
            at += 1;
        }
        Self(set)
    }

    pub(super) const fn contains(self, kind: MessageType) -> bool {
        self.0 >> kind as u32 & 1 != 0
    }
}

/// The type of a control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the drafts' names in our spelling")]
pub enum MessageType {
    ClientSetup,
    ServerSetup,
    Setup,
    RequestUpdate,
    Subscribe,
    SubscribeOk,
    RequestError,
    PublishNamespace,
    RequestOk,
    Namespace,
    PublishNamespaceDone,
    Unsubscribe,
    PublishDone,
    PublishNamespaceCancel,
    TrackStatus,
    NamespaceDone,
    PublishBlocked,
    Goaway,
    SubscribeNamespace,
    /// SUBSCRIBE_NAMESPACE in the form of 16 and 17, on a later draft.
    FormerSubscribeNamespace,
    SubscribeTracks,
    MaxRequestId,
    Fetch,
    FetchCancel,
    FetchOk,
    RequestsBlocked,
    Publish,
    PublishOk,
}

use MessageType::{
    ClientSetup, Fetch, FetchCancel, FetchOk, FormerSubscribeNamespace, Goaway, MaxRequestId,
    Namespace, NamespaceDone, Publish, PublishBlocked, PublishDone, PublishNamespace,
    PublishNamespaceCancel, PublishNamespaceDone, PublishOk, RequestError, RequestOk,
    RequestUpdate, RequestsBlocked, ServerSetup, Setup, Subscribe, SubscribeNamespace, SubscribeOk,
    SubscribeTracks, TrackStatus, Unsubscribe,
};

impl MessageType {
    /// The type with this number, `None` if `draft` does not have it.
    pub fn from_u64(number: u64, draft: &Draft) -> Option<Self> {
        draft.messages.iter().find(|(id, _)| *id == number).map(|(_, kind)| *kind)
    }

    /// The number on the wire, `None` if `draft` does not have the type.
    pub fn number(self, draft: &Draft) -> Option<u64> {
        draft.messages.iter().find(|(_, kind)| *kind == self).map(|(id, _)| *id)
    }

    /// Whether the body begins with a request id. From 17 on answers have none, because the stream
    /// identifies the request.
    pub(super) const fn has_request_id(self, draft: &Draft) -> bool {
        match self {
            ClientSetup | ServerSetup | Setup | Goaway | MaxRequestId | RequestsBlocked
            | Namespace | NamespaceDone | PublishBlocked => false,
            RequestUpdate
            | Subscribe
            | PublishNamespace
            | TrackStatus
            | SubscribeNamespace
            | FormerSubscribeNamespace
            | SubscribeTracks
            | Fetch
            | Publish => true,
            SubscribeOk
            | RequestError
            | RequestOk
            | PublishNamespaceDone
            | Unsubscribe
            | PublishDone
            | PublishNamespaceCancel
            | FetchCancel
            | FetchOk
            | PublishOk => !draft.request_streams,
        }
    }
}

static MOQT_16: Draft = Draft {
    varint: Form::Quic,
    request_streams: false,
    typed_parameters: false,
    empty_namespace: false,
    wanted: true,
    filter_deltas: false,
    redirect: false,
    ok_properties: false,
    mandatory_properties: false,
    write_properties: false,
    goaway_timeout: false,
    goaway_request: false,
    fetch_deltas: false,
    subgroup_bits: 0x3f,
    padding: false,
    codes: Codes::MOQT_16,
    messages: &[
        (0x02, RequestUpdate),
        (0x03, Subscribe),
        (0x04, SubscribeOk),
        (0x05, RequestError),
        (0x06, PublishNamespace),
        (0x07, RequestOk),
        (0x08, Namespace),
        (0x09, PublishNamespaceDone),
        (0x0a, Unsubscribe),
        (0x0b, PublishDone),
        (0x0c, PublishNamespaceCancel),
        (0x0d, TrackStatus),
        (0x0e, NamespaceDone),
        (0x10, Goaway),
        (0x11, SubscribeNamespace),
        (0x15, MaxRequestId),
        (0x16, Fetch),
        (0x17, FetchCancel),
        (0x18, FetchOk),
        (0x1a, RequestsBlocked),
        (0x1d, Publish),
        (0x1e, PublishOk),
        (0x20, ClientSetup),
        (0x21, ServerSetup),
    ],
    parameters: &[
        (0x02, Messages::of(&[PublishOk, Subscribe, RequestUpdate])),
        (
            0x03,
            Messages::of(&[
                Publish,
                Subscribe,
                RequestUpdate,
                SubscribeNamespace,
                PublishNamespace,
                TrackStatus,
                Fetch,
            ]),
        ),
        (0x08, Messages::of(&[SubscribeOk, Publish, PublishOk, RequestOk])),
        (0x09, Messages::of(&[SubscribeOk, Publish, RequestOk])),
        (0x10, Messages::of(&[Subscribe, RequestUpdate, Publish, PublishOk, SubscribeNamespace])),
        (0x20, Messages::of(&[Subscribe, Fetch, RequestUpdate, PublishOk])),
        (0x21, Messages::of(&[Subscribe, PublishOk, RequestUpdate])),
        (0x22, Messages::of(&[Subscribe, PublishOk, Fetch])),
        (0x32, Messages::of(&[PublishOk, Subscribe, RequestUpdate])),
    ],
};

static MOQT_18: Draft = Draft {
    varint: Form::LeadingOnes,
    request_streams: true,
    typed_parameters: true,
    empty_namespace: true,
    wanted: false,
    filter_deltas: true,
    redirect: true,
    ok_properties: true,
    mandatory_properties: true,
    write_properties: true,
    goaway_timeout: true,
    goaway_request: true,
    fetch_deltas: true,
    subgroup_bits: 0x7f,
    padding: true,
    codes: Codes::MOQT_18,
    messages: &[
        (0x02, RequestUpdate),
        (0x03, Subscribe),
        (0x04, SubscribeOk),
        (0x05, RequestError),
        (0x06, PublishNamespace),
        (0x07, RequestOk),
        (0x08, Namespace),
        // Not part of the draft: some peers cancel with it.
        (0x0a, Unsubscribe),
        (0x0b, PublishDone),
        (0x0d, TrackStatus),
        (0x0e, NamespaceDone),
        (0x0f, PublishBlocked),
        (0x10, Goaway),
        // Not part of the draft: `moq-lite` 0.16 sends this form.
        (0x11, FormerSubscribeNamespace),
        (0x16, Fetch),
        (0x18, FetchOk),
        (0x1d, Publish),
        // PUBLISH_OK is in the draft's table of types, but its text answers PUBLISH with REQUEST_OK.
        (0x1e, RequestOk),
        (0x50, SubscribeNamespace),
        (0x51, SubscribeTracks),
        (0x2f00, Setup),
    ],
    // REQUEST_OK replaces PUBLISH_OK and carries its parameters.
    parameters: &[
        (0x02, Messages::of(&[RequestOk, Subscribe, RequestUpdate])),
        (
            0x03,
            Messages::of(&[
                Publish,
                Subscribe,
                RequestUpdate,
                SubscribeNamespace,
                FormerSubscribeNamespace,
                SubscribeTracks,
                PublishNamespace,
                TrackStatus,
                Fetch,
            ]),
        ),
        (0x04, Messages::of(&[Subscribe])),
        (0x06, Messages::of(&[RequestOk, Subscribe, RequestUpdate])),
        (0x08, Messages::of(&[SubscribeOk, Publish, RequestOk])),
        (0x09, Messages::of(&[SubscribeOk, Publish, RequestOk])),
        (0x0a, Messages::of(&[Fetch])),
        (0x10, Messages::of(&[Subscribe, RequestUpdate, Publish, RequestOk, SubscribeTracks])),
        (0x20, Messages::of(&[Subscribe, Fetch, RequestUpdate, RequestOk])),
        (0x21, Messages::of(&[Subscribe, RequestOk, RequestUpdate])),
        // The draft does not allow it in SUBSCRIBE_OK, but some peers write it there.
        (0x22, Messages::of(&[Subscribe, RequestOk, Fetch, SubscribeOk])),
        (0x32, Messages::of(&[RequestOk, Subscribe, RequestUpdate])),
        (0x34, Messages::of(&[RequestUpdate])),
    ],
};

/// Error codes that differ between drafts; `None` where a draft has none.
#[derive(Debug)]
pub(super) struct Codes {
    /// EXCESSIVE_LOAD, in all registries except that of the session.
    pub(super) excessive_load: Option<u64>,
    /// GOING_AWAY in REQUEST_ERROR.
    pub(super) request_going_away: Option<u64>,
    /// EXPIRED in PUBLISH_DONE.
    pub(super) done_expired: u64,
    /// TOO_FAR_BEHIND in PUBLISH_DONE.
    pub(super) done_too_far_behind: u64,
    /// GOING_AWAY in RESET_STREAM and STOP_SENDING.
    pub(super) reset_going_away: Option<u64>,
    /// TOO_FAR_BEHIND in RESET_STREAM and STOP_SENDING.
    pub(super) reset_too_far_behind: Option<u64>,
}

impl Codes {
    const MOQT_16: Self = Self {
        excessive_load: None,
        request_going_away: None,
        done_expired: 0x5,
        done_too_far_behind: 0x6,
        reset_going_away: None,
        reset_too_far_behind: None,
    };

    const MOQT_18: Self = Self {
        excessive_load: Some(0x9),
        request_going_away: Some(0x6),
        done_expired: 0x6,
        done_too_far_behind: 0x5,
        reset_going_away: Some(0x4),
        reset_too_far_behind: Some(0x5),
    };
}

impl Draft {
    /// The row of `version`, `None` for versions of moq-lite.
    pub const fn of(version: Version) -> Option<&'static Self> {
        match version {
            Version::Moqt16 => Some(&MOQT_16),
            Version::Moqt18 => Some(&MOQT_18),
            Version::Lite01
            | Version::Lite02
            | Version::Lite03
            | Version::Lite04
            | Version::Lite05
            | Version::Lite06
            | Version::Lite07Wip => None,
        }
    }
}
