//! [smoq](https://crates.io/crates/smoq) on a plain UDP socket: QUIC from
//! [quinn-proto](https://crates.io/crates/quinn-proto), no async runtime and no thread of its own.
//!
//! One [`Endpoint`] is one socket with any number of connections, dialed and accepted. It is driven
//! in one of two ways:
//!
//! - [`Endpoint::step`] does the work that is ready, within a [`Budget`], and never waits: for a game
//!   loop, or any loop that has other things to do;
//! - [`Endpoint::run_until`] waits on the socket, the timers and the application (any thread that
//!   writes to a track wakes it), until a future is done. [`Endpoint::wait`] is that wait alone.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use smoq::{Client, Origin, Subscription, Track};
//! use smoq_blocking::{Budget, Endpoint, config, smoq_quic::Trust};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mine, theirs) = (Origin::default().produce(), Origin::default().produce());
//! let mut broadcast = mine.create_broadcast("player/alice")?;
//! let mut position = broadcast.create_track(Track::new("position"))?;
//! let client = Client::new().with_publish(mine.consume()).with_consume(theirs.clone());
//!
//! let tls = config::client(&Trust::WebRoots, client.versions())?;
//! let mut net = Endpoint::connect("moqt://game.example:4443", tls, &client)?;
//!
//! // Here the program may wait for the broadcast that it needs ...
//! let world = net.run_until(async { theirs.consume().announced_broadcast("world").await })?;
//! let world = world.ok_or("no world")?.subscribe_track("state", Subscription::default())?;
//! // ... and from here on it never waits.
//! for tick in 0_u64.. {
//!     net.step(Budget::time(Duration::from_micros(500)))?;
//!     if let Some(state) = world.latest_frame() {
//!         println!("{} bytes of world", state.len());
//!     }
//!     position.write_frame(tick, tick.to_be_bytes().to_vec())?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Sessions run on raw QUIC and on WebTransport over HTTP/3, so browsers can join, without an async runtime. A server
//! that [`config::server`] makes accepts both on one port; a client dials the carrier of its URL with
//! [`DialConfig::for_url`].
//!
//! With the feature `websocket` sessions run on WebSockets as well, in the same steps: `Endpoint::listen_web_socket` accepts
//! them, with TLS after `Endpoint::set_web_socket_tls`, and clients dial `ws://` and `wss://`, also as a fallback from QUIC
//! ([`DialConfig::or`]).
//!
//! [`Endpoint::reconnect`] keeps a client connected: it dials again within the steps.
//!
//! The crate is also an example of a complete adapter. Start at [`Endpoint::step`] in `endpoint.rs`.
//! `connection.rs` has the turn of one connection, and `socket.rs` sends and receives packets. `web_socket.rs` and the files
//! below it do the same for WebSockets.

mod connection;
mod dial_config;
mod dialing;
mod ending;
mod endpoint;
mod error;
mod event;
mod hosts;
mod http;
mod reconnect;
mod socket;
#[cfg(feature = "websocket")]
mod web_socket;

pub use dial_config::{DialConfig, HEAD_START};
pub use endpoint::{Budget, Endpoint, Step};
pub use error::{DialError, Error, Unreachable};
pub use event::{ConnectionId, Event, ReconnectId};
pub use quinn_proto;
pub use reconnect::BoxError;
pub use smoq_quic::{self, config};

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
