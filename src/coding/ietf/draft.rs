//! What each draft has.

use crate::coding::varint::Form;
use crate::version::Version;

/// What a draft has: a row of the table. A message asks here, never for the version itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct Draft {
    /// How integers are written.
    pub varint: Form,
    /// A stream for each request, and SETUP on a unidirectional stream of each side, without a count
    /// of options (17+). Before, all is on one bidirectional stream: it begins with CLIENT_SETUP and
    /// SERVER_SETUP, replies name their request by its id, and MAX_REQUEST_ID bounds the ids.
    pub request_streams: bool,
    /// Values of message parameters are written by the type of the parameter (17+). Before, they are
    /// an integer if the parameter's id is even, and bytes if it is odd.
    pub typed_parameters: bool,
    /// A namespace may have no fields wherever there is one (17+). Before, only a prefix or suffix.
    pub empty_namespace: bool,
    /// SUBSCRIBE_NAMESPACE says what is wanted: [`Wanted`](super::Wanted) (16, 17).
    pub wanted: bool,
    /// The end of a range in a location filter is written as a difference (17+).
    pub filter_deltas: bool,
    /// REQUEST_ERROR can say where to go instead (18+).
    pub redirect: bool,
    /// REQUEST_OK ends with track properties (18+).
    pub ok_properties: bool,
    /// Track properties of the ids 0x4000 to 0x7fff must be understood (18+).
    pub mandatory_properties: bool,
    /// Whether to write track properties. All drafts here have them, but on 16 there are peers that
    /// fail on them: there they are for whoever knows the peer.
    pub write_properties: bool,
    /// GOAWAY says how long it gives (17+).
    pub goaway_timeout: bool,
    /// GOAWAY on a control stream says which requests were not processed (18).
    pub goaway_request: bool,
    /// Group and object in the answer to a fetch are written as differences (18+).
    pub fetch_deltas: bool,
    /// Bits that the type of a subgroup stream may have.
    pub subgroup_bits: u64,
    /// Streams of padding (18+).
    pub padding: bool,
    /// Numbers of errors, where they differ.
    pub(super) codes: Codes,
    /// Types of messages; of two numbers for one, the first is written.
    pub(super) messages: &'static [(u64, MessageType)],
    /// Ids of message parameters in ascending order, and the messages that may have them.
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

/// What a control message is.
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
    /// SUBSCRIBE_NAMESPACE as 16 and 17 have it, in a draft that has another form.
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
    /// The type with this number, if `draft` has it.
    pub fn from_u64(number: u64, draft: &Draft) -> Option<Self> {
        draft.messages.iter().find(|(id, _)| *id == number).map(|(_, kind)| *kind)
    }

    /// The number on the wire, if `draft` has one.
    pub fn number(self, draft: &Draft) -> Option<u64> {
        draft.messages.iter().find(|(_, kind)| *kind == self).map(|(id, _)| *id)
    }

    /// Whether the first field of the body is a request id.
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
        // Not in the draft, but sent by peers: a cancel.
        (0x0a, Unsubscribe),
        (0x0b, PublishDone),
        (0x0d, TrackStatus),
        (0x0e, NamespaceDone),
        (0x0f, PublishBlocked),
        (0x10, Goaway),
        // Not in the draft either, but what `moq-lite` 0.16 asks with.
        (0x11, FormerSubscribeNamespace),
        (0x16, Fetch),
        (0x18, FetchOk),
        (0x1d, Publish),
        // PUBLISH_OK: in the draft's table, but its text answers with REQUEST_OK.
        (0x1e, RequestOk),
        (0x50, SubscribeNamespace),
        (0x51, SubscribeTracks),
        (0x2f00, Setup),
    ],
    // REQUEST_OK also has what PUBLISH_OK had.
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
        // In SUBSCRIBE_OK only because some peers write it there.
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
    /// The row of `version`, `None` if that is no draft of moq-transport.
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
