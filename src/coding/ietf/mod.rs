//! moq-transport, the drafts of the IETF: its messages and streams, and the differences between drafts.
//!
//! All differences between drafts are in one table: a row is a [`Draft`], found with [`Draft::of`] and
//! passed to every function here.
//!
//! - **Control messages**: [`frame_message`] finds one at the front of a stream and returns its
//!   [`MessageType`]. When its whole body has arrived, [`Message::decode`] reads it. [`request_id`] reads
//!   only the id of its request. [`Message::encode`] appends a whole message. The messages are plain
//!   values that are the same for all drafts. The request id of an answer is an `Option`: it is required
//!   up to 16; later it is not written, and read as `None`.
//! - **Data streams**: [`UniStream::read`] reads the header of a unidirectional stream. On a subgroup
//!   stream an [`ObjectHead`] precedes each payload, in the answer to a FETCH a record of
//!   [`FetchRecords`]. Both read from a short prefix of the data and return how many bytes they consumed.
//!   A [`DatagramHead`] precedes the payload of a datagram.
//! - **Error codes**: [`Draft::request_code`], [`Draft::done_code`], [`Draft::stream_code`],
//!   [`Draft::session_code`] and their inverses.
//!
//! Namespaces are [`Path`](crate::Path)s: `a/b` has the fields `a` and `b`. A slash or backslash inside a
//! field is escaped with a backslash. Higher priorities are more important, as everywhere in this crate;
//! on the wire it is the other way round.
//!
//! [`DecodeError::InvalidName`](super::DecodeError::InvalidName) concerns one message. Every other error
//! of a control message breaks the rules of the draft.

mod codes;
mod data;
mod datagram;
mod draft;
mod fetch;
mod fields;
mod filter;
mod inline;
mod message;
mod names;
mod namespace;
mod parameters;
mod properties;
mod publish;
mod quirks;
mod request;
mod session;
mod setup;
mod subscribe;
mod token;

pub(crate) use codes::{INVALID_AUTHORITY, INVALID_PATH};
pub use codes::{
    INVALID_FILTER, INVALID_JOINING_REQUEST_ID, INVALID_RANGE, MALFORMED_AUTH_TOKEN, NOT_SUPPORTED,
    PREFIX_OVERLAP, REDIRECT, SUBSCRIPTION_ENDED, TRACK_ENDED, UNINTERESTED,
    UNKNOWN_AUTH_TOKEN_ALIAS, UNSUPPORTED_EXTENSION, UPDATE_FAILED,
};
pub(crate) use data::PROPERTIES_OF_STATUS;
pub use data::{ObjectHead, ObjectStatus, SubgroupHeader, UniStream};
pub use datagram::DatagramHead;
pub use draft::{
    ControlStreams, Draft, ErrorForm, FetchForm, FilterForm, FinRule, GoawayForm, NamespaceForm,
    ParameterForm, PropertyForm, RecordForm, SetupForm,
};
pub use fetch::{Fetch, FetchEnd, FetchObject, FetchOk, FetchRecord, FetchRecords, FetchTarget};
pub use fields::{GroupOrder, HeadBytes, Location};
pub use filter::Filter;
pub use message::{Flow, Framed, Message, MessageType, frame_message, request_id};
pub use namespace::{
    NamespaceRequest, PublishNamespace, PublishNamespaceCancel, SubscribeNamespace, Wanted,
};
pub use parameters::Parameters;
pub use properties::TrackProperties;
pub(crate) use properties::{MALFORMED, MAX_BLOCK};
pub use publish::{Publish, PublishBlocked, PublishDone};
pub(crate) use quirks::DONE_BY_MOQ_LITE;
pub use request::{Redirect, RequestError, RequestOk, RequestUpdate};
pub use session::Goaway;
pub use setup::Setup;
pub(crate) use setup::{MALFORMED_AUTHORITY, MALFORMED_PATH};
pub use subscribe::{Subscribe, SubscribeOk, Unsubscribe};
pub(crate) use token::MALFORMED_VALUE;
pub use token::TokenReference;
