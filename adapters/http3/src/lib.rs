//! WebTransport over HTTP/3 (draft-ietf-webtrans-http3) for [smoq](https://crates.io/crates/smoq), as a state
//! machine without I/O: one [`WebTransport`] stands between a QUIC connection with the ALPN [`ALPN`] and a
//! [`smoq::Driver`].
//!
//! It exchanges SETTINGS and the CONNECT request, negotiates the version by the list of protocols
//! (`wt-available-protocols`, `wt-protocol`), recognizes the session's streams and datagrams by their heads, and
//! knows the capsules that end a session. Bytes of the session do not pass through it: once a stream is known, the
//! adapter reads and writes it as on a connection without HTTP/3. An adapter makes these calls:
//!
//! | on the connection | call |
//! |---|---|
//! | the peer opens a stream | [`opened`](WebTransport::opened) |
//! | a stream is readable and [`read_limit`](WebTransport::read_limit) is a number | read no more than that, and pass it to [`data`](WebTransport::data), [`finished`](WebTransport::finished) or [`cancelled`](WebTransport::cancelled) |
//! | ... and it is `None` | the stream is the session's: as without HTTP/3 |
//! | after each call | [`poll_action`](WebTransport::poll_action) and [`poll_event`](WebTransport::poll_event) until they return nothing |
//! | the session opens a stream | write [`stream_head`](WebTransport::stream_head) before its bytes |
//! | the session sends a datagram | [`datagram_head`](WebTransport::datagram_head) before its bytes |
//! | a datagram arrives | [`datagram`](WebTransport::datagram) |
//! | the session ends | [`close`](WebTransport::close), and the connection with [`connection_code`] |
//! | the peer closed the connection | [`connection_error`] |
//!
//! Codes of RESET_STREAM and STOP_SENDING are those of [`Code::to_http3`](smoq::stream::Code::to_http3), which smoq
//! uses without HTTP/3 as well.
//!
//! One session is allowed for each connection. Any further request is reset with H3_REQUEST_REJECTED, and the session
//! goes on. Sections of WebTransport over HTTP/3 are those of draft 13; SETTINGS are those of drafts 02 to 14.

mod codes;
mod connect_stream;
mod control_stream;
mod elements;
mod error;
mod request;
mod settings;
mod stream_head;
mod varint;
mod web_transport;

pub use codes::{connection_code, connection_error};
pub use error::Error;
pub use web_transport::{Action, EARLY_STREAMS, Event, HEADER_BYTES, WebTransport};

/// The ALPN identifier of HTTP/3 (RFC 9114, section 3.1).
pub const ALPN: &str = "h3";
