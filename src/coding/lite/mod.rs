//! moq-lite: its messages, and the differences between versions.
//!
//! Every message has `encode`, which appends the whole message (type, length, body), and `decode_body` for
//! a body that [`frame_message`] found. A field that a version can't carry has its default value on
//! decoding. On encoding it is refused if its absence would change the meaning.

mod announce;
mod features;
mod group;
mod session;
mod setup;
mod stream;
mod subscribe;
mod track;
mod version_setup;

pub use announce::{Announce, AnnounceInit, AnnounceOk, AnnounceRequest, Base, Bases};
pub use features::{Features, HopsForm, OkForm};
pub use group::{DatagramHead, FrameHead, GroupHeader};
pub use session::{Goaway, Probe, SessionUpdate};
pub use setup::Setup;
pub use stream::{BiStream, Framed, HEAD_BYTES, UniStream, frame_message};
pub use subscribe::{Subscribe, SubscribeResponse, SubscribeUpdate};
pub use track::{Fetch, TrackRequest, decode_track_info, encode_track_info};
pub use version_setup::{ClientSetup, ServerSetup, frame_version_setup};
