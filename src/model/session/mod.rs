//! Sessions: the driver of each connection, and the handles that applications have to it.

mod announce_senders;
mod close_reason;
mod driver;
mod endpoint;
mod estimates;
mod goaway;
mod handle;
mod http_request;
mod incoming_session;
mod log;
mod origins;
mod outbox;
mod peer_request;
mod probe;
mod retained;
mod setup;
mod shared;
mod stats;
mod tracks_request;

pub use close_reason::CloseReason;
pub use driver::Driver;
pub use endpoint::{Client, Server};
pub use goaway::Goaway;
pub use handle::Session;
pub use http_request::HttpRequest;
pub use incoming_session::IncomingSession;
pub use peer_request::{PeerRequest, PeerRequestKind};
pub use probe::Probe;
pub use retained::Retained;
pub use stats::{SessionGauges, SessionStats};
pub use tracks_request::TracksRequest;
